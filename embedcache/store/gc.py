"""Drop features that nothing reaches: vectors of images of no cohort, and sets that hold no other.

The image table stays, because a row number means the same image everywhere; `subset` writes a
store without the images of no cohort. Vectors go in the opposite order to that in which they came:
first a row is no longer done, then its vector is erased. A killed collection is finished by the
next; between the two nothing is read that is half gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import clear_partial
from embedcache.progress import Progress, Silent
from embedcache.store.chunks import Objects
from embedcache.store.feature_set import FeatureSet, set_keys
from embedcache.store.layout import ArrayLayout, done_array, feature_node, vectors_array
from embedcache.store.locks import hold, table_lock
from embedcache.store.manifest import close_node, open_node, read_manifest
from embedcache.store.objects import Proof, Proofs, files_below, object_size, remove_object
from embedcache.store.reader import FeatureStore, open_store
from embedcache.store.soundness import close_leased, remove_feature_set
from embedcache.store.writer import create_or_open_for_writing


@dataclass(frozen=True, kw_only=True, slots=True)
class GarbageSet:
    """What nothing reaches in one feature set.

    Attributes:
        name: the encoder's reference without weights.
        id: feature id.
        vectors: of images of no cohort.
        whole: no vector is left, so that the set goes with the records of its runs.
        size: bytes of the files that go.
    """

    name: str
    id: str
    vectors: int
    whole: bool
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Garbage:
    """What nothing reaches in a store.

    Attributes:
        images: of no cohort; their rows stay in the image table.
        sets: feature sets from which something goes.
    """

    images: int
    sets: tuple[GarbageSet, ...]


def find_garbage(path: Path) -> Garbage:
    """Look for features that nothing reaches; changes nothing.

    Raises:
        UnfinishedCohortError: if a cohort is not completely written: what it reaches is not known.
        DamagedStoreError: if the store is not what was written.
    """
    store = open_store(path)
    reached = _reached(store)
    found = [_look(store, one, reached) for one in store.feature_sets()]
    return Garbage(
        images=int((~reached).sum()),
        sets=tuple(one for one in found if one.whole or one.vectors),
    )


def collect_garbage(path: Path, progress: Progress | None = None) -> Garbage:
    """Drop what `find_garbage` finds, durably; returns what went.

    Raises:
        StoreBusyError: if another process writes a feature set.
        DamagedRowsError: if a killed writer left one damaged.
        UnfinishedCohortError, DamagedStoreError: as `find_garbage`.
    """
    garbage = find_garbage(path)
    sets = open_store(path).feature_sets()
    with (progress or Silent()).stage("collecting", len(sets), "feature sets") as stage:
        for one in sets:
            _collect(path, one)
            stage.advance()
    create_or_open_for_writing(path).seal()  # a set that a killed collection had begun to remove
    return garbage


def _reached(store: FeatureStore) -> NDArray[np.bool_]:
    """Which images some cohort lists, (n,) bool."""
    reached = np.zeros(len(store), np.bool_)
    for name in store.cohorts():
        row = store.cohort(name).row
        reached[row[row >= 0]] = True
    return reached


def _look(store: FeatureStore, one: FeatureSet, reached: NDArray[np.bool_]) -> GarbageSet:
    done = store.done(one.id)
    whole = not (done & reached).any()
    keys = files_below(store.path, feature_node(one.id)) if whole else _empty(one, done & reached)
    return GarbageSet(
        name=one.name,
        id=one.id,
        vectors=int((done & ~reached).sum()),
        whole=whole,
        size=sum(object_size(store.path, key) or 0 for key in keys),
    )


def _empty(one: FeatureSet, kept: NDArray[np.bool_]) -> list[str]:
    """Keys of the chunks in which nothing is kept."""
    layouts = (vectors_array(one.contract, one.rows), done_array(one.id, one.rows))
    return [
        layout.key(chunk)
        for layout in layouts
        for chunk in range(layout.chunks)
        if not kept[_rows_of(layout, chunk)].any()
    ]


def _rows_of(layout: ArrayLayout, chunk: int) -> slice:
    return slice(chunk * layout.chunk_rows, min((chunk + 1) * layout.chunk_rows, layout.rows))


def _collect(path: Path, one: FeatureSet) -> None:
    node = feature_node(one.id)
    with hold(path, f"features-{one.id}", one.name, 0) as held:
        clear_partial(path / node)
        if node in read_manifest(path).open:
            close_leased(path, node)  # what a killed writer left is checked first
        store = open_store(path)  # as it is now: cohorts may have come since
        done, reached = store.done(one.id), _reached(store)
        whole = not (done & reached).any()
        if reached.all() and not whole:
            return
        held.check()
        with table_lock(path):
            known = open_node(path, node)
        if whole:
            with table_lock(path):
                remove_feature_set(path, node)
            return
        written = _erase(path, one, done, reached, known)
        with table_lock(path):
            close_node(path, node, set_keys(path, one.contract, one.rows), written, known)


def _erase(
    path: Path,
    one: FeatureSet,
    done: NDArray[np.bool_],
    reached: NDArray[np.bool_],
    known: Proofs,
) -> dict[str, Proof]:
    """Erase what is not reached, and what a killed collection left erased by half.

    Raises:
        DamagedStoreError: if a chunk of which a part is kept is not what the manifest says.
    """
    vectors, flags = vectors_array(one.contract, one.rows), done_array(one.id, one.rows)
    before, after = Objects(path, proofs=known), Objects(path)
    for chunk in range(vectors.chunks):
        rows = _rows_of(vectors, chunk)
        kept = done[rows] & reached[rows]
        if kept.all():
            continue
        if not kept.any():  # a chunk that is not there has no done row
            remove_object(path, flags.key(chunk))
            remove_object(path, vectors.key(chunk))
            continue
        block = before.read(vectors, rows.start, rows.stop)
        stray = ~kept & np.isfinite(block).any(axis=1)
        if stray.any():
            after.write(flags, rows.start, kept)
            block[~kept] = np.nan
            after.write(vectors, rows.start, block)
    return after.written
