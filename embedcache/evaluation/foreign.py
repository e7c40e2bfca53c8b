"""Anyone's prediction table becomes a results folder.

Columns: `image`, `cluster` or `patient`, `label`, and either `probability:CLASS` for each class or
`predicted`; optional `encoder` (else the file's name), `arm`, `cohort`, `fold`, `stratum:NAME`.
An image once with a fold is out-of-fold, once for each fold external, without fold predicted by
one model. Digests are sha256 of the image's name (statistics.md section 5); neither names nor
patients are written.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import TableOverwritesError
from embedcache.evaluation.estimands import is_home, named
from embedcache.evaluation.evaluate import evaluate
from embedcache.evaluation.foreign_rows import ForeignRows, read_rows
from embedcache.evaluation.foreign_table import read_tables
from embedcache.evaluation.gather import check_same_images
from embedcache.progress import Progress, Silent
from embedcache.protocol.clusters import cluster_images, digest_keys
from embedcache.provenance import provenance
from embedcache.results.layout import ResultsFolder, write_record
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import read_predictions, write_predictions
from embedcache.results.record import CohortRecord, Maker, Record
from embedcache.results.tables import MetricRow
from embedcache.schema import canonical_json


def evaluate_table(
    table: Path, out: Path, progress: Progress | None = None
) -> tuple[MetricRow, ...]:
    """Import a CSV or Parquet table, or a folder of them, into `out` and evaluate it.

    All is checked before anything is written.

    Raises:
        PathMissingError, NotATableError, EmptyTableError: if there is no table to read.
        TableColumnError: if a column is missing.
        BadCellsError: if cells are empty or no numbers, probabilities do not sum to one, an image
            has two labels, or rows repeat.
        TableClassError: if a label is none of the classes.
        MixedFoldsError: if the folds follow no rule.
        DifferentImagesError: if encoders were judged on different images.
        ProtocolDiffersError, TableOverwritesError: if `out` holds something else.
    """
    progress = progress or Silent()
    rows = read_rows(read_tables(table), progress)
    image = _digests(rows.image)
    parts = list(_predictions(rows, image))
    for part in parts:
        is_home(part)
    cohorts = list(dict.fromkeys(part.cohort for part in parts))
    for cohort in cohorts:
        check_same_images([part for part in parts if part.cohort == cohort])
    folder = ResultsFolder(out)
    record = Record(
        protocol=None,
        classes=rows.classes,
        folds_sha256="",
        cohorts=tuple(_cohort_record(rows, parts, cohort) for cohort in cohorts),
        provenance=provenance(),
    )
    _write(folder, record, parts)
    return evaluate(out, progress)


def _write(folder: ResultsFolder, record: Record, parts: Sequence[Predictions]) -> None:
    units: dict[tuple[str, str], list[Predictions]] = {}
    for part in parts:
        units.setdefault((part.maker.arm, part.maker.encoder), []).append(part)
    files = {
        arm: folder.predictions_of(*arm) / f"{_unit(members)}.parquet"
        for arm, members in units.items()
    }
    there = {(part.maker.arm, part.maker.encoder) for part in read_predictions(folder)}
    for arm, file in files.items():
        if arm in there and not file.exists():
            raise TableOverwritesError(folder.path, named(units[arm][0]))
    write_record(folder, record)
    for arm, file in files.items():
        write_predictions(file, units[arm])


def _digests(names: NDArray[np.str_]) -> NDArray[np.uint8]:
    """Sha256 of each image's name, (n, 32) uint8."""
    distinct, index = np.unique(names, return_inverse=True)
    digests = b"".join(hashlib.sha256(name.encode("utf-8")).digest() for name in distinct.tolist())
    return np.frombuffer(digests, np.uint8).reshape(-1, 32)[index]


def _predictions(rows: ForeignRows, image: NDArray[np.uint8]) -> Iterator[Predictions]:
    """One value for each arm, encoder and cohort, in the order in which they first stand."""
    for cohort in dict.fromkeys(rows.cohort.tolist()):
        inside = np.flatnonzero(rows.cohort == cohort)
        cluster = cluster_images(image[inside], rows.patient[inside])
        arms = list(zip(rows.arm[inside].tolist(), rows.encoder[inside].tolist(), strict=True))
        for arm, encoder in dict.fromkeys(arms):
            chosen = (rows.arm[inside] == arm) & (rows.encoder[inside] == encoder)
            taken = inside[chosen]
            yield Predictions(
                maker=Maker(encoder=encoder, arm=arm),
                cohort=cohort,
                classes=rows.classes,
                image=image[taken],
                label=rows.label[taken],
                cluster=cluster[chosen],
                predicted=rows.predicted[taken],
                probability=None if rows.probability is None else rows.probability[taken],
                fold=rows.fold[taken],
                strata={name: values[taken] for name, values in rows.strata.items()},
            )


def _cohort_record(rows: ForeignRows, parts: Sequence[Predictions], cohort: str) -> CohortRecord:
    inside = rows.cohort == cohort
    images = len(np.unique(rows.image[inside]))
    return CohortRecord(
        name=cohort,
        reader="",
        citation="",
        licence="",
        synthetic=False,
        rows=images,
        images=images,
        patients=len(np.unique(rows.patient[inside])),
        clusters=int(max(part.cluster.max() for part in parts if part.cohort == cohort)) + 1,
        strata=tuple(sorted(rows.strata)),
        left_out={},
    )


def _unit(parts: Sequence[Predictions]) -> str:
    """Name the unit by the sha256 of every value in it, in order of digest."""
    total = hashlib.sha256(canonical_json((parts[0].maker, parts[0].classes)))
    for part in sorted(parts, key=lambda part: part.cohort):
        order = np.lexsort((digest_keys(part.image), part.fold))
        integers = (part.label, part.cluster, part.predicted, part.fold)
        total.update(canonical_json((part.cohort, tuple(sorted(part.strata)))))
        total.update(part.image[order].tobytes())
        for column in integers:
            total.update(column[order].astype("<i8").tobytes())
        if part.probability is not None:
            total.update(part.probability[order].astype("<f8").tobytes())
        for name in sorted(part.strata):
            total.update(canonical_json(part.strata[name][order].tolist()))
    return total.hexdigest()
