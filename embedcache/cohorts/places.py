"""Find what a table names: the table in an unpacked archive, the image behind a name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from embedcache.errors import (
    AmbiguousFileError,
    EmptyCellsError,
    EmptyCohortError,
    PathMissingError,
    PatternUnmatchedError,
    SchemaError,
)
from embedcache.images.formats import SUFFIXES
from embedcache.images.source import ImageFile

#: Names of a folder's files, and those of its images by stem.
_Listing = tuple[frozenset[str], dict[str, tuple[str, ...]]]


def find_table(place: Path, name: str) -> Path:
    """Find a publisher's table: the place itself, in the folder, or in one folder below.

    Raises:
        PathMissingError: if the place, or the table in it, does not exist.
        AmbiguousFileError: if several folders below hold one.
    """
    if place.is_file() and place.name == name:
        return place
    if not place.exists():
        raise PathMissingError("the folder", place)
    if (place / name).is_file():
        return place / name
    # An archive may add a level (Zenodo_dataset/).
    below = sorted(place.glob(f"*/{name}"))
    if not below:
        raise PathMissingError("the published table", place / name)
    if len(below) > 1:
        found = tuple(str(path.parent.relative_to(place)) for path in below)
        raise AmbiguousFileError(f"the folder that holds {name}", found)
    return below[0]


def find_images(folder: Path, names: Sequence[str], where: str) -> tuple[ImageFile, ...]:
    """Find the file behind each name; a row whose image is missing keeps its place.

    A name may be a path, relative to the folder or not, and lack its suffix, or have another one
    than the file: an exact name wins, else the stem decides. Each folder is listed once.

    Raises:
        EmptyCellsError: if a row has no name.
        AmbiguousFileError: if two images have the stem.
        EmptyCohortError: if not one image exists.
    """
    empty = tuple(row for row, name in enumerate(names, 1) if not name)
    if empty:
        raise EmptyCellsError(where, "image", empty)
    listing = cache(_listing)  # for this call: the folder may have changed by the next
    found = [_find(folder / name, listing) for name in map(_local, names)]
    if not any(exists for _, exists in found):
        raise EmptyCohortError(folder, f"image that {where} names (such as {names[0]!r})")
    return tuple(ImageFile(path) for path, _ in found)


def _local(name: str) -> str:
    """A table from Windows parts folders by backslashes; elsewhere no image's name holds any."""
    return name if os.sep == "\\" else name.replace("\\", "/")


def _find(path: Path, listing: Callable[[Path], _Listing]) -> tuple[Path, bool]:
    names, stems = listing(path.parent)
    if path.name in names:
        return path, True
    same = stems.get(path.name, ())
    if not same and path.suffix.casefold() in SUFFIXES:
        same = stems.get(path.stem, ())
    if len(same) > 1:
        raise AmbiguousFileError(f"image {path.name!r}", same)
    return (path.parent / same[0], True) if same else (path, False)


def _listing(folder: Path) -> _Listing:
    if not folder.is_dir():
        return frozenset(), {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_file())
    stems: dict[str, tuple[str, ...]] = {}
    for name in names:
        stem, suffix = os.path.splitext(name)  # noqa: PTH122  # a Path for each is ten times slower
        if suffix.casefold() in SUFFIXES:
            stems[stem] = (*stems.get(stem, ()), name)
    return frozenset(names), stems


def compiled(pattern: str, key: str, where: str) -> re.Pattern[str]:
    """Compile a cohort file's pattern.

    Raises:
        SchemaError: if it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        problem = f"is {pattern!r}, no regular expression ({error})"
        raise SchemaError(where, f"patterns.{key}", problem) from error


def matched(paths: Sequence[str], pattern: str, key: str, where: str) -> tuple[str, ...]:
    """What a pattern's group finds in each path; several groups are joined by `/`.

    Raises:
        SchemaError: if it is no regular expression, or has no group.
        PatternUnmatchedError: if it finds nothing in a path.
    """
    wanted = compiled(pattern, key, where)
    if not wanted.groups:
        problem = f"is {pattern!r}, without a group; put ( ) round the part that is the {key}"
        raise SchemaError(where, f"patterns.{key}", problem)
    found = [wanted.search(path) for path in paths]
    groups = ["/".join(group or "" for group in match.groups()) if match else "" for match in found]
    unmatched = tuple(path for path, group in zip(paths, groups, strict=True) if not group)
    if unmatched:
        raise PatternUnmatchedError(where, key, pattern, unmatched)
    return tuple(groups)
