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
    key: str = ""  # what the cohort file calls it, where that is another word

    def __str__(self) -> str:
        return (
            f"{self.file.name} has no column {self.column!r} (it has {', '.join(self.found)}); "
            f"name it in a cohort file: columns.{self.key or self.column} = …"
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
            f"(clusters {listed(self.clusters)}); split by cluster, not by image, as --folds 5 does"
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
class ManyWeightsMissingError(BadInputError):
    """Several encoders of one command have no weights on this machine."""

    encoders: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{len(self.encoders)} encoders have no weights here: {', '.join(self.encoders)}; run "
            f"embedcache encoders fetch {' '.join(self.encoders)}"
        )


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
class EncoderUnusableError(BadInputError):
    """A library's model asks for what has no counterpart here."""

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
        return f"two cohorts are called {self.cohort!r}; name them apart: NAME={self.cohort}:PLACE"


@dataclass(eq=False)
class FileInTheWayError(BadInputError):
    """A file that would be written exists, and nothing is overwritten unasked."""

    what: str
    path: Path

    def __str__(self) -> str:
        return f"{self.what} {str(self.path)!r} exists already; delete it or choose another name"


@dataclass(eq=False)
class NotAStoreError(BadInputError):
    """A path holds something, and it is no feature store."""

    path: Path | str  # a str: the address of a store elsewhere

    def __str__(self) -> str:
        return (
            f"{str(self.path)!r} exists and is no feature store; "
            f"name a store that `embedcache extract` made, or a path where nothing is yet"
        )


@dataclass(eq=False)
class NewerFormatError(BadInputError):
    """A newer embedcache wrote the store."""

    path: Path
    found: int
    known: int

    def __str__(self) -> str:
        return (
            f"{self.path.name} has store format version {self.found}, this embedcache reads "
            f"versions up to {self.known}; upgrade it: pip install --upgrade embedcache-bench"
        )


@dataclass(eq=False)
class DamagedStoreError(FailedWorkError):
    """A part of a store is not what was written there."""

    node: str
    problem: str

    def __str__(self) -> str:
        return (
            f"{self.node} of the store is damaged ({self.problem}); `embedcache store verify` "
            f"lists all damage; take the store from a copy, or extract into a new one"
        )


@dataclass(eq=False)
class UnfinishedCohortError(FailedWorkError):
    """A cohort is being replaced, or a killed command left it half replaced."""

    name: str

    def __str__(self) -> str:
        return (
            f"cohort {self.name!r} of the store is not completely written; wait for a running "
            f"`embedcache extract`, or run it again where it was killed"
        )


@dataclass(eq=False)
class DamagedRowsError(FailedWorkError):
    """Vectors that were written are gone or changed."""

    feature: str
    rows: tuple[int, ...]
    problem: str

    def __str__(self) -> str:
        return (
            f"{len(self.rows)} vectors of {self.feature} are damaged ({self.problem}; rows "
            f"{listed(self.rows)}); `embedcache extract` with the same cohorts and encoder "
            f"encodes them again"
        )


@dataclass(eq=False)
class RowsMissingError(BadInputError):
    """Vectors are asked for that nobody has computed."""

    feature: str
    rows: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.feature} has no vector for {len(self.rows)} images (rows {listed(self.rows)}); "
            f"run `embedcache extract` with this cohort and encoder first"
        )


@dataclass(eq=False)
class AmbiguousNameError(BadInputError):
    """A name fits several feature sets of a store."""

    name: str
    ids: tuple[str, ...]

    def __str__(self) -> str:
        choices = ", ".join(f"{self.name}#{feature_id}" for feature_id in self.ids)
        return f"the store holds {len(self.ids)} feature sets {self.name!r}; choose {choices}"


@dataclass(eq=False)
class CohortDiffersError(BadInputError):
    """A store has another cohort of that name."""

    name: str
    stored: int
    shared: int
    stored_reader: str
    reader: str

    def __str__(self) -> str:
        return (
            f"the store holds another cohort {self.name!r} (reader {self.stored_reader}, "
            f"{self.stored} images, {self.shared} of them in the new one, reader {self.reader}); "
            f"give the new one a name of its own: --cohort NAME={self.reader}:PLACE"
        )


@dataclass(eq=False)
class UnusableNameError(BadInputError):
    """A name cannot be a folder of a store on every system."""

    what: str
    name: str
    problem: str

    def __str__(self) -> str:
        return (
            f"{self.what} {self.name!r} {self.problem}; use up to 64 letters, digits, "
            f"'-', '_' and '.', the first a letter or digit"
        )


