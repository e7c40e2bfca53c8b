"""From results folders to `Evidence`: the only part of the room that reads files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import OtherProtocolError
from embedcache.evaluation.compare import compare
from embedcache.evaluation.evaluate import evaluate
from embedcache.protocol.clusters import digest_keys
from embedcache.reporting.evidence import Audit, Confusion, Evidence, Who, who
from embedcache.results.layout import ResultsFolder, open_results, read_record
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import read_predictions
from embedcache.results.record import Maker, Record
from embedcache.results.rows_file import read_comparisons, read_metrics
from embedcache.results.tables import ComparisonRow, MetricRow

#: arm, encoder, cohort
Place = tuple[str, str, str]


def read_evidence(results: Sequence[Path]) -> Evidence:
    """Read results folders of one protocol; what is missing or out of date is computed first.

    Raises:
        OtherProtocolError: if the folders do not share folds, classes and cohorts.
        BadInputError: as reading, evaluating and comparing raise it.
    """
    folders = [open_results(path) for path in results]
    record = _common_record(folders)
    metrics = tuple(row for folder in folders for row in _metrics(folder))
    comparisons = _comparisons(folders)
    merged = merge(part for folder in folders for part in read_predictions(folder))
    return Evidence(
        record=record,
        makers=tuple(_makers(merged)),
        metrics=metrics,
        comparisons=comparisons,
        confusions=tuple(confusion(part) for part in merged.values()),
        sites=_sites(merged.values()),
        audit=audit(merged.values()),
    )


def _common_record(folders: Sequence[ResultsFolder]) -> Record:
    first, *others = [read_record(folder) for folder in folders]
    for folder, record in zip(folders[1:], others, strict=True):
        for field in ("classes", "folds_sha256", "cohorts"):
            if getattr(record, field) != getattr(first, field):
                raise OtherProtocolError(folders[0].path, folder.path, field)
    return first


def _metrics(folder: ResultsFolder) -> tuple[MetricRow, ...]:
    if not _newer(folder.metrics_file, folder.prediction_files()):
        return evaluate(folder.path)
    return read_metrics(folder)


def _comparisons(folders: Sequence[ResultsFolder]) -> tuple[ComparisonRow, ...]:
    if len(folders) > 1:
        return compare([folder.path for folder in folders])
    (folder,) = folders
    if not _newer(folder.comparisons_file, (folder.metrics_file,)):
        return compare([folder.path])
    return read_comparisons(folder)


def _newer(made: Path, sources: Iterable[Path]) -> bool:
    if not made.is_file():
        return False
    when = made.stat().st_mtime_ns
    return all(source.stat().st_mtime_ns <= when for source in sources)


def merge(parts: Iterable[Predictions]) -> dict[Place, Predictions]:
    """Join the units of each arm, encoder and cohort, and keep what the headline rests on.

    Where fold models predict, their rows stand; a model of all training data only where there are
    none (statistics.md section 1).
    """
    groups: dict[Place, list[Predictions]] = defaultdict(list)
    for part in parts:
        groups[(part.maker.arm, part.maker.encoder, part.cohort)].append(part)
    return {place: _joined(groups[place]) for place in sorted(groups)}


def _joined(parts: list[Predictions]) -> Predictions:
    first = parts[0]
    fold = np.concatenate([part.fold for part in parts])
    kept = fold >= 0 if (fold >= 0).any() else np.ones(len(fold), np.bool_)
    probability = [part.probability for part in parts if part.probability is not None]
    strata = {
        name: np.concatenate([part.strata[name] for part in parts])[kept]
        for name in first.strata
        if all(name in part.strata for part in parts)
    }
    return replace(
        first,
        image=np.concatenate([part.image for part in parts])[kept],
        label=np.concatenate([part.label for part in parts])[kept],
        cluster=np.concatenate([part.cluster for part in parts])[kept],
        predicted=np.concatenate([part.predicted for part in parts])[kept],
        probability=np.concatenate(probability)[kept] if len(probability) == len(parts) else None,
        fold=fold[kept],
        strata=strata,
    )


def _makers(merged: dict[Place, Predictions]) -> Iterable[Maker]:
    makers: dict[Who, Maker] = {}
    for part in merged.values():
        # Settings differ between folds; a page speaks of all of them.
        makers.setdefault(who(part.maker), replace(part.maker, settings=None))
    return makers.values()


def confusion(part: Predictions) -> Confusion:
    """Count who was taken for what, among the classes that occur in the cohort."""
    c = len(part.classes)
    counts = np.zeros((c, c), np.int64)
    np.add.at(counts, (part.label, restricted(part)), 1)
    seen = first_of_each(part.image)
    images = np.bincount(part.label[seen], minlength=c)
    pairs = np.unique(np.stack([part.label.astype(np.int64), part.cluster]), axis=1)
    return Confusion(
        arm=part.maker.arm,
        encoder=part.maker.encoder,
        cohort=part.cohort,
        counts=counts,
        images=images,
        clusters=np.bincount(pairs[0], minlength=c),
    )


def restricted(part: Predictions) -> NDArray[np.int64]:
    """Predict among the classes that occur; without probabilities the table's own prediction."""
    if part.probability is None:
        return part.predicted.astype(np.int64)
    present = np.unique(part.label).astype(np.int64)
    # Ties go to the lowest class (statistics.md section 2), as argmax does.
    return present[part.probability[:, present].argmax(axis=1)]


def first_of_each(image: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Find the first row of each distinct image: (n, 32) uint8 -> (distinct,)."""
    _, first = np.unique(digest_keys(image), return_index=True)
    return first


def _sites(parts: Iterable[Predictions]) -> dict[str, int]:
    return {
        part.cohort: len(np.unique(part.strata["site"])) for part in parts if "site" in part.strata
    }


def audit(parts: Iterable[Predictions]) -> Audit:
    """Look for patients in two folds and for training images abroad, whoever made the rows."""
    listed = tuple(parts)
    inside = [part for part in listed if _cross_validated(part)]
    homes = {part.cohort for part in inside}
    trained = np.concatenate([digest_keys(part.image) for part in inside] or [np.empty(0, "S32")])
    shared: dict[str, int] = {}
    for part in listed:
        if part.cohort not in homes:
            found = int(np.isin(np.unique(digest_keys(part.image)), trained).sum())
            shared[part.cohort] = max(shared.get(part.cohort, 0), found)
    return Audit(
        split_clusters=max((_split(part) for part in inside), default=0),
        shared_images={cohort: number for cohort, number in shared.items() if number},
    )


def _cross_validated(part: Predictions) -> bool:
    once = len(first_of_each(part.image)) == len(part.image)
    return once and bool((part.fold >= 0).all())


def _split(part: Predictions) -> int:
    pairs = np.unique(np.stack([part.cluster, part.fold.astype(np.int64)]), axis=1)
    _, folds = np.unique(pairs[0], return_counts=True)
    return int((folds > 1).sum())
