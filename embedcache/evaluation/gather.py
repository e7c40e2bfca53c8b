"""From a results folder to evaluands: complete, on the same images, in order of digest.

An encoder whose units are not all there (a killed run) is left out and named. Encoders of one
cohort must have judged the same images: paired differences would be wrong otherwise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import (
    ClashingUnitsError,
    DifferentImagesError,
    NothingToEvaluateError,
    PredictionsFileError,
)
from embedcache.evaluation.estimands import (
    REFIT,
    evaluands,
    is_home,
    named,
    patients_in_two_folds,
)
from embedcache.evaluation.evaluand import Evaluand
from embedcache.protocol.clusters import digest_keys, number_clusters
from embedcache.protocol.protocol import Protocol
from embedcache.results.folds_file import read_folds
from embedcache.results.layout import ResultsFolder, read_record
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import read_predictions
from embedcache.results.record import Record
from embedcache.schema import shown

#: Marks in notes, in tables and wherever numbers show.
RANDOM_WEIGHTS = "RANDOM WEIGHTS"
SYNTHETIC = "SYNTHETIC"
TOO_GOOD = "too good"
#: Arms that make a model of all training images only where asked: it takes as long as a fold's.
WITHOUT_REFIT = frozenset({"fine-tune", "tune-head", "lora"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Incomplete:
    """An encoder that is left out because units are missing.

    Attributes:
        arm: of the encoder.
        encoder: its reference.
        missing: what is not there, such as `fold 3 of spain`.
    """

    arm: str
    encoder: str
    missing: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"{self.encoder} ({self.arm}) is left out, it lacks {', '.join(self.missing)}; "
            "run the command that made it again, it goes on where it stopped"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """All that a results folder has to evaluate.

    Attributes:
        record: its protocol.json.
        evaluands: by arm, encoder, cohort (in the record's order), estimand, class rule.
        incomplete: encoders left out.
    """

    record: Record
    evaluands: tuple[Evaluand, ...]
    incomplete: tuple[Incomplete, ...]


def gather(folder: ResultsFolder) -> Gathered:
    """Read, check and order all predictions of a results folder.

    Raises:
        NothingToEvaluateError: if no encoder is complete.
        PredictionsFileError: if a file is damaged, or of a cohort that protocol.json lacks.
        ClashingUnitsError: if two units predict the same image in the same fold.
        DifferentImagesError: if encoders disagree in a cohort's images, labels or patients.
        MixedFoldsError: if a foreign table's folds follow no rule.
    """
    record = read_record(folder)
    arms = _by_arm(read_predictions(folder))
    incomplete = () if record.protocol is None else _incomplete(arms, record.protocol, folder)
    for left_out in incomplete:
        del arms[left_out.arm, left_out.encoder]
    if not arms:
        raise NothingToEvaluateError(folder.path, tuple(str(line) for line in incomplete))
    order = [cohort.name for cohort in record.cohorts]
    strange = sorted({cohort for parts in arms.values() for cohort in parts} - set(order))
    if strange:
        problem = f"holds predictions of {shown(strange[0])}, which protocol.json does not know"
        raise PredictionsFileError(folder.predictions, problem)
    for cohort in order:
        check_same_images([parts[cohort] for parts in arms.values() if cohort in parts])
    found = (
        evaluand
        for _, parts in sorted(arms.items())
        for cohort in sorted(parts, key=order.index)
        for evaluand in _estimands(parts[cohort], record)
    )
    return Gathered(record=record, evaluands=tuple(found), incomplete=incomplete)


def check_same_images(parts: Sequence[Predictions]) -> None:
    """Refuse encoders that did not judge the same images of a cohort under the same labels.

    Raises:
        DifferentImagesError: naming two encoders and the first difference.
    """
    for part in parts[1:]:
        difference = _difference(parts[0], part)
        if difference:
            raise DifferentImagesError(part.cohort, named(parts[0]), named(part), difference)


def check_same_rows(group: Sequence[Evaluand]) -> None:
    """Refuse to pair evaluands of different folders whose images, labels or patients differ.

    Raises:
        DifferentImagesError: naming two encoders and the first field that differs.
    """
    for evaluand in group[1:]:
        for field in ("image", "label", "cluster", "site"):
            if not np.array_equal(getattr(group[0], field), getattr(evaluand, field)):
                first, second = (f"{one.encoder} ({one.arm})" for one in (group[0], evaluand))
                raise DifferentImagesError(
                    evaluand.cohort, first, second, f"their {field}s are not the same"
                )


def _by_arm(units: Iterable[Predictions]) -> dict[tuple[str, str], dict[str, Predictions]]:
    found: dict[tuple[str, str], dict[str, list[Predictions]]] = {}
    for unit in units:
        cohorts = found.setdefault((unit.maker.arm, unit.maker.encoder), {})
        cohorts.setdefault(unit.cohort, []).append(unit)
    return {
        arm: {cohort: _merged(parts) for cohort, parts in cohorts.items()}
        for arm, cohorts in found.items()
    }


def _merged(parts: Sequence[Predictions]) -> Predictions:
    """Put the units of one encoder and cohort together, by fold, then digest."""
    first = parts[0]
    probability = [part.probability for part in parts if part.probability is not None]
    image = np.concatenate([part.image for part in parts])
    fold = np.concatenate([part.fold for part in parts])
    order = np.lexsort((digest_keys(image), fold))
    key, fold = digest_keys(image)[order], fold[order]
    twice = (key[1:] == key[:-1]) & (fold[1:] == fold[:-1])
    if twice.any():
        raise ClashingUnitsError(
            named(first), first.cohort, int(fold[1:][twice][0]), int(twice.sum())
        )
    strata = set.intersection(*(set(part.strata) for part in parts))
    return dataclasses.replace(
        first,
        image=image[order],
        fold=fold,
        label=np.concatenate([part.label for part in parts])[order],
        cluster=np.concatenate([part.cluster for part in parts])[order],
        predicted=np.concatenate([part.predicted for part in parts])[order],
        probability=np.concatenate(probability)[order] if probability else None,
        strata={
            name: np.concatenate([part.strata[name] for part in parts])[order]
            for name in sorted(strata)
        },
    )


def _incomplete(
    arms: Mapping[tuple[str, str], Mapping[str, Predictions]],
    protocol: Protocol,
    folder: ResultsFolder,
) -> tuple[Incomplete, ...]:
    tested = read_folds(folder).fold[:, 0]
    tested = tested[tested != REFIT]
    found = (
        Incomplete(
            arm=arm,
            encoder=encoder,
            missing=tuple(_missing(parts, protocol, tested, refit=arm not in WITHOUT_REFIT)),
        )
        for (arm, encoder), parts in sorted(arms.items())
    )
    return tuple(left_out for left_out in found if left_out.missing)


def _missing(
    parts: Mapping[str, Predictions], protocol: Protocol, tested: NDArray[np.int8], *, refit: bool
) -> Iterator[str]:
    """What an encoder lacks; `tested` is the fold of each training image that is tested."""
    folds = set(tested.tolist())
    for cohort in (protocol.train, *protocol.external):
        part = parts.get(cohort)
        there = set() if part is None else set(part.fold.tolist())
        for fold in sorted(folds - there):
            yield f"fold {fold} of {cohort}"
        if refit and cohort != protocol.train and REFIT not in there:
            yield f"the refit on {cohort}"
    home = parts.get(protocol.train)
    if home is not None and folds <= set(home.fold.tolist()):
        short = len(tested) - int((home.fold != REFIT).sum())
        if short:
            yield f"{short} images of {protocol.train}"


def _difference(first: Predictions, second: Predictions) -> str:
    """The first way in which two encoders' images differ, in words; empty where they agree."""
    keys = [np.unique(digest_keys(part.image), return_index=True) for part in (first, second)]
    (image, at), (other_image, other_at) = keys
    extra, lacking = np.setdiff1d(other_image, image), np.setdiff1d(image, other_image)
    if len(extra) or len(lacking):
        example = bytes((extra if len(extra) else lacking)[0]).ljust(32, b"\0").hex()[:16]
        return f"{len(lacking)} images only the first, {len(extra)} only the second ({example}…)"
    labels = first.label[at] != second.label[other_at]
    if labels.any():
        return f"{int(labels.sum())} images have another label"
    clusters = [
        number_clusters(part.image[rows], part.cluster[rows])
        for part, rows in ((first, at), (second, other_at))
    ]
    patients = clusters[0] != clusters[1]
    return f"{int(patients.sum())} images have another patient" if patients.any() else ""


def _estimands(part: Predictions, record: Record) -> Iterator[Evaluand]:
    protocol = record.protocol
    home = is_home(part) if protocol is None else part.cohort == protocol.train
    return evaluands(part, home=home, notes=tuple(_notes(part, record, home=home)))


def _notes(part: Predictions, record: Record, *, home: bool) -> Iterator[str]:
    if part.maker.contract is not None and part.maker.contract.random_weights:
        yield RANDOM_WEIGHTS
    if any(cohort.synthetic for cohort in record.cohorts if cohort.name == part.cohort):
        yield SYNTHETIC
    shared = patients_in_two_folds(part) if home else 0
    if shared:
        yield f"{TOO_GOOD}: {shared} patients have images in two folds, in training and in test"
