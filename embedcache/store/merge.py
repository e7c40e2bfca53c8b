"""Two stores become one: a union by content, in which nothing is lost and nothing decided silently.

An image is the same if its digest is, a feature if its id is. Where both stores hold a vector of
one image and encoder, the two may differ as two machines do; beyond that someone has to say which
counts. Runs are kept of both, so that the union still tells where its vectors came from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import CohortsClashError, NotOneOfTheStoresError
from embedcache.progress import Progress, Silent, Stage
from embedcache.store.agreement import require_agreement
from embedcache.store.copying import (
    copy_images,
    copy_vectors,
    lease_like,
    moved_cohort,
    moved_run,
)
from embedcache.store.feature_set import Run
from embedcache.store.objects import Root
from embedcache.store.overlap import MergedFeatures, Pair, Part, alone, compared
from embedcache.store.reader import FeatureStore, open_store
from embedcache.store.staging import new_store
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import StoreWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class Merged:
    """What a merge made.

    Attributes:
        images: of the union.
        shared: of these, in both stores.
        cohorts: names, sorted.
        features: by name, then id.
    """

    images: int
    shared: int
    cohorts: tuple[str, ...]
    features: tuple[MergedFeatures, ...]


def merge(
    first: Root,
    second: Root,
    out: Path,
    *,
    prefer: Root | None = None,
    rename: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Write the union of two stores to a new one; neither is changed.

    Args:
        first: a store; its rows come first.
        second: the other store.
        out: where the union is written; nothing may be there.
        prefer: whose vectors count where both have one; None: the first's, within tolerance.
        rename: new names of cohorts of the second store.
        progress: what reports the work.

    Raises:
        FileInTheWayError: if something is at `out`.
        NotOneOfTheStoresError: if `prefer` is neither store.
        FingerprintDiffersError: if the machines that computed an encoder's features disagree.
        FeaturesDifferError: if vectors differ beyond tolerance and nothing is preferred.
        CohortsClashError: if both have a cohort of one name, and not the same.
        UnsealedError, DamagedStoreError, DamagedRowsError: if a store is not as its manifest says.
    """
    swapped = prefer is not None and not _same(prefer, first)
    if prefer is not None and swapped and not _same(prefer, second):
        raise NotOneOfTheStoresError(str(prefer), str(first), str(second))
    stores = (open_store(first), open_store(second))
    progress = progress or Silent()
    with new_store(out) as writer:
        there = tuple(_enter(writer, store) for store in stores)
        cohorts = _cohorts(stores, there, rename or {})
        pairs = _paired(stores, there, (str(first), str(second)), strict=prefer is None)
        for cohort in cohorts:
            writer.put_cohort(cohort)
        ordered = [pair.preferring_second() if swapped else pair for pair in pairs]
        total = sum(pair.vectors for pair in ordered)
        with progress.stage("merging", total, "vectors") as stage:
            for pair in ordered:
                _note_descriptions(pair, progress)
                _write(writer, pair, stage)
        images = len(open_store(writer.path))
    return Merged(
        images=images,
        shared=sum(len(store) for store in stores) - images,
        cohorts=tuple(sorted(cohort.name for cohort in cohorts)),
        features=tuple(pair.count for pair in pairs),
    )


def _same(one: Root, other: Root) -> bool:
    if isinstance(one, Path) and isinstance(other, Path):
        return one.resolve() == other.resolve()
    return one is other


def _enter(writer: StoreWriter, store: FeatureStore) -> NDArray[np.int64]:
    return copy_images(writer, store.images, np.arange(len(store), dtype=np.int64))


def _cohorts(
    stores: tuple[FeatureStore, FeatureStore],
    there: tuple[NDArray[np.int64], ...],
    rename: Mapping[str, str],
) -> list[StoredCohort]:
    first, second = stores
    found = {name: moved_cohort(first.cohort(name), there[0]) for name in first.cohorts()}
    for old in rename:
        second.cohort(old)  # an unknown name is refused, not ignored
    for name in second.cohorts():
        cohort = moved_cohort(second.cohort(name), there[1])
        cohort = dataclasses.replace(cohort, name=rename.get(name, name))
        other = found.setdefault(cohort.name, cohort)
        if not other.same_as(cohort):
            raise CohortsClashError(cohort.name, second.path.name, _difference(other, cohort))
    return list(found.values())