@dataclass(eq=False)
class StratumTooFineError(BadInputError):
    """A stratum has more values than codes."""

    cohort: str
    stratum: str
    values: int
    most: int

    def __str__(self) -> str:
        return (
            f"stratum {self.stratum!r} of cohort {self.cohort!r} has {self.values} values, a store "
            f"holds {self.most}; a stratum names groups, leave columns of single images out"
        )


@dataclass(eq=False)
class StoreBusyError(FailedWorkError):
    """Another process writes what this one wants to write."""

    what: str
    since: str

    def __str__(self) -> str:
        return (
            f"another process writes {self.what} since {self.since or 'a moment ago'}; "
            f"run this again when it has ended (a dead one on another machine counts as "
            f"writing for two minutes)"
        )


@dataclass(eq=False)
class LeaseLostError(FailedWorkError):
    """Another process took over what this one was writing."""

    what: str

    def __str__(self) -> str:
        return (
            f"another process took over {self.what} while this one stood still; "
            f"what was written is kept, let the other one finish"
        )


@dataclass(eq=False)
class StoreAccessError(FailedWorkError):
    """The file system refused to read or write an object of a store."""

    action: str
    key: str
    reason: str

    def __str__(self) -> str:
        return (
            f"the system refused to {self.action} {self.key} of the store ({self.reason}); "
            f"mend that and run the same command again: what was finished is kept"
        )


@dataclass(eq=False)
class VectorsUnusableError(FailedWorkError):
    """An encoder gave vectors that cannot be stored."""

    feature: str
    rows: tuple[int, ...]
    problem: str

    def __str__(self) -> str:
        return (
            f"{self.feature} gave unusable vectors ({self.problem}) for rows {listed(self.rows)}; "
            f"check its weights, or use --precision fp32"
        )


@dataclass(eq=False)
class RowsDifferError(FailedWorkError):
    """Rows that are done would be replaced by other vectors."""

    feature: str
    rows: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.feature} already has other vectors for rows {listed(self.rows)}; "
            f"they are kept: extract into a new store to compare the two"
        )


@dataclass(eq=False)
class KeyUnusableError(BadInputError):
    """The owner's key cannot be used; the message never holds it."""

    place: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"the key for pseudonyms in {self.place} {self.problem}; {self.mend}"


@dataclass(eq=False)
class TableUnreadableError(BadInputError):
    """A table is not what its name says, or its rows do not fit its header."""

    file: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.file.name} {self.problem}"


@dataclass(eq=False)
class EmptyCellsError(BadInputError):
    """Rows lack a value that every row needs."""

    where: str
    column: str
    rows: tuple[int, ...]

    def __str__(self) -> str:
        return (
            f"{self.where}: {len(self.rows)} rows have no {self.column} "
            f"(rows {listed(self.rows)}, the first below the header is 1); "
            f"fill them in or take the rows out"
        )


@dataclass(eq=False)
class ColumnLengthError(BadInputError):
    """Columns of one cohort differ in length."""

    where: str
    lengths: dict[str, int]

    def __str__(self) -> str:
        each = ", ".join(f"{name} {length}" for name, length in self.lengths.items())
        return f"{self.where}: the columns differ in length ({each}); give one value a row"


@dataclass(eq=False)
class AmbiguousFileError(BadInputError):
    """One name fits several files, and choosing would be guessing."""

    wanted: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.wanted} may be {' or '.join(self.found)}; keep one, or name it in full"


@dataclass(eq=False)
class StrayFilesError(BadInputError):
    """A folder of class folders holds files that belong to no class, or are no images."""

    place: Path
    files: tuple[str, ...]
    problem: str

    def __str__(self) -> str:
        return (
            f"{len(self.files)} files in {str(self.place)!r} {self.problem} "
            f"({listed(self.files, most=3)}); move them away, or say which files count in a "
            f"cohort file: patterns.image = 'REGULAR EXPRESSION'"
        )


@dataclass(eq=False)
class PatientsUnknownError(BadInputError):
    """A folder of images says nothing of patients, and a guess would leak."""

    place: Path

    def __str__(self) -> str:
        return (
            f"{str(self.place)!r} does not say which patient an image is of; write a cohort file "
            f"with kind = 'folder', place = {str(self.place)!r} and "
            f"patterns.patient = '^([^_]+)_' (a regular expression on the file name whose group "
            f"is the patient), or patient = 'each image' if no patient has two, and name that file "
            f"instead"
        )


