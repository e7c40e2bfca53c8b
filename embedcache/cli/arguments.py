"""Options that several commands share: one word for one thing holds for flags too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _expand(value: Path | None) -> Path | None:
    # A shell leaves `~` alone in `--out=~/x`, so we expand it ourselves.
    return None if value is None else value.expanduser()


Store = Annotated[
    Path, typer.Argument(metavar="STORE", help="The feature store.", callback=_expand)
]
Cohorts = Annotated[
    list[str],
    typer.Option("--cohort", help="[NAME=]KIND:PLACE or [NAME=]FILE.toml; repeat for more."),
]
Encoders = Annotated[
    list[str],
    typer.Option("--encoder", help="NAME[@VARIANT][=WEIGHTS]; commas and repeats both work."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where it is written.", callback=_expand)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")]


def split_commas(words: list[str]) -> tuple[str, ...]:
    """Flatten repeats and commas: `-e a,b -e c` gives a, b, c."""
    return tuple(part.strip() for word in words for part in word.split(",") if part.strip())
