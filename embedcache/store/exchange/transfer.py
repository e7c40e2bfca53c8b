"""Out of a store and into a new one, whatever the format."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache import registry
from embedcache.errors import (
    CohortsClashError,
    ExchangeUnusableError,
    FileInTheWayError,
    PathMissingError,
    StoreAccessError,
)
from embedcache.progress import Progress, Silent, Stage
from embedcache.store.copying import copy_images, lease_like, moved_cohort, moved_run
from embedcache.store.exchange.format import Claims, Exchange, FeatureTable
from embedcache.store.feature_set import FeatureAttributes
from embedcache.store.image_table import ImageTable
from embedcache.store.objects import Root, reason_of
from embedcache.store.reader import FeatureStore, open_store
from embedcache.store.staging import new_store
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.vectors import Vectors
from embedcache.store.writer import StoreWriter


def export_features(
    store: Root, encoder: str, out: Path, *, to: str, cohorts: Sequence[str] = ()
) -> FeatureTable:
    """Write one encoder's features of a store in another format; returns what was written.

    Args:
        store: the store.
        encoder: reference such as `NAME` or `NAME#ID`.
        out: file or folder; nothing may be there.
        to: name of the format.
        cohorts: whose images; empty: all of the store.

    Raises:
        UnknownNameError, AmbiguousNameError: if there is no such format, encoder or cohort.
        ExchangeUnusableError: if the format can only be read.
        FileInTheWayError: if something is at `out`.
        UnsealedError, DamagedRowsError: if the features are not as the manifest says.
        StoreAccessError: if the system refuses.
    """
    exchange: Exchange = registry.load("exchange", to)
    if exchange.export is None:
        raise ExchangeUnusableError(to, "this format can only be imported", "name another: --to")
    if out.exists():
        raise FileInTheWayError("the export", out)
    table = feature_table(open_store(store), encoder, cohorts)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        exchange.export(table, out)
    except OSError as error:
        raise StoreAccessError("write", out.name, reason_of(error)) from error
    return table


def load_features(place: Path, *, form: str, claims: Claims | None = None) -> FeatureTable:
    """Read features of another format.

    Args:
        place: file or folder.
        form: name of the format.
        claims: what the format does not say itself.

    Raises:
        UnknownNameError: if there is no such format.
        PathMissingError: if nothing is there.
        ExchangeUnusableError: if it cannot be taken, or claims are lacking or not wanted.
    """
    exchange: Exchange = registry.load("exchange", form)
    if not place.exists():
        raise PathMissingError("the export", place)
    if exchange.claims and claims is None:
        problem = f"{form} does not say whose features it holds"
        mend = "give --encoder, --cohort, --patient-column and --images"
        raise ExchangeUnusableError(place.name, problem, mend)
    if claims is not None and not exchange.claims:
        problem = f"{form} says itself what it holds"
        mend = "leave --encoder, --cohort, --patient-column, --images and --classes out"
        raise ExchangeUnusableError(place.name, problem, mend)
    return exchange.load(place, claims)


def import_features(
    tables: Sequence[FeatureTable], out: Path, progress: Progress | None = None
) -> None:
    """Write features that were loaded to a new store, where nothing may be.

    Raises:
        FileInTheWayError: if something is there.
        CohortsClashError: if two tables have different cohorts of one name.
        RowsDifferError: if they have different vectors of one encoder and image.
        VectorsUnusableError: if a vector is not finite.
    """
    total = sum(table.vectors.shape[0] for table in tables)
    with (
        new_store(out) as writer,
        (progress or Silent()).stage("importing", total, "vectors") as stage,
    ):
        for table in tables:
            _import(writer, table, stage)


def feature_table(store: FeatureStore, encoder: str, cohorts: Sequence[str] = ()) -> FeatureTable:
    """One feature set of a store with its images and cohorts; vectors are read when asked for."""
    one = store.select(encoder)
    chosen = [store.cohort(name) for name in cohorts or store.cohorts()]
    wanted = np.full(len(store), not cohorts)
    for cohort in chosen:
        wanted[cohort.row[cohort.row >= 0]] = True
    done = store.done(one.id)
    order = np.concatenate([np.flatnonzero(wanted & done), np.flatnonzero(wanted & ~done)])
    there = np.full(len(store), -1, np.int64)
    there[order] = np.arange(len(order))
    return FeatureTable(
        about=FeatureAttributes(
            contract=one.contract,
            name=one.name,
            licence=one.licence,
            citation=one.citation,
            batch=one.batch,
            fingerprint=one.fingerprint,
            overlap=one.overlap,
        ),
        runs=tuple(moved_run(run, there) for run in one.runs),
        images=_picked(store.images, order),
        vectors=_StoredRows(store.proved(one.id), order[: int((wanted & done).sum())]),
        cohorts=tuple(moved_cohort(cohort, there) for cohort in chosen),
    )


class _StoredRows:
    """Vectors that a store holds, proved when they are read."""

    def __init__(self, vectors: Vectors, rows: NDArray[np.int64]) -> None:
        self._vectors, self._rows = vectors, rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(k, dim)."""
        return (len(self._rows), self._vectors.layout.width or 1)

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Rows of the stored dtype."""
        return self._vectors.read(self._rows[part])


def _picked(images: ImageTable, order: NDArray[np.int64]) -> ImageTable:
    arrays = {name: values[order] for name, values in images.arrays().items()}
    return ImageTable(**arrays, formats=images.formats, modes=images.modes)


def _import(writer: StoreWriter, table: FeatureTable, stage: Stage) -> None:
    there = copy_images(writer, table.images, np.arange(len(table.images), dtype=np.int64))
    for cohort in table.cohorts:
        _put_cohort(writer, moved_cohort(cohort, there))
    with lease_like(writer, table.about) as lease:
        for run in table.runs:
            lease.keep_run(moved_run(run, there))
        for start, part in table.parts():
            lease.put(there[start : start + len(part)], np.asarray(part, np.float32))
            stage.advance(len(part))


def _put_cohort(writer: StoreWriter, cohort: StoredCohort) -> None:
    store = open_store(writer.path)
    if cohort.name in store.cohorts() and not store.cohort(cohort.name).same_as(cohort):
        raise CohortsClashError(cohort.name, "another of the imports", ("rows or labels",))
    writer.put_cohort(cohort)