def _difference(one: StoredCohort, other: StoredCohort) -> tuple[str, ...]:
    """What two cohorts of one name differ in, in words."""
    if sorted(one.row.tolist()) != sorted(other.row.tolist()):
        return ("images",)
    plain = ("classes", "reader", "citation", "licence", "synthetic", "unreadable")
    differ = [name for name in plain if getattr(one, name) != getattr(other, name)]
    if one.key_id != other.key_id:
        differ.append("the key behind the pseudonyms")
    elif not np.array_equal(one.patient, other.patient):
        differ.append("patients")
    if not np.array_equal(one.label, other.label):
        differ.append("labels")
    strata = {*one.strata, *other.strata}
    differ += [
        f"the stratum {name}"
        for name in sorted(strata)
        if not np.array_equal(one.strata.get(name, ()), other.strata.get(name, ()))
    ]
    return tuple(differ or ["the order of rows"])


def _paired(
    stores: tuple[FeatureStore, FeatureStore],
    there: tuple[NDArray[np.int64], ...],
    given: tuple[str, str],
    *,
    strict: bool,
) -> list[Pair]:
    parts: dict[str, list[Part]] = {}
    for store, rows, name in zip(stores, there, given, strict=True):
        for one in store.feature_sets():
            done = np.flatnonzero(store.done(one.id))
            part = Part(given=name, store=store, one=one, done=done, there=rows)
            parts.setdefault(one.id, []).append(part)
    for found in parts.values():
        mine, other = found[0].one, found[-1].one
        require_agreement(mine.name, mine.contract, mine.fingerprint, other.fingerprint)
    pairs = [
        compared(found[0], found[1], strict=strict)
        if len(found) == 2
        else alone(found[0], first=found[0].store is stores[0])
        for found in parts.values()
    ]
    return sorted(pairs, key=lambda pair: (pair.count.name, pair.count.id))


def _note_descriptions(pair: Pair, progress: Progress) -> None:
    """Say where two stores describe one encoder differently: the part that counts is believed."""
    for part in pair.parts[1:]:
        words = ("name", "licence", "citation", "batch", "overlap")
        mine = pair.parts[0].one
        differ = [word for word in words if getattr(mine, word) != getattr(part.one, word)]
        if differ:
            store = pair.parts[0].store.path.name
            progress.note(f"{mine.name}: {', '.join(differ)} as {store} has it")


def _write(writer: StoreWriter, pair: Pair, stage: Stage) -> None:
    counting, *others = pair.parts
    with lease_like(writer, counting.one) as lease:
        for run in _runs(pair.parts):
            lease.keep_run(run)
        taken = np.zeros(0, np.int64)
        for part in (counting, *others):
            rows = part.done[~np.isin(part.there[part.done], taken)]
            copy_vectors(lease, part.store.proved(part.one.id), rows, part.there, stage)
            taken = np.union1d(taken, part.there[rows])


def _runs(parts: tuple[Part, ...]) -> list[Run]:
    """Runs of all parts by time; one that both stores have (one is a copy's heir) once."""
    found: dict[str, Run] = {}
    for part in parts:
        for run in part.one.runs:
            moved = moved_run(run, part.there)
            found[run.id] = _joined(found[run.id], moved) if run.id in found else moved
    return sorted(found.values(), key=lambda run: (run.provenance.when, run.id))


def _joined(one: Run, other: Run) -> Run:
    """A run that was copied while it ran, and its end."""
    halved = _either(one.halved or {}, other.halved or {})
    return dataclasses.replace(
        one,
        rate=one.rate or other.rate,
        failed=_either(one.failed, other.failed),
        halved=halved or None,
        throughput=one.throughput or other.throughput,
    )


def _either(
    one: dict[str, tuple[int, ...]], other: dict[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    return {
        key: tuple(sorted({*one.get(key, ()), *other.get(key, ())}))
        for key in sorted({*one, *other})
    }
