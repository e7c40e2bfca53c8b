"""`embedcache store inspect`: what made a store's features, and what they tell of patients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json, StoreToRead

if TYPE_CHECKING:
    from embedcache.store.feature_set import FeatureSet, Run
    from embedcache.store.privacy import CohortExposure, Exposure, Reidentification

Privacy = Annotated[
    bool, typer.Option("--privacy", help="Say and measure what a recipient could learn.")
]


def inspect(store: StoreToRead, privacy: Privacy = False, json: Json = False) -> None:
    """Show contracts and runs of a store, or with --privacy what whoever gets it could learn.

    Example: embedcache store inspect store.zarr --privacy
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.store.privacy import exposure

    if not privacy:
        sets = store.feature_sets()
        if json:
            print_json(sets)
        else:
            _print_sets(sets)
        return
    with progress_bars() as progress:
        found = exposure(store, progress=progress)
    if json:
        print_json(found)
    else:
        _print_exposure(store.path.name, found)


def _print_sets(sets: tuple[FeatureSet, ...]) -> None:
    from embedcache.cli.show import print_json, print_table

    for one in sets:
        typer.echo(f"{one.name} {one.id}: contract")
        print_json(one.contract)
        columns = ("run", "when", "device", "python", "torch", ">failed", ">img/s")
        print_table("Runs", columns, [_run_cells(run) for run in one.runs])


def _run_cells(run: Run) -> tuple[str, ...]:
    made = run.provenance
    failed = sum(len(rows) for rows in run.failed.values())
    rate = "" if run.rate is None else f"{run.rate:,.1f}"
    torch = made.packages.get("torch", "")
    return (run.id, made.when, made.device, made.python, torch, f"{failed:,}", rate)


def _print_exposure(name: str, found: Exposure) -> None:
    from embedcache.cli.show import print_table

    typer.echo(
        f"{name} is pseudonymous, never anonymous: treat it as patient data. "
        f"Whoever receives it learns what follows."
    )
    for one in found.cohorts:
        _print_cohort(one)
    for mine, theirs, patients in found.shared_patients:
        typer.echo(f"{mine} and {theirs} share {patients:,} patients, which anyone can see.")
    columns = ("features", "cohort", ">images", ">same patient", ">by chance")
    rows = [
        (one.encoder, one.cohort, f"{one.asked:,} of {one.images:,}", *_shares(one))
        for one in found.reidentification
    ]
    print_table("How often an image's nearest neighbour is of its patient", columns, rows)


def _print_cohort(one: CohortExposure) -> None:
    from embedcache.cli.show import print_table

    digests = (
        "digests are keyed, and confirm nothing without the key"
        if one.keyed_digests
        else "digests confirm to anyone who has an image that it is in the store"
    )
    typer.echo(
        f"{one.name}: {one.images:,} images of {one.patients:,} patients under key {one.key_id}, "
        f"and which images are of one patient; {digests}. "
        f"The smallest group has {one.smallest_group:,} "
        f"{'patient' if one.smallest_group == 1 else 'patients'}."
    )
    groups = {"class": one.classes, **one.strata}
    rows = [
        (kind, value, f"{group.rows:,}", f"{group.patients:,}")
        for kind, values in groups.items()
        for value, group in values.items()
    ]
    print_table(f"{one.name}: groups", ("of", "value", ">rows", ">patients"), rows)


def _shares(one: Reidentification) -> tuple[str, str]:
    return _share(one.same_patient), _share(one.by_chance)


def _share(value: float | None) -> str:
    return "no patient has two" if value is None else f"{value:.1%}"
