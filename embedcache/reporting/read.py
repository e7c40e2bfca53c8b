"""From results folders to `Evidence`: the only part of the room that reads files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from embedcache.errors import OtherProtocolError
from embedcache.evaluation.compare import compare, differences
from embedcache.evaluation.estimands import patients_in_two_folds
from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.evaluate import evaluate
from embedcache.evaluation.gather import Gathered, gather
from embedcache.progress import Progress, Silent
from embedcache.protocol.clusters import digest_keys
from embedcache.reporting.evidence import (
    HEADLINE,
    PRIMARY,
    Audit,
    Confusion,
    EncoderMap,
    Evidence,
    Place,
    Who,
    who,
)
from embedcache.results.curves_file import read_curves
from embedcache.results.layout import ResultsFolder, open_results, read_record
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import read_predictions
from embedcache.results.record import Maker, Record
from embedcache.results.rows_file import read_comparisons, read_metrics, read_reliability
from embedcache.results.shift_file import (
    Agreement,
    EncoderShift,
    map_file,
    read_map,
    read_shift,
    shift_file,
)
from embedcache.results.tables import ComparisonRow, MetricRow, ReliabilityRow
from embedcache.schema import read_csv_rows


def read_evidence(results: Sequence[Path], progress: Progress | None = None) -> Evidence:
    """Read results folders of one protocol; what is missing or out of date is computed first.

    Raises:
        OtherProtocolError: if the folders do not share folds, classes and cohorts.
        BadInputError: as reading, evaluating and comparing raise it.
    """
    progress = progress or Silent()
    folders = [open_results(path) for path in results]
    record = common_record(folders)
    metrics = tuple(row for folder in folders for row in _metrics(folder, progress))
    comparisons = _comparisons(folders, progress)
    gathered = [gather(folder) for folder in folders]
    evaluands = headline_evaluands(gathered)
    units = [part for folder in folders for part in read_predictions(folder)]
    return Evidence(
        record=record,
        makers=_makers(units, {(arm, encoder) for arm, encoder, _ in evaluands}),
        metrics=metrics,
        comparisons=comparisons,
        confusions=tuple(confusion(item, record.classes) for item in evaluands.values()),
        sites=_sites(evaluands.values()),
        audit=audit(evaluands.values(), units),
        left_out=tuple(str(line) for part in gathered for line in part.incomplete),
        reliability=tuple(row for folder in folders for row in _reliability(folder)),
        look_alike=max(map(_look_alike, folders)),
        curves=tuple(curve for folder in folders for curve in read_curves(folder)),
        **_shift(folders),
    )


def common_record(folders: Sequence[ResultsFolder]) -> Record:
    """Read the record that folders share; provenance is that of the first.

    Raises:
        OtherProtocolError: naming two folders and what differs.
    """
    first, *others = [read_record(folder) for folder in folders]
    for folder, record in zip(folders[1:], others, strict=True):
        for field in ("classes", "folds_sha256", "cohorts"):
            if getattr(record, field) != getattr(first, field):
                raise OtherProtocolError(folders[0].path, folder.path, field)
    return first


def _metrics(folder: ResultsFolder, progress: Progress) -> tuple[MetricRow, ...]:
    if not _newer(folder.metrics_file, folder.prediction_files()):
        return evaluate(folder.path, progress)
    return read_metrics(folder)


def _comparisons(folders: Sequence[ResultsFolder], progress: Progress) -> tuple[ComparisonRow, ...]:
    if len(folders) > 1:
        return differences([folder.path for folder in folders], PRIMARY, progress)
    (folder,) = folders
    if not _newer(folder.comparisons_file, (folder.metrics_file,)):
        return compare([folder.path], PRIMARY, progress)
    kept = read_comparisons(folder)
    asked = {row.metric for row in kept if row.kind == "pair"}
    if asked and PRIMARY not in asked:
        # Someone compared by another metric: their table stays.
        return differences([folder.path], PRIMARY, progress)
    return kept


def _reliability(folder: ResultsFolder) -> tuple[ReliabilityRow, ...]:
    return read_reliability(folder) if folder.reliability_file.is_file() else ()


def _look_alike(folder: ResultsFolder) -> int:
    """Pairs that probing listed; without a file there were none, or no thumbnails to tell by."""
    if not folder.near_duplicates_file.is_file():
        return 0
    return max(len(read_csv_rows(folder.near_duplicates_file)) - 1, 0)


def _shift(folders: Sequence[ResultsFolder]) -> dict[str, Any]:
    """What `shift` left in any folder, each encoder once; nothing where nobody asked."""
    asked = [folder for folder in folders if shift_file(folder).is_file()]
    encoders: dict[str, EncoderShift] = {}
    agreement: dict[tuple[str, str, str], Agreement] = {}
    maps: dict[str, EncoderMap] = {}
    for folder in asked:
        found = read_shift(folder)
        agreement |= {(one.encoder, one.other, one.cohort): one for one in found.agreement}
        for one in found.encoders:
            encoders[one.encoder] = one
            _, points = read_map(map_file(folder, one.unit))
            maps[one.encoder] = EncoderMap(shift=one, points=points)
    return {
        "shift": tuple(encoders.values()),
        "agreement": tuple(agreement.values()),
        "maps": tuple(maps.values()),
    }


def _newer(made: Path, sources: Iterable[Path]) -> bool:
    if not made.is_file():
        return False
    when = made.stat().st_mtime_ns
    return all(source.stat().st_mtime_ns <= when for source in sources)


def headline_evaluands(gathered: Sequence[Gathered]) -> dict[Place, Evaluand]:
    """Pick for each arm, encoder and cohort what the page leads with."""
    found: dict[Place, Evaluand] = {}
    everything = [item for part in gathered for item in part.evaluands]
    for item in sorted(everything, key=_preference, reverse=True):
        found[(item.arm, item.encoder, item.cohort)] = item  # the most preferred comes last
    return {place: found[place] for place in sorted(found)}


def _preference(item: Evaluand) -> tuple[int, bool]:
    return HEADLINE.index(item.estimand), item.class_rule != "restricted"


def _makers(units: Iterable[Predictions], shown: set[Who]) -> tuple[Maker, ...]:
    # Settings differ between folds; the page speaks of all of them.
    makers = {who(part.maker): replace(part.maker, settings=None) for part in units}
    return tuple(makers[name] for name in sorted(makers) if name in shown)


def confusion(item: Evaluand, classes: tuple[str, ...]) -> Confusion:
    """Count who was taken for what, on the record's classes; fold models are summed."""
    c = len(classes)
    index = np.array([classes.index(name) for name in item.classes])
    label, predicted = index[item.label], index[item.predicted]
    counts = np.zeros((c, c), np.int64)
    np.add.at(counts, (np.broadcast_to(label, predicted.shape), predicted), 1)
    pairs = np.unique(np.stack([label, item.cluster]), axis=1)
    return Confusion(
        arm=item.arm,
        encoder=item.encoder,
        cohort=item.cohort,
        counts=counts,
        images=np.bincount(label, minlength=c),
        clusters=np.bincount(pairs[0], minlength=c),
    )


