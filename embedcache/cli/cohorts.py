"""`embedcache cohorts inspect`: look at cohorts before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json

if TYPE_CHECKING:
    from embedcache.cohorts.inspection import Inspection

app = typer.Typer(no_args_is_help=True, help="Look at cohorts before anything is computed.")

References = Annotated[
    list[str],
    typer.Argument(metavar="COHORT...", help="[NAME=]KIND:PLACE or [NAME=]FILE.toml."),
]
Links = Annotated[
    Path | None,
    typer.Option(
        help="Write the near-duplicates to this CSV; `probe --links` makes them one cluster.",
        callback=lambda value: None if value is None else value.expanduser(),
    ),
]


@app.callback()
def _cohorts() -> None:
    """Keep `inspect` a word of its own: Typer drops the name of a lone command."""


@app.command("inspect")
def inspect_cohorts(cohort: References, links: Links = None, json: Json = False) -> None:
    """Count classes, patients and sites, and find what would make results wrong.

    Example: embedcache cohorts inspect spain=fetal-planes-db:FOLDER africa=african-planes:FOLDER
    """
    from embedcache.cli.inspection import print_inspection
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.cohorts.inspect import inspect
    from embedcache.cohorts.reference import read_cohort
    from embedcache.errors import FileInTheWayError

    # Said before minutes of reading, not after.
    if links is not None and links.exists():
        raise FileInTheWayError("the file of links", links)
    cohorts = [read_cohort(reference) for reference in cohort]
    with progress_bars() as progress:
        found = inspect(cohorts, progress)
    if json:
        print_json(found)
    else:
        print_inspection(found, cohorts, linked=links is not None)
    if links is not None:
        _write_links(found, links)


def _write_links(found: Inspection, path: Path) -> None:
    """Write a row a pair of hex digests; no near-duplicates give a file with the header alone."""
    from embedcache.durable import write_file

    rows = [f"{near.pair.first},{near.pair.second}\n" for near in found.near_pairs]
    write_file(path, "".join(["first,second\n", *rows]).encode("ascii"))
    written = (
        "1 pair written; give it" if len(rows) == 1 else f"{len(rows)} pairs written; give them"
    )
    typer.echo(f"{written} to a probe: --links {path}", err=True)
