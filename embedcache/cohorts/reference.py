"""A cohort as it is written on the command line: `[NAME=]KIND:PLACE` or `[NAME=]FILE.toml`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from embedcache import registry
from embedcache.cohorts.classes import choose_classes, leave_out, merge_classes
from embedcache.cohorts.cohort import TOKEN, Cohort
from embedcache.cohorts.cohort_file import CohortFile, check_heeded, read_cohort_file
from embedcache.cohorts.reader import Reader
from embedcache.errors import CohortTwiceError, ReferenceSyntaxError, UnknownNameError

_GRAMMAR = "[NAME=]KIND:PLACE or [NAME=]FILE.toml"

#: A name ends at the first `=`, unless a `:` or a slash shows that a place has begun. One letter
#: before a colon is a Windows drive.
_REFERENCE = re.compile(
    r"(?:(?P<name>[^=:/\\]*)=)?(?:(?P<kind>[^:/\\.]{2,}):)?(?P<place>.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class CohortRef:
    """A reference, taken apart.

    Attributes:
        name: given, or the kind, or the file's stem.
        kind: None for a cohort file.
        place: as written, or the cohort file's path.
    """

    name: str
    kind: str | None
    place: str


def parse_cohort(reference: str) -> CohortRef:
    """Take a reference apart; looks at no disk.

    Raises:
        ReferenceSyntaxError: if it is none, or its name holds anything but letters, digits,
            `-`, `_` and `.`.
    """
    found = _REFERENCE.fullmatch(reference.strip())
    if found is None or not found["place"]:
        raise ReferenceSyntaxError("cohort", reference, _GRAMMAR)
    kind, place = found["kind"], found["place"]
    if kind is None and not place.casefold().endswith(".toml"):
        raise ReferenceSyntaxError("cohort", reference, _GRAMMAR)
    # Either slash: a path may come from Windows.
    stem = re.split(r"[/\\]", place)[-1].rsplit(".", 1)[0]
    name = found["name"] if found["name"] is not None else kind or stem
    if not TOKEN.fullmatch(name):
        grammar = f"{_GRAMMAR}, where NAME has letters, digits, -, _ and . alone"
        raise ReferenceSyntaxError(f"cohort (its name would be {name!r})", reference, grammar)
    return CohortRef(name, kind, place)


def read_cohort(reference: str) -> Cohort:
    """Read the cohort that a reference names.

    Example: `read_cohort("spain=fetal-planes-db:~/data/FETAL_PLANES_ZENODO")`

    Raises:
        ReferenceSyntaxError: if it is no reference.
        UnknownNameError: if there is no such kind.
        BadInputError: whatever else the reader or the cohort file finds wrong.
    """
    asked = parse_cohort(reference)
    if asked.kind is not None:
        file = CohortFile(kind=asked.kind, place=asked.place)
        return read_described(file, name=asked.name, folder=Path(), where=reference)
    path = Path(asked.place).expanduser()
    file = read_cohort_file(path)
    return read_described(file, name=asked.name, folder=path.parent, where=path.name)


def read_all(cohorts: Sequence[Cohort | str]) -> list[Cohort]:
    """Read cohorts.

    Raises:
        CohortTwiceError: if two have one name.
        BadInputError: whatever else their readers find wrong.
    """
    read = [read_cohort(cohort) if isinstance(cohort, str) else cohort for cohort in cohorts]
    names = [cohort.name for cohort in read]
    for name in names:
        if names.count(name) > 1:
            raise CohortTwiceError(name)
    return read


def read_described(file: CohortFile, *, name: str, folder: Path, where: str) -> Cohort:
    """Read the cohort that a cohort file describes.

    Args:
        file: the description.
        name: of the cohort.
        folder: what its relative paths start from.
        where: names the description in errors.

    Raises:
        UnknownNameError: if there is no such kind.
        SchemaError: if the reader does not heed one of the options.
        BadInputError: whatever else the reader finds wrong.
    """
    reader = _reader(file.kind)
    check_heeded(file, reader.heeds, file.kind, where)
    place = Path(file.place)
    if reader.place == "path":
        place = folder / place.expanduser()
    if file.images is not None:
        file = replace(file, images=str(folder / Path(file.images).expanduser()))
    cohort = reader.read(place, file)
    cohort = leave_out(cohort, file.leave_out, where) if file.leave_out else cohort
    cohort = merge_classes(cohort, file.merges, where)
    if file.classes is not None:
        cohort = choose_classes(cohort, file.classes, where)
    return replace(
        cohort,
        name=name,
        namespace=file.patients or name,
        reader=reader.kind,
        citation=reader.citation,
        licence=reader.licence,
        synthetic=reader.synthetic,
    )


def _reader(kind: str) -> Reader:
    known = registry.names("cohorts")
    if kind not in known:
        raise UnknownNameError("kind of cohort", kind, known)
    reader: Reader = registry.load("cohorts", kind)
    return reader
