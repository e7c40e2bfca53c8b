"""`embedcache quickstart`: the whole job on drawn pictures, with the commands that anyone types."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

COHORTS = ("home=synthetic:home", "abroad=synthetic:abroad")
ENCODERS = ("pixels", "efficientnet-lite0")

Out = Annotated[Path, typer.Option("--out", help="Folder for store, results and report.")]


def quickstart(out: Out = Path("quickstart")) -> None:
    """Run everything once on synthetic pictures: two minutes at most, no data, no network.

    Example: embedcache quickstart
    """
    from embedcache import Protocol, compare, evaluate, extract, probe, report
    from embedcache.cli.leaderboard import print_results
    from embedcache.cli.show import progress_bars

    out = out.expanduser()
    store, results, page = out / "store.zarr", out / "results", out / "report.html"
    with progress_bars() as progress:
        cohorts = " ".join(f"--cohort {cohort}" for cohort in COHORTS)
        _say(f"embedcache extract {store} {cohorts} --encoder {','.join(ENCODERS)}")
        extract(store, COHORTS, ENCODERS, progress=progress)
        _say(f"embedcache probe {store} --train home --external abroad --out {results}")
        probe(store, Protocol(train="home", external=("abroad",)), out=results, progress=progress)
        rows = evaluate(results, progress)
        _say(f"embedcache compare {results}")
        compare([results])
        _say(f"embedcache report {results} --out {page}")
        report([results], page)
    print_results(results, rows, as_json=False)
    typer.echo(_where_next(out, page))


def _say(command: str) -> None:
    typer.echo(f"\n$ {command}", err=True)


def _where_next(out: Path, page: Path) -> str:
    lines = [
        "These pictures are SYNTHETIC: the scores say nothing about any encoder.",
        "",
        f"The report:  {page}   (open it in a browser)",
        f"The scores:  {out / 'results' / 'metrics.csv'}",
        "",
        "Go on from here with your own images, a folder a class:",
        *_activation(),
        "  write mine.toml:",
        '      kind = "folder"',
        '      place = "YOUR_IMAGES"',
        "      patterns.patient = '^([^_]+)_'   # what of a file's name is the patient",
        "  embedcache cohorts inspect mine.toml",
        "  embedcache extract mine.zarr --cohort mine.toml --encoder pixels,efficientnet-lite0",
        "  embedcache probe mine.zarr --train mine --out results",
        "  embedcache report results --out report.html",
        "docs/tutorial.md goes through it, and on the public fetal ultrasound cohorts.",
    ]
    return "\n".join(lines)


def _activation() -> list[str]:
    """The line that makes `embedcache` a command, where it is not one yet."""
    environment = Path(sys.prefix)
    if sys.prefix == sys.base_prefix or os.environ.get("VIRTUAL_ENV") == sys.prefix:
        return []
    if environment.is_relative_to(Path.cwd()):
        environment = environment.relative_to(Path.cwd())
    script = environment / ("Scripts/activate" if os.name == "nt" else "bin/activate")
    return [f"  {script}" if os.name == "nt" else f"  source {script}"]