@dataclass(eq=False)
class PatternUnmatchedError(BadInputError):
    """A pattern of a cohort file does not fit every image."""

    where: str
    key: str
    pattern: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.where}: patterns.{self.key} = {self.pattern!r} does not match "
            f"{len(self.names)} images ({listed(self.names, most=3)}); correct the pattern"
        )


@dataclass(eq=False)
class NothingToEvaluateError(BadInputError):
    """A results folder holds no complete predictions."""

    path: Path
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        why = f" ({'; '.join(self.reasons)})" if self.reasons else ""
        return f"{str(self.path)!r} holds no complete predictions{why}; run probe or evaluate first"


@dataclass(eq=False)
class ClashingUnitsError(BadInputError):
    """Two prediction files of one encoder predict the same images in the same fold."""

    encoder: str
    cohort: str
    fold: int
    images: int

    def __str__(self) -> str:
        fold = "the refit" if self.fold < 0 else f"fold {self.fold}"
        return (
            f"{self.encoder} has two sets of predictions for {self.images} images of {self.cohort} "
            f"in {fold}; its features have changed, so name another folder with --out"
        )


@dataclass(eq=False)
class DifferentImagesError(BadInputError):
    """Two encoders were not judged on the same images of a cohort."""

    cohort: str
    first: str
    second: str
    difference: str

    def __str__(self) -> str:
        return (
            f"{self.first} and {self.second} were not judged on the same rows of {self.cohort}: "
            f"{self.difference}; predict the same images with both, or use one folder for each"
        )


@dataclass(eq=False)
class MixedFoldsError(BadInputError):
    """The folds of a prediction table follow none of the three rules."""

    encoder: str
    cohort: str

    def __str__(self) -> str:
        return (
            f"the folds of {self.encoder} on {self.cohort} are neither one a row and image "
            "(out-of-fold), nor every fold for every image (external), nor none (one model): "
            "complete the rows, or tell cohorts apart in a column 'cohort'"
        )


@dataclass(eq=False)
class NoFeaturesError(BadInputError):
    """A store holds no encoder's features."""

    store: Path | str  # a str: the address of a store elsewhere

    def __str__(self) -> str:
        return (
            f"{str(self.store)!r} holds no features; "
            f"`embedcache extract {self.store} --cohort … --encoder …` makes them"
        )


@dataclass(eq=False)
class DifferentFoldsError(BadInputError):
    """Two results folders cannot be compared."""

    first: Path
    second: Path
    field: str

    def __str__(self) -> str:
        what = "class lists" if self.field == "classes" else "folds"
        return (
            f"{str(self.first)!r} and {str(self.second)!r} were made with different {what}; "
            "only encoders judged under one protocol can be compared"
        )


@dataclass(eq=False)
class SameEncoderError(BadInputError):
    """Two results folders hold the same encoder and arm."""

    encoder: str
    first: Path
    second: Path

    def __str__(self) -> str:
        return (
            f"{self.encoder} lies in both {str(self.first)!r} and {str(self.second)!r}; "
            "name each encoder once"
        )


@dataclass(eq=False)
class NotATableError(BadInputError):
    """A file was named as a prediction table, and is none that can be read."""

    file: Path
    problem: str

    def __str__(self) -> str:
        return f"{self.file.name} {self.problem}"


@dataclass(eq=False)
class EmptyTableError(BadInputError):
    """A prediction table has nothing in it."""

    file: Path
    what: str

    def __str__(self) -> str:
        return f"{self.file.name} holds {self.what}; one row an image and encoder is needed"


@dataclass(eq=False)
class TableColumnError(BadInputError):
    """A prediction table lacks a column."""

    file: Path
    column: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.file.name} has no column {self.column!r} (it has {listed(self.found)}); a "
            "prediction table has image, patient or cluster, label, and a probability:CLASS for "
            "each class or predicted"
        )


@dataclass(eq=False)
class BadCellsError(BadInputError):
    """Cells of a prediction table cannot be right."""

    file: Path
    column: str
    rows: int
    first_row: int
    problem: str

    def __str__(self) -> str:
        rows = "row" if self.rows == 1 else "rows"
        return (
            f"{self.file.name}, column {self.column!r}: {self.rows} {rows} {self.problem}; "
            f"the first is row {self.first_row}"
        )


@dataclass(eq=False)
class TableOverwritesError(BadInputError):
    """A results folder holds other predictions of an encoder that a table brings."""

    path: Path
    encoder: str

    def __str__(self) -> str:
        return (
            f"{str(self.path)!r} holds other predictions of {self.encoder}, and results are never "
            "overwritten; name another folder with --out"
        )


