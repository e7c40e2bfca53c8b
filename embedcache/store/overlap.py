"""Where two stores hold one feature set: what each has, and how far what both have lies apart."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import TOLERANCE
from embedcache.errors import FeaturesDifferError
from embedcache.store.copying import blocks
from embedcache.store.feature_set import FeatureSet, Run
from embedcache.store.reader import FeatureStore


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


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Part:
    """One store's part of a feature set.

    Attributes:
        given: the store as it was named, for messages.
        store: the store.
        one: what it says of the set.
        done: its done rows, (k,) int64.
        there: row of each of its images in the union, (n,) int64.
    """

    given: str
    store: FeatureStore
    one: FeatureSet
    done: NDArray[np.int64]
    there: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pair:
    """A feature set of the union: the parts of one or both stores, the one that counts first."""

    parts: tuple[Part, ...]
    count: MergedFeatures

    @property
    def vectors(self) -> int:
        """Vectors of the union."""
        count = self.count
        return count.first + count.second + count.equal + count.within + count.beyond

    def preferring_second(self) -> Pair:
        """The same, but the second store's vectors count."""
        return dataclasses.replace(self, parts=self.parts[::-1])


def alone(part: Part, *, first: bool) -> Pair:
    """A feature set that one store has, whether it is the first one's."""
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
    return Pair(parts=(part,), count=count)


def compared(first: Part, second: Part, *, strict: bool) -> Pair:
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
    return Pair(parts=(first, second), count=count)


def _differences(
    first: Part, second: Part, mine: NDArray[np.int64], yours: NDArray[np.int64]
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
