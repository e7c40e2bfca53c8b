"""A folder with a sub-folder for each class, and the patient in each file's name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.cohort_file import NO_OPTIONS, Options
from embedcache.cohorts.places import compiled, matched
from embedcache.cohorts.reader import Reader
from embedcache.errors import (
    EmptyCohortError,
    PathMissingError,
    PatientsUnknownError,
    SchemaError,
    StrayFilesError,
)
from embedcache.images.formats import SUFFIXES
from embedcache.images.source import ImageFile

#: What lies beside images and is none: notes and tables, and what systems leave.
_BESIDE = frozenset(
    {".txt", ".md", ".csv", ".tsv", ".json", ".xml", ".toml", ".pdf", ".html", ".xlsx"}
    | {".db", ".ini", ".py", ".ipynb"}
)


def read(place: Path, options: Options = NO_OPTIONS) -> Cohort:
    """Read the images below each class folder, sorted by path.

    Images are told by their suffix, or by `patterns.image`. Hidden files, and notes and tables
    beside the images, are passed over; any other file is an error. The class is the first folder
    below the place, or what `patterns.label` finds in the path.

    Raises:
        PathMissingError: if there is no such folder.
        PatientsUnknownError: if neither `patterns.patient` nor `patient` is given.
        StrayFilesError: if files are no images, or lie in no class folder.
        PatternUnmatchedError: if a pattern does not fit every image.
        EmptyCohortError: if there are no images.
    """
    if not place.is_dir():
        raise PathMissingError("the folder", place)
    patterns = {key: text for key, text in options.patterns.items() if key != "image"}
    if ("patient" in patterns) == (options.patient is not None):
        if "patient" not in patterns:
            raise PatientsUnknownError(place)
        raise SchemaError("the cohort file", "patient", "is given twice, in two ways; keep one")
    path = _images(place, options.patterns.get("image"))
    if not path:
        raise EmptyCohortError(place, "images")
    label, within = _labels(place, path, patterns.pop("label", None))
    found = {key: matched(within, text, key, place.name) for key, text in patterns.items()}
    return Cohort.from_columns(
        classes=sorted(set(label)),
        images=[ImageFile(place / each) for each in path],
        label=label,
        patient=found.pop("patient", path),
        strata=found,
        where=place.name,
    )


def _labels(
    place: Path, path: tuple[str, ...], pattern: str | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The class of each image, and the path that the other patterns look at."""
    if pattern is not None:
        return matched(path, pattern, "label", place.name), path
    loose = tuple(each for each in path if "/" not in each)
    if loose:
        raise StrayFilesError(place, loose, "lie in no class folder")
    # Below the class folder: digits of a class's name must not pass for a patient.
    label, within = zip(*(each.split("/", 1) for each in path), strict=True)
    return label, within


def _images(place: Path, pattern: str | None) -> tuple[str, ...]:
    """Paths of the images below the place, with `/`, sorted."""
    path = sorted(_files(place))
    if pattern is not None:
        wanted = compiled(pattern, "image", place.name)
        return tuple(each for each in path if wanted.search(each))
    suffix = {each: os.path.splitext(each)[1].casefold() for each in path}  # noqa: PTH122  # many files
    stray = tuple(each for each in path if suffix[each] not in SUFFIXES | _BESIDE)
    if stray:
        raise StrayFilesError(place, stray, "are no images by their suffix")
    return tuple(each for each in path if suffix[each] in SUFFIXES)


def _files(place: Path) -> Iterator[str]:
    """Every file that is not hidden; links to folders are followed, but never upwards."""
    for folder, below, names in os.walk(place, followlinks=True):
        real = Path(folder).resolve()
        below[:] = [
            each
            for each in below
            if not each.startswith(".") and not real.is_relative_to((real / each).resolve())
        ]
        for name in names:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(place).as_posix()


READER = Reader(kind="folder", read=read, heeds=("patterns", "patient"))