@dataclass(eq=False)
class TableClassError(BadInputError):
    """A prediction table names classes that have no probability column."""

    file: Path
    column: str
    found: tuple[str, ...]
    rows: int
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.file.name}, column {self.column!r}: {self.rows} rows say {listed(self.found)}, "
            f"but the probability columns are of {listed(self.classes)}; correct the labels, or "
            f"add a column probability:{self.found[0]}"
        )


@dataclass(eq=False)
class SchedulerError(BadInputError):
    """A Dask scheduler was named that cannot be used."""

    scheduler: str
    problem: str

    def __str__(self) -> str:
        return f"--scheduler {self.scheduler!r} {self.problem}"


@dataclass(eq=False)
class MergeUnknownError(BadInputError):
    """A protocol merges classes that no cohort has."""

    new: str
    classes: tuple[str, ...]
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"merges.{self.new} names {listed(self.classes)}, which no cohort has; "
            f"choose among {', '.join(self.found)}"
        )


@dataclass(eq=False)
class FoldRuleError(BadInputError):
    """A rule of outer folds needs a stratum that is not there, or says something else."""

    rule: str
    problem: str

    def __str__(self) -> str:
        return (
            f"folds = {self.rule!r} cannot be used: {self.problem}; name the column in the cohort "
            f"file (strata.{self.rule}), or ask for folds over patients (--folds 5)"
        )


@dataclass(eq=False)
class TooFewToTrainError(BadInputError):
    """An outer fold leaves a class too few patient clusters to train on."""

    class_: str
    clusters: int
    tested: str
    enough: tuple[str, ...]

    def __str__(self) -> str:
        left = "patient cluster is" if self.clusters == 1 else "patient clusters are"
        problem = (
            f"{self.clusters} {left} left to train class {self.class_!r} on when {self.tested} "
            f"tested, and tuning needs two"
        )
        mends = ["ask for other folds (--folds)"]
        if len(self.enough) >= 2:
            mends.append(f"leave the class out: --classes {','.join(self.enough)!r}")
        return f"{problem}; {', or '.join(mends)}"


@dataclass(eq=False)
class MetricNotComparedError(BadInputError):
    """A metric that encoders cannot be ranked by."""

    metric: str
    instead: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"encoders are not compared by {self.metric}: it has no better end, or no interval; "
            f"take one of {', '.join(self.instead)}"
        )


@dataclass(eq=False)
class ClassAbsentError(BadInputError):
    """Rows that a model would learn from hold none of a class."""

    class_: int
    training: int
    inner_fold: int

    def __str__(self) -> str:
        return (
            f"class number {self.class_} has no image in training set {self.training} without its "
            f"inner fold {self.inner_fold}, so its probability cannot be learnt there; take fewer "
            "classes (classes in the protocol), or more patients of this one"
        )


@dataclass(eq=False)
class UnsealedError(FailedWorkError):
    """A feature set that would be signed anew is not proved by its own store's manifest."""

    feature: str
    store: str

    def __str__(self) -> str:
        return (
            f"{self.feature} in {self.store} is being written, or was when a command was killed; "
            f"wait for that command, or run it again: only what a manifest proves is copied"
        )


@dataclass(eq=False)
class PackageMissingError(BadInputError):
    """Something needs a package that embedcache does not bring."""

    what: str
    package: str

    def __str__(self) -> str:
        return f"{self.what} needs {self.package}: pip install {self.package}"


@dataclass(eq=False)
class FeaturesDifferError(BadInputError):
    """Two stores hold vectors of one encoder and image that no two machines should give."""

    feature: str
    first: str
    second: str
    rows: tuple[int, ...]
    largest: float
    tolerance: float
    first_run: str
    second_run: str

    def __str__(self) -> str:
        return (
            f"{self.feature}: the vectors of {len(self.rows)} images differ by up to "
            f"{self.largest:.1e} of their length, and {self.tolerance:.0e} is what two machines "
            f"may differ by (rows {listed(self.rows)} of {self.first}, {self.first_run}; "
            f"{self.second}, {self.second_run}); find out which is wrong, or say whose count: "
            f"--prefer {self.first}"
        )


@dataclass(eq=False)
class CohortsClashError(BadInputError):
    """Two stores hold different cohorts of one name."""

    name: str
    store: str
    differ: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"both stores have a cohort {self.name!r}, and they differ in "
            f"{listed(self.differ)}; give the one of {self.store} another name: "
            f"--rename {self.name}=NEW"
        )


@dataclass(eq=False)
class NotOneOfTheStoresError(BadInputError):
    """`prefer` names neither of the stores that are merged."""

    given: str
    first: str
    second: str

    def __str__(self) -> str:
        return f"--prefer {self.given!r} is neither {self.first!r} nor {self.second!r}; name one"


