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


@dataclass(eq=False)
class LinkInvalidError(BadInputError):
    """A link between near-duplicates is no pair of digests."""

    where: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.found!r} is no pair of image digests (64 hex digits each); "
            f"`embedcache cohorts inspect … --links FILE` writes such a file"
        )


@dataclass(eq=False)
class ClassUnknownError(BadInputError):
    """Classes were asked for that no training image carries."""

    classes: tuple[str, ...]
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"no training image is labelled {listed(self.classes)}; "
            f"choose among {', '.join(self.found)}"
        )


@dataclass(eq=False)
class TooFewClassesError(BadInputError):
    """Fewer than two classes are left to tell apart."""

    rule: str
    chosen: tuple[str, ...]
    cohorts: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        have = "; ".join(f"{name} has {', '.join(has)}" for name, has in self.cohorts.items())
        return (
            f"classes {self.rule!r} leave {', '.join(self.chosen) or 'none'}, and two are needed "
            f"({have}); name classes with --classes, or merge them in the cohort files"
        )


@dataclass(eq=False)
class TooFewPatientsError(BadInputError):
    """A class has too few patient clusters to be trained on and tested in every fold."""

    class_: str
    clusters: int
    folds: int
    enough: tuple[str, ...]

    def __str__(self) -> str:
        problem = (
            f"class {self.class_!r} has {self.clusters} patient clusters, too few for "
            f"{self.folds} folds"
        )
        mends = []
        if self.clusters >= 3 and self.clusters != self.folds:
            mends.append(f"use --folds {self.clusters}")
        if len(self.enough) >= 2:
            mends.append(f"leave the class out: --classes {','.join(self.enough)!r}")
        return f"{problem}; {', or '.join(mends) or 'add patients'}"


@dataclass(eq=False)
class NoResultsError(BadInputError):
    """A folder was named as results, and is none."""

    path: Path

    def __str__(self) -> str:
        return (
            f"{str(self.path)!r} is no results folder (it has no protocol.json); "
            "name one that probe or evaluate wrote"
        )


@dataclass(eq=False)
class NewerResultsError(BadInputError):
    """A results folder was written by a newer embedcache."""

    path: Path
    version: int
    known: int

    def __str__(self) -> str:
        return (
            f"{str(self.path)!r} has results format version {self.version}, this embedcache reads "
            f"up to {self.known}; upgrade with: pip install --upgrade embedcache-bench"
        )


@dataclass(eq=False)
class ProtocolDiffersError(BadInputError):
    """A results folder was made under another protocol than the one asked for."""

    path: Path
    field: str
    kept: str
    asked: str

    def __str__(self) -> str:
        return (
            f"{str(self.path)!r} was made with {self.field} = {self.kept}, not {self.asked}; "
            "name another folder with --out, or ask for the same"
        )


@dataclass(eq=False)
class PredictionsFileError(FailedWorkError):
    """A Parquet file of a results folder is damaged, or not ours."""

    path: Path
    problem: str

    def __str__(self) -> str:
        return (
            f"{str(self.path)!r} {self.problem}; delete it and run the command that wrote it again"
        )


@dataclass(eq=False)
class WorkerDiedError(FailedWorkError):
    """A worker process was killed from outside."""

    def __str__(self) -> str:
        return (
            "a worker process was killed, most often for want of memory; what was finished is "
            "kept, and the same command with --workers 1 needs the least"
        )


@dataclass(eq=False)
class NotConvergedError(FailedWorkError):
    """A fit did not reach its optimum, so that its numbers would depend on where it stopped."""

    encoder: str
    training: str
    c: float
    iterations: int

    def __str__(self) -> str:
        return (
            f"the probe of {self.encoder or 'the encoder'} ({self.training}, C = {self.c:g}) has "
            f"not converged after {self.iterations:,} iterations; take this C out of the grid "
            f"(tuning.grid in --protocol), or leave the encoder out"
        )


@dataclass(eq=False)
class IncompleteFeaturesError(BadInputError):
    """An encoder has not seen all images that would be judged."""

    encoder: str
    missing: int
    cohorts: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.encoder} has no features yet of {self.missing:,} images of "
            f"{' and '.join(self.cohorts)}; finish it with `embedcache extract STORE --cohort … "
            f"--encoder {self.encoder}`, which goes on from where it stopped"
        )


@dataclass(eq=False)
class NothingToJudgeError(BadInputError):
    """A cohort has no image left that could be judged."""

    cohort: str
    left_out: dict[str, int]

    def __str__(self) -> str:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self.left_out.items())
        return f"no image of {self.cohort!r} is left to judge ({reasons or 'it has no rows'})"