def _sites(evaluands: Iterable[Evaluand]) -> dict[str, int]:
    return {
        item.cohort: len(np.unique(item.strata["site"]))
        for item in evaluands
        if "site" in item.strata
    }


def audit(evaluands: Iterable[Evaluand], units: Sequence[Predictions]) -> Audit:
    """Look for patients in two folds and for training images abroad, whoever made the rows."""
    listed = tuple(evaluands)
    homes = {item.cohort for item in listed if item.estimand == "oof"}
    trained = {
        key for item in listed if item.cohort in homes for key in digest_keys(item.image).tolist()
    }
    shared = {
        item.cohort: len(trained.intersection(digest_keys(item.image).tolist()))
        for item in listed
        if item.cohort not in homes
    }
    return Audit(
        split_clusters=max(map(patients_in_two_folds, _whole(units, homes)), default=0),
        shared_images={cohort: number for cohort, number in shared.items() if number},
    )


def _whole(units: Sequence[Predictions], homes: set[str]) -> Iterable[Predictions]:
    """Join the units of each encoder on a cross-validated cohort, clusters and folds alone."""
    groups: dict[Place, list[Predictions]] = {}
    for part in units:
        if part.cohort in homes:
            groups.setdefault((*who(part.maker), part.cohort), []).append(part)
    for parts in groups.values():
        yield replace(
            parts[0],
            cluster=np.concatenate([part.cluster for part in parts]),
            fold=np.concatenate([part.fold for part in parts]),
        )
