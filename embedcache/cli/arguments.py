"""Options that several commands share: one word for one thing holds for flags too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def expand(value: Path | None) -> Path | None:
    """Put the home folder for `~`: a shell leaves it alone in `--out=~/x`."""
    return None if value is None else value.expanduser()


def _folder(place: str) -> Path:
    from embedcache.store.places import folder_at

    return folder_at(place)


#: A folder: the store is changed.
Store = Annotated[
    Path, typer.Argument(metavar="STORE", help="The feature store, a folder.", parser=_folder)
]


def root_from(place: str) -> Any:
    """Where a store is read, from its address: an `objects.Root`, kept for as long as it is used.

    Raises:
        EmbedcacheError: as `places.root_at`.
    """
    import shutil
    import weakref
    from tempfile import mkdtemp

    from embedcache.store.places import root_at

    root = root_at(place)
    if not isinstance(root, Path):
        # What comes from elsewhere is fetched once for all processes of this command.
        root.cache = Path(mkdtemp(prefix="embedcache-"))
        weakref.finalize(root, shutil.rmtree, root.cache, ignore_errors=True)
    return root


def _opened(place: str) -> Any:
    from embedcache.store.reader import open_store

    return open_store(root_from(place))


_PLACE = "A feature store: a folder, a packed file, s3://BUCKET/FOLDER or https://…."
#: A `FeatureStore`, wherever it lies.
StoreToRead = Annotated[Any, typer.Argument(metavar="STORE", help=_PLACE, parser=_opened)]
#: An `objects.Root`, which may hold a damaged store.
RootToRead = Annotated[Any, typer.Argument(metavar="STORE", help=_PLACE, parser=root_from)]
Cohorts = Annotated[
    list[str],
    typer.Option("--cohort", help="[NAME=]KIND:PLACE or [NAME=]FILE.toml; repeat for more."),
]
Encoders = Annotated[
    list[str],
    typer.Option("--encoder", help="NAME[@VARIANT][=WEIGHTS]; commas and repeats both work."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Where it is written.", callback=expand)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would run, and run nothing.")]


def split_commas(words: list[str]) -> tuple[str, ...]:
    """Flatten repeats and commas: `-e a,b -e c` gives a, b, c."""
    return tuple(part.strip() for word in words for part in word.split(",") if part.strip())
