"""`embedcache extract`: bring a feature store up to date."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from embedcache.cli.arguments import Cohorts, DryRun, Encoders, Json, Store, split_commas

if TYPE_CHECKING:
    from embedcache.extraction.outcome import EncoderSummary, Extraction
    from embedcache.extraction.plan import Plan, PlannedEncoder

Device = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:1, mps; cuda:all, or several with commas.")
]
Precision = Annotated[str, typer.Option(help="fp32, or the variants bf16 and fp16.")]
BatchSize = Annotated[str, typer.Option(help="auto, or images a batch in a first run.")]
Workers = Annotated[str, typer.Option(help="auto, or how many threads read and decode.")]
Compile = Annotated[
    bool,
    typer.Option("--compile", help="Let torch.compile make the kernels; costs minutes first."),
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Dask encodes instead: a scheduler's ADDRESS, or local:N processes."),
]
AllowFailures = Annotated[
    bool, typer.Option("--allow-failures", help="Exit with 0 although images failed.")
]


def extract(
    store: Store,
    cohort: Cohorts,
    encoder: Encoders,
    device: Device = "auto",
    precision: Precision = "fp32",
    batch_size: BatchSize = "auto",
    workers: Workers = "auto",
    compile: Compile = False,
    scheduler: Scheduler = None,
    allow_failures: AllowFailures = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Encode whatever images the store lacks, once, for every encoder.

    Example: embedcache extract store.zarr --cohort spain=fetal-planes-db:FOLDER
    --encoder efficientnet-lite0,pixels
    """
    from embedcache.cli.show import progress_bars
    from embedcache.extraction.extract import extract as run
    from embedcache.extraction.plan import plan

    references = [_with_precision(name, precision) for name in split_commas(encoder)]
    with progress_bars() as progress:
        settings = {
            "device": device,
            "batch": _number("--batch-size", batch_size),
            "workers": _number("--workers", workers),
            "scheduler": scheduler,
            "progress": progress,
        }
        if dry_run:
            planned = plan(store, cohort, references, **settings)  # type: ignore[arg-type]  # a dict of mixed values
        else:
            done = run(store, cohort, references, compiled=compile, **settings)  # type: ignore[arg-type]  # as above
    if dry_run:
        _show_plan(planned, as_json=json)
        return
    _show(done, as_json=json)
    if done.failures and not allow_failures:
        raise typer.Exit(1)


def _with_precision(reference: str, precision: str) -> str:
    """`vit=FILE` with bf16 becomes `vit@bf16=FILE`."""
    if precision == "fp32":
        return reference
    name, equals, weights = reference.partition("=")
    return f"{name}@{precision}{equals}{weights}"


def _number(flag: str, given: str) -> int | None:
    if given == "auto":
        return None
    if not given.isdecimal() or int(given) == 0:
        raise typer.BadParameter(f"{flag} is {given!r}; give a number from 1, or auto")
    return int(given)


def _show_plan(planned: Plan, *, as_json: bool) -> None:
    from embedcache.cli.show import print_json, print_table, spoken

    if as_json:
        print_json(planned)
        return
    columns = ("encoder", "feature id", ">images", ">to encode", ">pass", ">to write")
    rows = [
        (
            _marked(one),
            one.feature_id,
            f"{one.images:,}",
            f"{one.missing:,}",
            str(one.in_pass or ""),
            f"{one.bytes / 1e6:,.1f} MB",
        )
        for one in planned.encoders
    ]
    print_table("Would run", columns, rows)
    for number, one_pass in enumerate(planned.passes, start=1):
        count = f"{len(one_pass.encoders)} encoders" if one_pass.encoders[1:] else "one encoder"
        typer.echo(
            f"pass {number}: {one_pass.images:,} images through {count}, "
            f"about {spoken(one_pass.seconds)}"
        )
    if planned.timed_on:
        _show_timed(planned)


def _show_timed(planned: Plan) -> None:
    """Say what was left out of account, if anything was: devices of one plan share its cores."""
    from embedcache.cli.show import spoken

    if planned.devices is None:
        typer.echo(f"timed on {planned.timed_on} of this machine alone: the plan asks no scheduler")
    elif planned.devices > 1:
        best = spoken(sum(one.seconds for one in planned.passes) / planned.devices)
        typer.echo(
            f"timed on {planned.timed_on} alone: {planned.devices} devices, each as fast, "
            f"take {best} at best"
        )


def _show(done: Extraction, *, as_json: bool) -> None:
    from embedcache.cli.show import print_json, print_table

    if as_json:
        print_json(_without_file_names(done))
        return
    columns = ("encoder", "feature id", ">images", ">cached", ">encoded", ">failed", ">img/s")
    rows = [
        (
            _marked(one),
            one.feature_id,
            f"{one.images:,}",
            f"{one.cached:,}",
            f"{one.encoded:,}",
            f"{one.failed:,}",
            f"{one.rate:,.1f}" if one.encoded else "",
        )
        for one in done.encoders
    ]
    print_table("Features", columns, rows)
    _show_passes(done)
    _show_failures(done)


def _marked(one: PlannedEncoder | EncoderSummary) -> str:
    return one.name + (" (RANDOM WEIGHTS)" if one.random_weights else "")


def _show_passes(done: Extraction) -> None:
    """What limits, and seconds by stage: summed over threads, so they may exceed the whole."""
    from embedcache.cli.show import print_table

    if not done.passes:
        return
    stages = ("read", "decode", "fit", "forward", "write", "wait")
    columns = ("pass", ">img/s", ">of bare forward", ">overhead", *(f">{name}" for name in stages))
    rows = []
    for number, one in enumerate(done.passes, start=1):
        seconds = one.throughput.stages
        waited = sum(spent for name, spent in seconds.items() if name.startswith("wait"))
        rows.append(
            (
                f"{number} ({one.throughput.beside})",
                f"{one.rate:,.1f}",
                f"{one.share:.0%}",
                f"{one.overhead:,.1f} ms",
                *(f"{seconds.get(name, 0.0):,.1f} s" for name in stages[:-1]),
                f"{waited:,.1f} s",
            )
        )
    print_table("Passes (encoders in each)", columns, rows)
    for number, one in enumerate(done.passes, start=1):
        if one.limit:
            typer.echo(f"pass {number} was limited by {one.limit}")


def _without_file_names(done: Extraction) -> dict[str, Any]:
    """JSON gets passed on; a file name may be a patient's."""
    from embedcache.schema import plain

    content: dict[str, Any] = plain(done)
    for failure in content["failures"]:
        del failure["file"]
    return content


def _show_failures(done: Extraction) -> None:
    for cohort, digest in done.two_labels:
        typer.echo(f"{cohort}: image {digest[:12]} is listed under two labels; probe leaves it out")
    if not done.failures:
        return
    typer.echo(f"{len(done.failures)} rows have no feature; the rest is kept:")
    for failure in done.failures[:20]:
        # File names help the owner at the screen; a log may be passed on.
        where = (sys.stdout.isatty() and failure.file) or f"row {failure.row}"
        typer.echo(f"  {failure.cohort}, {where}: {failure.reason}")
    if len(done.failures) > 20:
        typer.echo(f"  and {len(done.failures) - 20} more (--json lists all)")