@dataclass(eq=False)
class NothingLeftError(BadInputError):
    """A selection leaves no row."""

    what: str
    cohorts: tuple[str, ...]

    def __str__(self) -> str:
        return f"no row of {listed(self.cohorts)} has {self.what}; widen the selection"


@dataclass(eq=False)
class PatientsNotThereError(BadInputError):
    """Pseudonyms that no chosen cohort has."""

    pseudonyms: tuple[str, ...]
    cohorts: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"no patient of {listed(self.cohorts)} has the pseudonym "
            f"{listed(self.pseudonyms, most=3)}; give the 32 hex digits of a cohort's `patient`"
        )


@dataclass(eq=False)
class LabelsUnusableError(BadInputError):
    """New labels do not fit the cohort that they are for."""

    where: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.mend}"


@dataclass(eq=False)
class ExchangeUnusableError(BadInputError):
    """A file or folder of another format cannot be taken, or a store not given in it."""

    place: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place}: {self.problem}; {self.mend}"


@dataclass(eq=False)
class StratumValueTooLongError(BadInputError):
    """A value of a stratum has more characters than a store holds."""

    cohort: str
    stratum: str
    length: int
    most: int

    def __str__(self) -> str:
        return (
            f"stratum {self.stratum!r} of cohort {self.cohort!r} has a value of {self.length} "
            f"characters, a store holds {self.most}; a stratum names groups, leave free text out"
        )


@dataclass(eq=False)
class DocumentTooLargeError(BadInputError):
    """A document of a store would be larger than readers take."""

    key: str
    size: int
    most: int

    def __str__(self) -> str:
        return (
            f"{self.key} would have {self.size:,} bytes, a document of a store at most "
            f"{self.most:,}; use strata with fewer values, or a cohort of fewer images"
        )


@dataclass(eq=False)
class TooFewForEfficiencyError(BadInputError):
    """The rarest class has too few patients to draw even the smallest training sets from."""

    class_: str
    clusters: int
    asked: int

    def __str__(self) -> str:
        return (
            f"a training set has {self.clusters} patient clusters of class {self.class_!r}, and "
            f"{self.asked} a class would be more than half; leave the class out with --classes, "
            f"or ask for fewer (efficiency.patients in --protocol)"
        )


@dataclass(eq=False)
class FeatureIdDiffersError(BadInputError):
    """A model is asked to read features that another encoder's contract made."""

    encoder: str
    fitted: str
    there: tuple[str, ...]

    def __str__(self) -> str:
        has = f"feature id {' and '.join(self.there)}" if self.there else "no features of that name"
        return (
            f"the probe of {self.encoder} was fitted on feature id {self.fitted}, and the store "
            f"has {has}; extract the cohort with the very encoder that the probe was fitted on"
        )


@dataclass(eq=False)
class NotATableNameError(BadInputError):
    """A table was to be written under a name that chooses no format."""

    file: Path
    suffixes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file.name!r} names no table; end it in {' or '.join(self.suffixes)}"


@dataclass(eq=False)
class ElsewhereDamagedError(DamagedStoreError):
    """A part of a store that is no folder here is not what its manifest says."""

    place: str

    def __str__(self) -> str:
        return (
            f"{self.node} of {self.place} is not what its manifest says ({self.problem}): a push "
            f"to it is under way or was interrupted, or it is damaged; try again later, or push "
            f"again from a sound copy with --repair"
        )


@dataclass(eq=False)
class StoreChangedError(FailedWorkError):
    """A store became another one while it was read."""

    place: str

    def __str__(self) -> str:
        return f"{self.place} was changed while it was read; run the same command again"


@dataclass(eq=False)
class NoStoreElsewhereError(BadInputError):
    """A place holds no feature store."""

    place: str

    def __str__(self) -> str:
        return (
            f"{self.place} holds no feature store, or a first push to it is not complete; "
            f"check the address, or push again"
        )


@dataclass(eq=False)
class UnsealedElsewhereError(BadInputError):
    """A store that is to be sent, or read from elsewhere, is not proved by its manifest."""

    place: str
    nodes: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.place} is not sealed ({listed(self.nodes, most=3)}): a command writes it, or "
            f"was killed; wait for it, or run it again, for only what a manifest proves is sent"
        )


@dataclass(eq=False)
class ObjectTooLargeError(FailedWorkError):
    """An object elsewhere is larger than any that a store has."""

    place: str
    key: str
    size: int
    most: int

    def __str__(self) -> str:
        return (
            f"{self.key} of {self.place} has {self.size:,} bytes, and no object of a store more "
            f"than {self.most:,}; this is no store of ours: ask who sent it"
        )


