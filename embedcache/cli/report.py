"""`embedcache report`: one HTML page of a results folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedcache.cli.arguments import Json, Out
from embedcache.cli.show import print_json, progress_bars


def _expand(value: list[Path]) -> list[Path]:
    return [path.expanduser() for path in value]


Folders = Annotated[
    list[Path],
    typer.Argument(help="Results folders of one protocol.", metavar="RESULTS", callback=_expand),
]


def report(results: Folders, out: Out = Path("report.html"), json: Json = False) -> None:
    """Write one HTML page: who leads, by how much, and whether it holds elsewhere.

    Example: embedcache report results --out report.html
    """
    # Rooms are imported when the command runs: --help needs none of them.
    from embedcache.reporting.report import report as write_report

    with progress_bars() as progress:
        page = write_report(results, out, progress)
    if json:
        print_json({"report": str(page)})
    else:
        typer.echo(f"report: {page}")
