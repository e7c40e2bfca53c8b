"""From one store into another: images, cohorts and vectors, each row where its image lies there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedcache.progress import Stage
from embedcache.store.feature_set import FeatureAttributes, FeatureSet, Run
from embedcache.store.image_table import ImageTable
from embedcache.store.layout import VECTOR_ROWS
from embedcache.store.lease import FeatureLease
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.vectors import Vectors
from embedcache.store.writer import StoreWriter

#: Bytes of vectors held at once; whole chunks of them are read and written.
MEMORY = 1 << 27


def copy_images(
    writer: StoreWriter,
    images: ImageTable,
    rows: NDArray[np.int64],
    digest: NDArray[np.uint8] | None = None,
) -> NDArray[np.int64]:
    """Enter images into another store's table.

    Args:
        writer: of the other store.
        images: the n images of this one.
        rows: which of them, (k,) int64.
        digest: what to call them instead of their digest, (k, 32) uint8.

    Returns:
        (n,) int64: the row of each image there; -1: not entered.
    """
    there = np.full(len(images), -1, np.int64)
    there[rows] = writer.add_images(
        images.digest[rows] if digest is None else digest,
        images.size[rows],
        [images.formats[code] for code in images.format[rows]],
        [images.modes[code] for code in images.mode[rows]],
    )
    return there


def moved_cohort(cohort: StoredCohort, there: NDArray[np.int64]) -> StoredCohort:
    """The same cohort by the rows of another table; `there` as `copy_images` gives it."""
    row = np.where(cohort.row >= 0, there[cohort.row], -1) if len(there) else cohort.row
    return replace(cohort, row=row)


def moved_run(run: Run, there: NDArray[np.int64]) -> Run:
    """The same run; rows that the other table lacks are left out."""
    halved = None if run.halved is None else _moved_rows(run.halved, there)
    return replace(run, failed=_moved_rows(run.failed, there), halved=halved or None)


def _moved_rows(
    rows: dict[str, tuple[int, ...]], there: NDArray[np.int64]
) -> dict[str, tuple[int, ...]]:
    moved = {
        key: tuple(sorted(int(there[row]) for row in found if there[row] >= 0))
        for key, found in rows.items()
    }
    return {key: found for key, found in moved.items() if found}


def lease_like(writer: StoreWriter, one: FeatureSet | FeatureAttributes) -> FeatureLease:
    """The lease of a feature set that says of itself what this one does."""
    return writer.lease(
        one.contract,
        name=one.name,
        licence=one.licence,
        citation=one.citation,
        batch=one.batch,
        fingerprint=one.fingerprint,
        overlap=one.overlap,
    )


def copy_vectors(
    lease: FeatureLease,
    vectors: Vectors,
    rows: NDArray[np.int64],
    there: NDArray[np.int64],
    stage: Stage,
) -> None:
    """Copy vectors to the bit, in the order of the rows that they get.

    Args:
        lease: of the feature set there; it has recorded a run.
        vectors: proved, so that nothing is signed that was damaged.
        rows: done rows here, (k,) int64.
        there: (n,) int64 as `copy_images` gives it.
        stage: counts rows.

    Raises:
        DamagedRowsError: if a vector is not what the manifest says.
    """
    ordered = rows[np.argsort(there[rows], kind="stable")]
    for block in blocks(ordered, vectors.layout.width or 1):
        read = vectors.read(block)
        lease.put(there[block], read.astype(np.float32, copy=False))
        stage.advance(len(block))


def blocks(rows: NDArray[np.int64], dim: int) -> Iterable[NDArray[np.int64]]:
    """Cut rows into parts whose vectors fit in `MEMORY`, whole chunks long."""
    most = max(MEMORY // (dim * 4) // VECTOR_ROWS, 1) * VECTOR_ROWS
    return (rows[start : start + most] for start in range(0, len(rows), most))