@dataclass(eq=False)
class TransferFailedError(FailedWorkError):
    """A place elsewhere does not answer, or refuses."""

    place: str
    action: str
    reason: str
    mend: str = "the same command again goes on from there"

    def __str__(self) -> str:
        return f"{self.place} failed to {self.action} ({self.reason}); {self.mend}"


@dataclass(eq=False)
class PlaceUnusableError(BadInputError):
    """An address cannot name a place of a store."""

    place: str
    problem: str

    def __str__(self) -> str:
        return f"{self.place!r} {self.problem}"


@dataclass(eq=False)
class PlaceTakenError(BadInputError):
    """A place to push to holds something that is not of this store."""

    place: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.place} has no manifest of a store and holds {len(self.found)} other objects "
            f"({listed(self.found, most=3)}); name a place where nothing is yet"
        )


@dataclass(eq=False)
class DivergedError(BadInputError):
    """Two copies of a store were both added to, and neither holds all of the other."""

    node: str
    place: str
    problem: str
    mend: str = "pull it into a folder of its own and `embedcache store merge` the two"

    def __str__(self) -> str:
        return f"{self.node} differs from {self.place} ({self.problem}); {self.mend}"


@dataclass(eq=False)
class PublishedMeanwhileError(FailedWorkError):
    """Another command changed a store while this one was sending to it."""

    place: str

    def __str__(self) -> str:
        return (
            f"another command changed {self.place} meanwhile, so nothing was published; "
            f"run the same command again with --repair, which sends what is lacking"
        )


@dataclass(eq=False)
class PackUnusableError(BadInputError):
    """A file cannot be read as a packed store."""

    file: Path
    problem: str

    def __str__(self) -> str:
        return (
            f"{self.file.name} is no packed store ({self.problem}); take it from the sender again, "
            f"made with `embedcache store pack`"
        )


@dataclass(eq=False)
class NothingToCompareError(BadInputError):
    """A store holds nothing whose shift could be measured."""

    store: str
    lacks: str

    def __str__(self) -> str:
        return (
            f"{self.store} has {self.lacks}; extract cohorts into it first: embedcache extract "
            f"STORE --cohort … --encoder …"
        )


@dataclass(eq=False)
class FeatureNotStoredError(BadInputError):
    """A store has no features of an encoder."""

    encoder: str
    feature_id: str

    def __str__(self) -> str:
        return (
            f"the store has no features of {self.encoder} as it is here (feature id "
            f"{self.feature_id}); give the weights and variants that the store's were made with"
        )


@dataclass(eq=False)
class OptionMissingError(BadInputError):
    """One option of a command needs another."""

    given: str
    missing: str
    why: str

    def __str__(self) -> str:
        return f"{self.given} needs {self.missing}: {self.why}"


@dataclass(eq=False)
class PluginUnusableError(BadInputError):
    """A Python file that should make an encoder does not."""

    name: str
    problem: str

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.problem}; docs/how-to/bring-your-own-encoder.md shows a file "
            f"that works"
        )


@dataclass(eq=False)
class PrecisionUnsupportedError(BadInputError):
    """A device cannot compute at the precision asked for."""

    encoder: str
    precision: str
    device: str

    def __str__(self) -> str:
        return (
            f"{self.device} cannot run {self.encoder} at {self.precision}; choose another "
            f"precision or another --device"
        )


@dataclass(eq=False)
class FingerprintDiffersError(FailedWorkError):
    """Two machines' encoders of one contract give different vectors for one picture."""

    encoder: str
    distance: float
    tolerance: float
    here: str
    there: str

    def __str__(self) -> str:
        return (
            f"{self.encoder} does not give one vector for the test pattern: {self.here} and "
            f"{self.there} lie {self.distance:.2g} apart, and {self.tolerance:g} is allowed; run "
            f"both with the same versions, or keep their features in two stores"
        )


@dataclass(eq=False)
class PromptTooLongError(BadInputError):
    """A prompt has more tokens than the text half of an encoder reads."""

    prompt: str
    tokens: int
    most: int

    def __str__(self) -> str:
        return (
            f"the prompt {self.prompt[:60]!r}… has {self.tokens} tokens of {self.most}; shorten it"
        )


@dataclass(eq=False)
class NoTextError(BadInputError):
    """An encoder cannot embed prompts, so that it has no zero-shot."""

    encoder: str
    reason: str

    def __str__(self) -> str:
        return f"{self.encoder} cannot embed prompts: {self.reason}; ask for fetalclip"


