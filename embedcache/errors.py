"""Every error of embedcache: typed fields, and one sentence that names the thing and the mend.

`BadInputError` ends a command with exit code 2, `FailedWorkError` with 1. Errors cross process
pools, so each is rebuilt from its fields when unpickled.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any


def listed(names: tuple[object, ...], most: int = 10) -> str:
    """Join names for a sentence; more than `most` are counted, not hidden."""
    shown = ", ".join(str(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


class EmbedcacheError(Exception):
    """Any error that embedcache raises on purpose."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]  # every subclass is a dataclass


class BadInputError(EmbedcacheError):
    """What was asked for cannot be right; nothing was changed."""

    exit_code = 2


class FailedWorkError(EmbedcacheError):
    """The request was sound, the work failed; what was finished is kept."""

    exit_code = 1


@dataclass(eq=False)
class SchemaError(BadInputError):
    """A TOML or JSON file holds something that its schema does not."""

    where: str
    path: str
    problem: str

    def __str__(self) -> str:
        return f"{self.where}: {self.path or 'the top level'} {self.problem}"


@dataclass(eq=False)
class UnknownNameError(BadInputError):
    """A named part (reader, encoder, metric, estimator) does not exist."""

    kind: str
    name: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        return f"there is no {self.kind} {self.name!r}; choose one of {', '.join(self.found)}"


@dataclass(eq=False)
class NameTakenError(BadInputError):
    """Two installed parts claim one name."""

    kind: str
    name: str
    places: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"two installed packages offer a {self.kind} {self.name!r} "
            f"({' and '.join(self.places)}); uninstall one of them"
        )


@dataclass(eq=False)
class PathMissingError(BadInputError):
    """A file or folder that was named does not exist."""

    what: str
    path: Path

    def __str__(self) -> str:
        return f"{self.what} {str(self.path)!r} does not exist; check the path"


@dataclass(eq=False)
class ReferenceSyntaxError(BadInputError):
    """A cohort or encoder on the command line cannot be read."""

    what: str
    given: str
    grammar: str

    def __str__(self) -> str:
        return f"{self.given!r} is no {self.what}; write {self.grammar}"


@dataclass(eq=False)
class ColumnMissingError(BadInputError):
    """A table lacks a column that its reader needs."""

    file: Path
    column: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.file.name} has no column {self.column!r} (it has {', '.join(self.found)}); "
            f"name it in a cohort file: columns.{self.column} = …"
        )


@dataclass(eq=False)
class UnknownLabelError(BadInputError):
    """Rows carry labels that the class list does not have."""

    where: str
    labels: tuple[str, ...]
    rows: int
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.rows} rows are labelled {listed(self.labels)}, which the classes "
            f"({', '.join(self.classes)}) do not hold; correct the labels or name the classes "
            f"in a cohort file: classes = […]"
        )


@dataclass(eq=False)
class EmptyCohortError(BadInputError):
    """A reader found no images."""

    place: Path
    looked_for: str

    def __str__(self) -> str:
        return f"{str(self.place)!r} holds no {self.looked_for}; check the path and the layout"


@dataclass(eq=False)
class ImageUnreadableError(EmbedcacheError):
    """One image cannot be used; the run records it as failed and goes on.

    `reason` is a short fixed phrase without any path, fit to be stored.
    """

    reason: str

    def __str__(self) -> str:
        return f"the image is unreadable: {self.reason}"


@dataclass(eq=False)
class LeakError(BadInputError):
    """A split puts images of one patient cluster on both sides."""

    clusters: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.clusters)} patient clusters lie in two folds of one repeat "
            f"(clusters {listed(self.clusters)}); split by cluster, not by image"
        )


@dataclass(eq=False)
class NotAReportError(BadInputError):
    """A report would replace a file that is none."""

    path: Path

    def __str__(self) -> str:
        return (
            f"{str(self.path)!r} exists and is no embedcache report, so it stays as it is; "
            f"name another file with --out"
        )


@dataclass(eq=False)
class OtherProtocolError(BadInputError):
    """Results folders that one report should show were judged differently."""

    first: Path
    other: Path
    difference: str

    def __str__(self) -> str:
        return (
            f"{str(self.first)!r} and {str(self.other)!r} differ in {self.difference}, so their "
            f"numbers cannot stand side by side; report them apart"
        )
