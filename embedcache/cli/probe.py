"""`embedcache probe`: fit probes on cached features and evaluate them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import DryRun, Json, Out, StoreToRead, split_commas
from embedcache.cli.protocol_flags import (
    Classes,
    External,
    Folds,
    LinksFile,
    ProtocolFile,
    Seed,
    Train,
    asked_protocol,
)

if TYPE_CHECKING:
    from embedcache.probing.efficiency import FewPlan
    from embedcache.probing.probe import Plan

StoredEncoders = Annotated[
    list[str] | None,
    typer.Option("--encoder", help="NAME or NAME#ID in the store; all finished ones if not given."),
]
Estimator = Annotated[str, typer.Option(help="How to learn from the features.")]
Workers = Annotated[str, typer.Option(help="auto, or how many processes fit.")]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Dask fits instead: a scheduler's ADDRESS, or local:N processes."),
]
Efficiency = Annotated[
    bool,
    typer.Option("--efficiency", help="Also fit on 1, 2, 5, 10, 20 … patients a class."),
]


def probe(
    store: StoreToRead,
    out: Out,
    train: Train = None,
    external: External = None,
    encoder: StoredEncoders = None,
    protocol: ProtocolFile = None,
    links: LinksFile = None,
    classes: Classes = None,
    folds: Folds = None,
    seed: Seed = None,
    estimator: Estimator = "linear-probe",
    workers: Workers = "auto",
    scheduler: Scheduler = None,
    efficiency: Efficiency = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Fit probes on cached features and evaluate them.

    Example: embedcache probe store.zarr --train spain --external africa --out results
    """
    # Rooms are imported when the command runs: --help needs none of them.
    from embedcache.cli.leaderboard import print_results
    from embedcache.cli.show import progress_bars
    from embedcache.evaluation.evaluate import evaluate
    from embedcache.probing.efficiency import label_efficiency, plan_efficiency
    from embedcache.probing.probe import plan_probe
    from embedcache.probing.probe import probe as fit_probes

    asked = asked_protocol(
        protocol,
        train=train,
        external=external,
        links=links,
        classes=classes,
        folds=folds,
        seed=seed,
    )
    encoders = _expanded(split_commas(encoder or []))
    number = _number(workers, scheduler)
    if efficiency and estimator != "linear-probe":
        raise typer.BadParameter("--efficiency is of the linear probe; leave --estimator away")
    if dry_run:
        plan = plan_probe(store, asked, out=out, encoders=encoders, estimator=estimator)
        few = plan_efficiency(store, asked, out=out, encoders=encoders) if efficiency else None
        _show_plan(plan, few, out, as_json=json)
        return
    with progress_bars() as progress:
        fit_probes(
            store,
            asked,
            out=out,
            encoders=encoders,
            estimator=estimator,
            workers=number,
            scheduler=scheduler,
            progress=progress,
        )
        if efficiency:
            label_efficiency(
                store,
                asked,
                out=out,
                encoders=encoders,
                workers=number,
                scheduler=scheduler,
                progress=progress,
            )
        rows = evaluate(out, progress=progress)
    print_results(out, rows, as_json=json)


def _expanded(words: tuple[str, ...]) -> tuple[str, ...]:
    """Put the seven where `@paper` stands, and say what that leaves open."""
    from embedcache.encoders.paper import NOTE, expand_paper, names_paper

    if names_paper(words):
        typer.echo(NOTE, err=True)
    return expand_paper(words)


def _number(workers: str, scheduler: str | None) -> int | None:
    if scheduler is not None:
        from embedcache.executor import check_scheduler

        check_scheduler(scheduler)
        if workers != "auto":
            raise typer.BadParameter("--scheduler says where models are fitted, --workers too")
    if workers == "auto":
        return None
    if not workers.isdecimal() or int(workers) == 0:
        raise typer.BadParameter(f"--workers is {workers!r}; give a number from 1, or auto")
    return int(workers)


def _show_plan(plan: Plan, few: FewPlan | None, out: Path, *, as_json: bool) -> None:
    from embedcache.cli.show import print_json, print_table

    missing = dict.fromkeys(plan.prepared.encoders, 0)
    for unit in plan.missing:
        missing[unit.encoder] += 1
    if as_json:
        cohorts = {cohort.name: cohort.images for cohort in plan.prepared.record.cohorts}
        draws = {} if few is None else {"draws": {"missing": len(few.missing), "found": few.found}}
        print_json({"missing": missing, "found": plan.found, "images": cohorts, **draws})
        return
    for note in plan.prepared.notes:
        typer.echo(note)
    rows = [[encoder, f"{count:,}"] for encoder, count in missing.items()]
    print_table(f"Models to be fitted for {out}", ["encoder", ">to fit"], rows)
    if few is not None:
        sizes = ", ".join(str(patients) for patients in few.patients)
        typer.echo(
            f"and {len(few.missing):,} draws of {sizes} patients a class, "
            f"{few.found:,} there already"
        )
    typer.echo(f"{len(plan.missing):,} to fit, {plan.found:,} there already; nothing was written")
