"""A new store of some cohorts, encoders, classes or patients, for those who may see no more.

Nothing of what is left out goes along: no image, digest, stratum value or failure of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import NothingLeftError, PatientsNotThereError, UnknownNameError
from embedcache.progress import Progress, Silent, Stage
from embedcache.store.copying import (
    copy_images,
    copy_vectors,
    lease_like,
    moved_cohort,
    moved_run,
)
from embedcache.store.feature_set import FeatureSet
from embedcache.store.objects import Root
from embedcache.store.pseudonyms import OwnerKey
from embedcache.store.reader import FeatureStore, open_store
from embedcache.store.staging import new_store
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import StoreWriter

#: Ends the reader's kind of a cohort whose images go by keyed digests.
KEYED = "+keyed-digests"
#: Reason of images that were unreadable in the larger cohort, which counts reasons, not rows.
_UNREADABLE = "unreadable in the store that this is a subset of"


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """What of a store is wanted; an empty field wants all.

    Attributes:
        cohorts: names.
        encoders: references such as `NAME` or `NAME#ID`.
        classes: names; rows of other classes, and unlabelled ones, are left out.
        patients: pseudonyms, 32 hex digits each.
    """

    cohorts: tuple[str, ...] = ()
    encoders: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Subset:
    """What a subset holds.

    Attributes:
        images: of the new store.
        cohorts: rows by name.
        left_out: chosen cohorts of which no row was wanted.
        features: vectors by reference.
    """

    images: int
    cohorts: dict[str, int]
    left_out: tuple[str, ...]
    features: dict[str, int]


def subset(
    source: Root,
    out: Path,
    selection: Selection,
    *,
    key: OwnerKey | None = None,
    progress: Progress | None = None,
) -> Subset:
    """Write a part of a store to a new one.

    Args:
        source: the store; it is not changed.
        out: where the new store is written; nothing may be there.
        selection: what is wanted.
        key: replaces digests by HMACs under it, which confirm to no one but its owner that an
            image is there. Folds follow digests, so that they change with them.
        progress: what reports the work.

    Raises:
        FileInTheWayError: if something is at `out`.
        UnknownNameError, AmbiguousNameError: if there is no such cohort, encoder or class, or
            several encoders.
        PatientsNotThereError: if no chosen cohort has a patient.
        NothingLeftError: if no row is left.
        UnsealedError, DamagedStoreError, DamagedRowsError: if the store is not as its manifest
            says.
    """
    store = open_store(source)
    sets = [store.select(name) for name in selection.encoders] or store.feature_sets()
    cohorts = [store.cohort(name) for name in selection.cohorts or store.cohorts()]
    _check(cohorts, selection)
    kept = [part for cohort in cohorts if len(part := _part(cohort, selection))]
    if not kept:
        raise NothingLeftError(_asked(selection), tuple(cohort.name for cohort in cohorts))
    rows = np.unique(np.concatenate([cohort.row[cohort.row >= 0] for cohort in kept]))
    digest = store.images.digest[rows] if key is None else _keyed(store.images.digest[rows], key)
    with new_store(out) as writer:
        there = copy_images(writer, store.images, rows, digest)
        for cohort in kept:
            reader = cohort.reader if key is None else cohort.reader + KEYED
            writer.put_cohort(replace(moved_cohort(cohort, there), reader=reader))
        features = _copy(writer, store, sets, there, progress or Silent())
    return Subset(
        images=len(rows),
        cohorts={cohort.name: len(cohort) for cohort in kept},
        left_out=tuple(c.name for c in cohorts if c.name not in {part.name for part in kept}),
        features=features,
    )


def _check(cohorts: Sequence[StoredCohort], selection: Selection) -> None:
    known = {name for cohort in cohorts for name in cohort.classes}
    for name in selection.classes:
        if name not in known:
            raise UnknownNameError("class", name, tuple(sorted(known)))
    there = {bytes(one).hex() for cohort in cohorts for one in cohort.patient}
    strange = tuple(one for one in selection.patients if one.lower() not in there)
    if strange:
        raise PatientsNotThereError(strange, tuple(cohort.name for cohort in cohorts))


def _part(cohort: StoredCohort, selection: Selection) -> StoredCohort:
    wanted = np.ones(len(cohort), np.bool_)
    if selection.classes:
        codes = [code for code, name in enumerate(cohort.classes) if name in selection.classes]
        wanted &= np.isin(cohort.label, codes)
        cohort = _of_classes(cohort, codes)
    if selection.patients:
        patients = {one.lower() for one in selection.patients}
        wanted &= np.array([bytes(one).hex() in patients for one in cohort.patient], np.bool_)
    if wanted.all():
        return cohort
    lost = int((cohort.row[wanted] < 0).sum())
    return replace(
        cohort,
        row=cohort.row[wanted],
        label=cohort.label[wanted],
        patient=cohort.patient[wanted],
        strata={name: value[wanted] for name, value in cohort.strata.items()},
        unreadable={_UNREADABLE: lost} if lost else {},
    )


def _of_classes(cohort: StoredCohort, codes: list[int]) -> StoredCohort:
    """The cohort by a shorter class list; rows of other classes become unlabelled."""
    label = np.full(len(cohort), -1, np.int16)
    for new, old in enumerate(codes):
        label[cohort.label == old] = new
    return replace(cohort, classes=tuple(cohort.classes[code] for code in codes), label=label)


def _asked(selection: Selection) -> str:
    what = [f"the class {name!r}" for name in selection.classes]
    what += [f"the patient {name}" for name in selection.patients]
    return " or ".join(what) or "an entry"


def _keyed(digest: NDArray[np.uint8], key: OwnerKey) -> NDArray[np.uint8]:
    """HMAC-SHA256 of each digest, (k, 32) uint8; its prefix parts it from any patient's."""
    prefix = b"embedcache image digest\0"
    made = (hmac.digest(key.secret, prefix + bytes(one), "sha256") for one in digest)
    return np.frombuffer(b"".join(made), np.uint8).reshape(len(digest), 32)


def _copy(
    writer: StoreWriter,
    store: FeatureStore,
    sets: Sequence[FeatureSet],
    there: NDArray[np.int64],
    progress: Progress,
) -> dict[str, int]:
    rows = {one.id: np.flatnonzero(store.done(one.id) & (there >= 0)) for one in sets}
    with progress.stage("copying", sum(map(len, rows.values())), "vectors") as stage:
        for one in sets:
            _copy_set(writer, store, one, rows[one.id], there, stage)
    return {store.reference(one.id): len(rows[one.id]) for one in sets}


def _copy_set(
    writer: StoreWriter,
    store: FeatureStore,
    one: FeatureSet,
    rows: NDArray[np.int64],
    there: NDArray[np.int64],
    stage: Stage,
) -> None:
    with lease_like(writer, one) as lease:
        for run in one.runs:
            lease.keep_run(moved_run(run, there))
        copy_vectors(lease, store.proved(one.id), rows, there, stage)
