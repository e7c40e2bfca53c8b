"""`embedcache shift`: how far apart the cohorts of a store lie for each encoder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json, Out, StoreToRead, split_commas

if TYPE_CHECKING:
    from embedcache.results.shift_file import Shift

StoredEncoders = Annotated[
    list[str] | None, typer.Option("--encoder", help="NAME or NAME#ID in the store; all if none.")
]
Seed = Annotated[int, typer.Option(help="Of the folds.")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Dask fits instead: a scheduler's ADDRESS, or local:N processes."),
]


def shift(
    store: StoreToRead,
    out: Out,
    encoder: StoredEncoders = None,
    seed: Seed = 0,
    scheduler: Scheduler = None,
    json: Json = False,
) -> None:
    """Measure feature-space shift: cohorts told apart, encoders compared, 2-D maps.

    Example: embedcache shift store.zarr --out results
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.executor import check_scheduler
    from embedcache.probing.shift import shift as measure

    if scheduler is not None:
        check_scheduler(scheduler)
    encoders = split_commas(encoder or [])
    with progress_bars() as progress:
        found = measure(
            store, out=out, encoders=encoders, seed=seed, scheduler=scheduler, progress=progress
        )
    if json:
        print_json(found)
        return
    _print(found)
    typer.echo(f"all numbers: {out / 'shift' / 'shift.json'}")


def _print(found: Shift) -> None:
    from embedcache.cli.show import print_table

    apart = [
        [
            one.encoder,
            f"{pair.first}, {pair.other}",
            f"{pair.first_images:,} + {pair.other_images:,}",
            pair.note if pair.auroc is None else f"{pair.auroc:.3f}",
        ]
        for one in found.encoders
        for pair in one.cohorts
    ]
    if apart:
        columns = ["encoder", "cohorts", ">images", ">AUROC"]
        print_table("Telling cohorts apart (.5: nothing does)", columns, apart)
    alike = [
        [
            pair.encoder,
            pair.other,
            pair.cohort or "all",
            f"{pair.cka:.3f}",
            _number(pair.cka_debiased),
        ]
        for pair in found.agreement
    ]
    if alike:
        columns = ["encoder", "other", "cohort", ">CKA", ">debiased"]
        print_table("Agreement of encoders (linear CKA)", columns, alike)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