@dataclass(eq=False)
class PickleRefusedError(BadInputError):
    """A pickle is none of tensors and plain containers, or damaged."""

    problem: str

    def __str__(self) -> str:
        return f"no tensors can be read: {self.problem}; fetch the file again"


@dataclass(eq=False)
class DeviceTooSmallError(FailedWorkError):
    """Not even one picture fits beside an encoder into a device's memory."""

    encoder: str
    device: str

    def __str__(self) -> str:
        return (
            f"{self.encoder} has no memory left on {self.device} for a single picture; everything "
            f"so far is kept: free some there, or give --device cpu, and run it again"
        )


@dataclass(eq=False)
class StoreNotHereError(BadInputError):
    """A command that changes a store was given one that is no folder on this machine."""

    place: str

    def __str__(self) -> str:
        return (
            f"{self.place!r} is no folder on this machine, and only a folder's store can be "
            f"changed; `embedcache store pull {self.place} FOLDER` makes it one, and `store push` "
            f"sends it back"
        )


@dataclass(eq=False)
class CompiledDiffersError(FailedWorkError):
    """torch.compile changed an encoder's vectors beyond what its precision allows."""

    encoder: str
    difference: float
    tolerance: float

    def __str__(self) -> str:
        return (
            f"compiled, {self.encoder} gives vectors that differ by {self.difference:.1g}, more "
            f"than {self.tolerance:.1g}; run it without --compile"
        )


@dataclass(eq=False)
class PromptsMissingError(BadInputError):
    """Classes that are judged have no prompts."""

    classes: tuple[str, ...]
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"no prompts for {listed(self.classes)} (there are prompts for {listed(self.found)}); "
            f"give them in a TOML file: --prompts FILE.toml"
        )


@dataclass(eq=False)
class PromptsUnknownClassError(BadInputError):
    """Prompts are of classes that no cohort has."""

    classes: tuple[str, ...]
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"there are prompts for {listed(self.classes)}, which no cohort has; "
            f"name them as the cohorts do ({listed(self.found)}), or take them out"
        )


@dataclass(eq=False)
class NotExtractedError(BadInputError):
    """A store has no image vectors that an encoder's prompts could meet."""

    encoder: str
    feature_id: str
    found: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"the store has no features of {self.encoder} (feature id {self.feature_id}; it has "
            f"{listed(self.found) or 'none'}); run embedcache extract STORE --cohort … "
            f"--encoder {self.encoder}"
        )


@dataclass(eq=False)
class DownloadFailedError(FailedWorkError):
    """A file could not be fetched."""

    address: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.address} could not be fetched: {self.reason}; {self.mend}"


@dataclass(eq=False)
class DigestDiffersError(FailedWorkError):
    """A file is another one than its digest says."""

    what: str
    expected: str
    found: str
    mend: str

    def __str__(self) -> str:
        return (
            f"{self.what} is not the file expected: its sha256 is {self.found}, not "
            f"{self.expected}; {self.mend}"
        )


@dataclass(eq=False)
class ReferenceDiffersError(BadInputError):
    """A published reference and a cohort, or its prompts, do not belong together."""

    reference: str
    problem: str

    def __str__(self) -> str:
        return (
            f"the reference {self.reference} is not about this cohort: {self.problem}; give the "
            f"whole cohort as its authors publish it, and the files of one commit"
        )


@dataclass(eq=False)
class DiskFullError(BadInputError):
    """What would be fetched does not fit."""

    place: str
    needed: int
    free: int

    def __str__(self) -> str:
        return (
            f"{self.needed / 1e6:,.0f} MB are to be fetched and {self.place} has "
            f"{self.free / 1e6:,.0f} MB free; free some, or set EMBEDCACHE_WEIGHTS to a larger disk"
        )


@dataclass(eq=False)
class EncoderFileError(BadInputError):
    """A file is no encoder file, or one that cannot be used here."""

    file: str
    problem: str
    mend: str

    def __str__(self) -> str:
        return f"{self.file} cannot be used as an encoder: {self.problem}; {self.mend}"


@dataclass(eq=False)
class SettingError(BadInputError):
    """A setting of a training lies outside what it may be."""

    setting: str
    value: str
    wanted: str

    def __str__(self) -> str:
        return f"{self.setting} is {self.value} and must be {self.wanted}; change it and run again"