@dataclass(eq=False)
class OtherUnitsError(BadInputError):
    """A results folder holds predictions of an encoder that were made from something else."""

    folder: Path
    arm: str
    encoder: str

    def __str__(self) -> str:
        return (
            f"{str(self.folder)!r} holds {self.arm} predictions of {self.encoder} that were made "
            f"from other features or by another version; give another --out, or delete "
            f"predictions/{self.arm}/{self.encoder} there"
        )


@dataclass(eq=False)
class TruncatedAllowedError(BadInputError):
    """PIL was told, process-wide, to fill truncated images with grey."""

    def __str__(self) -> str:
        return (
            "a package in this process set PIL.ImageFile.LOAD_TRUNCATED_IMAGES, which turns "
            "truncated images into half-grey ones without a word; set it to False"
        )


@dataclass(eq=False)
class VariantUnknownError(BadInputError):
    """An encoder has no such variant."""

    encoder: str
    variant: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.encoder} has no variant @{self.variant}; "
            f"choose among {', '.join(f'@{name}' for name in self.found)}"
        )


@dataclass(eq=False)
class WeightsMissingError(BadInputError):
    """The weights that an encoder needs are not on this machine."""

    encoder: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.encoder} has no weights to run with: {self.reason}; {self.mend}"


@dataclass(eq=False)
class WeightsUnwantedError(BadInputError):
    """Weights were named for an encoder that cannot take them."""

    encoder: str
    weights: str
    mend: str

    def __str__(self) -> str:
        return f"{self.encoder} does not take ={self.weights}; {self.mend}"


@dataclass(eq=False)
class WeightsUnreadableError(BadInputError):
    """A file holds no weights that can be read without running its code."""

    file: str
    reason: str

    def __str__(self) -> str:
        return f"no weights can be read from {self.file}: {self.reason}; fetch the file again"


@dataclass(eq=False)
class WeightsChangedError(FailedWorkError):
    """A weight file is no longer the one that the contract names."""

    file: str

    def __str__(self) -> str:
        return f"{self.file} changed while the command ran; run it again once the file rests"


@dataclass(eq=False)
class WeightsMismatchError(BadInputError):
    """A weight file belongs to another network."""

    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: tuple[str, ...]
    looks_like: str
    encoder: str = "this network"
    file: str = "the file"

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "misshapen": self.misshapen,
        }
        found = "; ".join(
            f"{len(keys)} {kind} ({listed(keys)})" for kind, keys in kinds.items() if keys
        )
        return (
            f"{self.file} does not fit {self.encoder}: {found}; "
            f"it looks like {self.looks_like}; give {self.encoder}=PATH the file made for it"
        )


@dataclass(eq=False)
class PreprocessingUnknownError(BadInputError):
    """A library's preprocessing for an architecture has no counterpart here."""

    encoder: str
    problem: str

    def __str__(self) -> str:
        return f"{self.encoder} cannot be used: {self.problem}; choose another encoder"


@dataclass(eq=False)
class EncoderOutputError(FailedWorkError):
    """A network gives something else than one vector of the promised length for each image."""

    encoder: str
    expected: tuple[int, ...]
    found: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.encoder} gave an array of shape {self.found} where its contract promises "
            f"{self.expected}; report it to whoever wrote the encoder"
        )


@dataclass(eq=False)
class DeviceMissingError(BadInputError):
    """A device was named that this machine, or this build of torch, does not have."""

    device: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        return f"there is no device {self.device!r} here; choose one of {', '.join(self.found)}"


@dataclass(eq=False)
class CohortTwiceError(BadInputError):
    """Two cohorts of one run have the same name."""

    cohort: str

    def __str__(self) -> str:
        return (
            f"two cohorts are called {self.cohort!r}; "
            f"name them apart: --cohort NAME={self.cohort}:PLACE"
        )


@dataclass(eq=False)
class CohortNameTakenError(BadInputError):
    """Two cohorts of one command have one name."""

    name: str

    def __str__(self) -> str:
        return f"two cohorts are called {self.name!r}; give one another name: NAME=KIND:PLACE"


@dataclass(eq=False)
class FileInTheWayError(BadInputError):
    """A file that would be written exists, and nothing is overwritten unasked."""

    what: str
    path: Path

    def __str__(self) -> str:
        return f"{self.what} {str(self.path)!r} exists already; delete it or choose another name"
