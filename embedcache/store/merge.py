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

from embedcache.contract import TOLERANCE
from embedcache.errors import CohortsClashError, FeaturesDifferError, NotOneOfTheStoresError
from embedcache.progress import Progress, Silent, Stage
from embedcache.store.copying import (
    blocks,
    copy_images,
    copy_vectors,
    lease_like,
    moved_cohort,
    moved_run,
)
from embedcache.store.feature_set import FeatureSet, Run
from embedcache.store.reader import FeatureStore, open_store
from embedcache.store.staging import new_store
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import StoreWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class MergedFeatures:
    """One feature set of the union.

    Attributes:
        name: the encoder's reference without weights.
        id: feature id.
        first: vectors that only the first store has.
        second: vectors that only the second one has.
        equal: vectors that both have, bit by bit.
        within: vectors that differ within the tolerance of the contract's precision.
        beyond: vectors that differ beyond it, where `prefer` says whose count.
    """

    name: str
    id: str
    first: int
    second: int
    equal: int
    within: int
    beyond: int


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
    first: Path,
    second: Path,
    out: Path,
    *,
    prefer: Path | None = None,
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
        FeaturesDifferError: if vectors differ beyond tolerance and nothing is preferred.
        CohortsClashError: if both have a cohort of one name, and not the same.
        UnsealedError, DamagedStoreError, DamagedRowsError: if a store is not as its manifest says.
    """
    if prefer is not None and prefer.resolve() not in (first.resolve(), second.resolve()):
        raise NotOneOfTheStoresError(str(prefer), str(first), str(second))
    stores = (open_store(first), open_store(second))
    progress = progress or Silent()
    swapped = prefer is not None and prefer.resolve() == second.resolve()
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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Part:
    """One store's part of a feature set: what it says, its done rows, and where they go."""

    given: str
    store: FeatureStore
    one: FeatureSet
    done: NDArray[np.int64]
    there: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Pair:
    """A feature set of the union: the parts of one or both stores, the one that counts first."""

    parts: tuple[_Part, ...]
    count: MergedFeatures

    @property
    def vectors(self) -> int:
        count = self.count
        return count.first + count.second + count.equal + count.within + count.beyond

    def preferring_second(self) -> _Pair:
        return dataclasses.replace(self, parts=self.parts[::-1])


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
) -> list[_Pair]:
    parts: dict[str, list[_Part]] = {}
    for store, rows, name in zip(stores, there, given, strict=True):
        for one in store.feature_sets():
            done = np.flatnonzero(store.done(one.id))
            part = _Part(given=name, store=store, one=one, done=done, there=rows)
            parts.setdefault(one.id, []).append(part)
    pairs = [
        _compared(found[0], found[1], strict=strict)
        if len(found) == 2
        else _alone(found[0], first=found[0].store is stores[0])
        for found in parts.values()
    ]
    return sorted(pairs, key=lambda pair: (pair.count.name, pair.count.id))


def _alone(part: _Part, *, first: bool) -> _Pair:
    rows = len(part.done)
    count = MergedFeatures(
        name=part.one.name,
        id=part.one.id,
        first=rows if first else 0,
        second=0 if first else rows,
        equal=0,
        within=0,
        beyond=0,
    )
    return _Pair(parts=(part,), count=count)


def _compared(first: _Part, second: _Part, *, strict: bool) -> _Pair:
    """Compare what both have, before anything of it is written.

    Raises:
        FeaturesDifferError: if `strict`, and vectors differ beyond tolerance.
    """
    mine, yours = first.there[first.done], second.there[second.done]
    _, at_mine, at_yours = np.intersect1d(mine, yours, return_indices=True)
    difference = _differences(first, second, first.done[at_mine], second.done[at_yours])
    tolerance = TOLERANCE[first.one.contract.precision]
    beyond = difference > tolerance
    if strict and beyond.any():
        raise FeaturesDifferError(
            first.one.name,
            first.given,
            second.given,
            tuple(np.sort(first.done[at_mine][beyond]).tolist()),
            float(difference.max()),
            tolerance,
            _provenance(first.one.runs),
            _provenance(second.one.runs),
        )
    count = MergedFeatures(
        name=first.one.name,
        id=first.one.id,
        first=len(mine) - len(at_mine),
        second=len(yours) - len(at_yours),
        equal=int((difference < 0).sum()),
        within=int(((difference >= 0) & ~beyond).sum()),
        beyond=int(beyond.sum()),
    )
    return _Pair(parts=(first, second), count=count)


def _differences(
    first: _Part, second: _Part, mine: NDArray[np.int64], yours: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Length of each difference relative to the longer vector, (k,) float64; -1: the same bits."""
    found = np.empty(len(mine))
    one, other = first.store.proved(first.one.id), second.store.proved(second.one.id)
    for part in blocks(np.arange(len(mine)), first.one.contract.dim):
        a, b = one.read(mine[part]), other.read(yours[part])
        difference = np.linalg.norm(a.astype(np.float64) - b, axis=1)
        longer = np.maximum(*(np.linalg.norm(v.astype(np.float64), axis=1) for v in (a, b)))
        found[part] = difference / np.where(longer > 0, longer, 1)
        same = (a.view(np.uint8) == b.view(np.uint8)).all(axis=1)
        found[part[same]] = -1
    return found


def _provenance(runs: tuple[Run, ...]) -> str:
    """The latest run in a phrase, and how many there were before."""
    if not runs:
        return "no run recorded"
    latest = runs[-1].provenance
    version = latest.packages.get("torch")
    software = f" with torch {version}" if version else ""
    more = f" and {len(runs) - 1} earlier runs" if len(runs) > 1 else ""
    return f"made on {latest.device}{software} at {latest.when}{more}"


def _note_descriptions(pair: _Pair, progress: Progress) -> None:
    """Say where two stores describe one encoder differently: the part that counts is believed."""
    for part in pair.parts[1:]:
        words = ("name", "licence", "citation", "batch", "fingerprint")
        mine = pair.parts[0].one
        differ = [word for word in words if getattr(mine, word) != getattr(part.one, word)]
        if differ:
            store = pair.parts[0].store.path.name
            progress.note(f"{mine.name}: {', '.join(differ)} as {store} has it")


def _write(writer: StoreWriter, pair: _Pair, stage: Stage) -> None:
    counting, *others = pair.parts
    with lease_like(writer, counting.one) as lease:
        for run in _runs(pair.parts):
            lease.keep_run(run)
        taken = np.zeros(0, np.int64)
        for part in (counting, *others):
            rows = part.done[~np.isin(part.there[part.done], taken)]
            copy_vectors(lease, part.store.proved(part.one.id), rows, part.there, stage)
            taken = np.union1d(taken, part.there[rows])


def _runs(parts: tuple[_Part, ...]) -> list[Run]:
    """Runs of all parts by time; one that both stores have (one is a copy's heir) once."""
    found: dict[str, Run] = {}
    for part in parts:
        for run in part.one.runs:
            moved = moved_run(run, part.there)
            found[run.id] = _joined(found[run.id], moved) if run.id in found else moved
    return sorted(found.values(), key=lambda run: (run.provenance.when, run.id))


def _joined(one: Run, other: Run) -> Run:
    """A run that was copied while it ran, and its end."""
    reasons = sorted({*one.failed, *other.failed})
    failed = {
        reason: tuple(sorted({*one.failed.get(reason, ()), *other.failed.get(reason, ())}))
        for reason in reasons
    }
    return dataclasses.replace(one, rate=one.rate or other.rate, failed=failed)