@dataclass(eq=False)
class TrainingClassAbsentError(BadInputError):
    """The pictures that a network would be tuned on hold none of a class."""

    class_: str
    classes: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"class {self.class_!r} (of {listed(self.classes)}) has no image among those to tune "
            "on, so its probability cannot be learnt; take fewer classes (classes in the "
            "protocol), fewer folds, or more patients of this one"
        )


@dataclass(eq=False)
class NothingToValidateError(BadInputError):
    """A training has no pictures to stop by."""

    encoder: str

    def __str__(self) -> str:
        return (
            f"{self.encoder} would be tuned without one image to say when to stop; take more "
            "patients, so that some can be set aside inside each fold"
        )


@dataclass(eq=False)
class TrainingDivergedError(FailedWorkError):
    """A training gave a loss or a gradient that is no number."""

    encoder: str
    rate: float
    epoch: int
    step: int
    loss: float
    gradient: float
    images: tuple[str, ...]
    kept: int

    def __str__(self) -> str:
        kept = f"the checkpoint of epoch {self.kept} is kept" if self.kept else "nothing was kept"
        return (
            f"tuning {self.encoder} at rate {self.rate:g} ended in epoch {self.epoch}, step "
            f"{self.step}: loss {self.loss:g}, gradient {self.gradient:g} on images "
            f"{listed(self.images, 4)}, and {kept}; look at these images, or take a lower rate or "
            "fp32"
        )


@dataclass(eq=False)
class CheckpointDiffersError(BadInputError):
    """A folder holds the checkpoint of another training."""

    folder: str

    def __str__(self) -> str:
        return (
            f"{self.folder} holds a checkpoint of other images, settings or weights than asked "
            "for; name another folder, or delete this one"
        )


@dataclass(eq=False)
class CheckpointDamagedError(FailedWorkError):
    """A checkpoint cannot be read."""

    file: str
    problem: str

    def __str__(self) -> str:
        return (
            f"the checkpoint {self.file} cannot be read ({self.problem}); delete it, and the "
            "training begins again"
        )


@dataclass(eq=False)
class BudgetError(BadInputError):
    """A budget cannot be read."""

    given: str

    def __str__(self) -> str:
        return f"{self.given!r} is no budget; give a time such as 90m, 12h or 2d"


@dataclass(eq=False)
class BudgetTooSmallError(BadInputError):
    """Not even one encoder can be tuned in the time given."""

    hours: float
    encoder: str
    needed: float

    def __str__(self) -> str:
        return (
            f"nothing fits {self.hours:.3g} h: {self.encoder}, the quickest, takes "
            f"{self.needed:.3g} h; raise --budget, or lower --epochs or the number of learning "
            "rates (--lr)"
        )


@dataclass(eq=False)
class OtherTuningError(BadInputError):
    """A results folder holds predictions of an encoder that was tuned in another way."""

    folder: Path
    arm: str
    encoder: str

    def __str__(self) -> str:
        return (
            f"{str(self.folder)!r} holds {self.arm} predictions of {self.encoder} that was tuned "
            f"by other settings or from other weights; give another --out, the same settings, or "
            f"delete predictions/{self.arm}/{self.encoder} there"
        )


@dataclass(eq=False)
class RateNotChosenError(FailedWorkError):
    """The model that was to choose an encoder's learning rate was not made."""

    encoder: str

    def __str__(self) -> str:
        return (
            f"{self.encoder} has no learning rate yet, because the first fold's model failed; mend "
            "that and run again, or give one rate: --lr"
        )


@dataclass(eq=False)
class SchedulerGoneError(FailedWorkError):
    """The Dask scheduler that a run worked on is no longer there."""

    def __str__(self) -> str:
        return (
            "the Dask scheduler went away; what was finished is kept, and the same command goes on "
            "from there"
        )


@dataclass(eq=False)
class SystemRefusesError(FailedWorkError):
    """The operating system does not let a place be read or written."""

    place: str
    reason: str
    mend: str

    def __str__(self) -> str:
        return f"{self.place} cannot be used ({self.reason}); {self.mend}"


@dataclass(eq=False)
class NoWorkerLeftError(FailedWorkError):
    """All workers of a Dask cluster went away, and none came."""

    seconds: float

    def __str__(self) -> str:
        return (
            f"the Dask cluster has had no worker for {self.seconds:.0f} seconds; what was finished "
            "is kept: start workers, and the same command goes on from there"
        )


@dataclass(eq=False)
class CompilerFailedError(FailedWorkError):
    """torch.compile could make no kernels for an encoder's training."""

    encoder: str
    reason: str

    def __str__(self) -> str:
        return (
            f"torch.compile failed on {self.encoder} ({self.reason}); tune it with compile = false "
            "in the recipe"
        )
