"""k nearest neighbours by cosine, k chosen on inner folds.

p = (neighbours of the class + its share of the training set) / (k + 1): one more neighbour that is
a bit of every class, so that no probability is zero and the log loss by which k is chosen exists
for every k. Neighbours count alike; how near they are is already in who they are.

Similarities of all pairs are computed once, in blocks of rows; every training set and inner fold
picks its own neighbours from the same ranking.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.probing.estimators.inner import inner_folds
from embedcache.protocol.protocol import Tuning

Floats = NDArray[np.float64]

#: Numbers of neighbours tried; where an inner training set has fewer rows, only up to these.
NEIGHBOURS = (1, 3, 5, 10, 20, 50, 100, 200)
#: Rows whose similarities are held at a time: 25 MB of 12,400 rows.
_ROWS = 512
#: Ranked neighbours of a row, in multiples of the most that are counted: of an inner training set
#: of half of all rows the nearest 200 are almost surely among the nearest 800; where not, the row
#: is ranked again among its own.
_RANKED = 4


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FittedNeighbours:
    """A training set and how many of it are asked.

    Attributes:
        vector: features of length one, (n, d) float32; zero where a feature is zero throughout.
        label: class of each, (n,) int64.
        share: of each class among them, (c,) float64.
        settings: the chosen `k` and its `inner-log-loss`.
        notes: whether k is the largest that was tried.
    """

    vector: NDArray[np.float32]
    label: NDArray[np.int64]
    share: Floats
    settings: dict[str, float]
    notes: tuple[str, ...]

    def probabilities(self, x: NDArray[np.float32]) -> Floats:
        """Class probabilities of features (k, d), (k, c) float64, rows sum to one."""
        k = int(self.settings["k"])
        parts = [np.zeros((0, len(self.share)))]
        for start in range(0, len(x), _ROWS):
            near = unit(x[start : start + _ROWS]) @ self.vector.T
            neighbours = self.label[_ranking(near, k)]
            parts.append(_shares(neighbours, (k,), self.share)[0])
        return np.concatenate(parts)

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays that give the same probabilities again, by name; the training set's own size."""
        return {
            "vector": self.vector,
            "label": self.label,
            "share": self.share,
            "k": np.array([self.settings["k"]]),
        }


class Neighbours:
    """k nearest neighbours; see `Estimator`."""

    name = "knn"
    version = "1"

    def fit(
        self,
        x: NDArray[np.float32],
        label: NDArray[np.int16],
        cluster: NDArray[np.int64],
        train: NDArray[np.bool_],
        *,
        tuning: Tuning,
        seed: int,
    ) -> tuple[FittedNeighbours, ...]:
        """Choose k for each training set; see `Estimator.fit`. The grid of `tuning` is of C.

        Raises:
            ClassAbsentError: if an inner training set lacks a class.
        """
        inner = inner_folds(label, cluster, train, tuning=tuning, seed=seed)
        vector, number = unit(x), label.astype(np.int64)
        loss = inner_losses(vector, number, train, inner)
        return tuple(
            _fitted(vector[rows], number[rows], losses)
            for rows, losses in zip(train, loss, strict=True)
        )

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedNeighbours:
        """The model that a `state` was taken of; see `Estimator.restore`."""
        return FittedNeighbours(
            vector=state["vector"],
            label=state["label"],
            share=state["share"],
            settings={"k": float(state["k"][0])},
            notes=(),
        )


ESTIMATOR = Neighbours()


def unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (n, d) divided by their length; zero stays zero."""
    length = np.sqrt(np.einsum("ij,ij->i", x, x, dtype=np.float64))
    return (x / np.where(length > 0, length, 1)[:, np.newaxis]).astype(np.float32)


def inner_losses(
    vector: NDArray[np.float32],
    label: NDArray[np.int64],
    train: NDArray[np.bool_],
    inner: NDArray[np.int64],
) -> Floats:
    """Log loss of each k, pooled over the rows of all inner folds, (F, k) float64.

    Args:
        vector: features of length one, (n, d) float32.
        label: class of each row, (n,) int64.
        train: the training sets, (F, n) bool.
        inner: inner fold of each training row, (F, n) int64; -1 elsewhere.
    """
    learns = [
        [rows & (fold != k) for k in range(fold.max() + 1)]
        for rows, fold in zip(train, inner, strict=True)
    ]
    fewest = min(int(rows.sum()) for sets in learns for rows in sets)
    tried = tuple(k for k in NEIGHBOURS if k <= fewest)
    classes = int(label.max()) + 1
    loss = np.zeros((len(train), len(tried)))
    for start, near, ranked in _blocks(vector, tried[-1]):
        for number, sets in enumerate(learns):
            for fold, rows in enumerate(sets):
                out = np.flatnonzero(inner[number, start : start + len(near)] == fold)
                own = _neighbours(near[out], ranked[out], rows, tried[-1])
                share = np.bincount(label[rows], minlength=classes) / rows.sum()
                probability = _shares(label[own], tried, share)
                true = probability[:, np.arange(len(out)), label[start + out]]
                loss[number] -= np.log(true).sum(axis=1)
    loss /= train.sum(axis=1, keepdims=True)
    return loss


def _blocks(
    vector: NDArray[np.float32], most: int
) -> Iterator[tuple[int, NDArray[np.float32], NDArray[np.int64]]]:
    """Blocks of rows: the first, similarities to all rows, and the nearest rows in order."""
    for start in range(0, len(vector), _ROWS):
        near = vector[start : start + _ROWS] @ vector.T
        yield start, near, _ranking(near, min(_RANKED * most, len(vector)))


def _ranking(near: NDArray[np.float32], most: int) -> NDArray[np.int64]:
    """The most similar columns of each row, nearest first, (rows, most)."""
    if most < near.shape[1]:
        top = np.argpartition(-near, most - 1, axis=1)[:, :most]
        top.sort(axis=1)  # of equals the earlier row comes first
    else:
        top = np.tile(np.arange(near.shape[1]), (len(near), 1))
    order = np.argsort(-np.take_along_axis(near, top, axis=1), axis=1, kind="stable")
    return np.take_along_axis(top, order, axis=1)


def _neighbours(
    near: NDArray[np.float32],
    ranked: NDArray[np.int64],
    rows: NDArray[np.bool_],
    most: int,
) -> NDArray[np.int64]:
    """The nearest of some rows (n,) bool for each similarity row, nearest first, (m, most)."""
    own = rows[ranked]
    enough = own.sum(axis=1) >= most
    found = np.empty((len(near), most), np.int64)
    kept = own[enough]
    kept &= np.cumsum(kept, axis=1) <= most
    found[enough] = ranked[enough][kept].reshape(-1, most)
    allowed = np.flatnonzero(rows)
    found[~enough] = allowed[_ranking(near[~enough][:, allowed], most)]
    return found


def _shares(neighbours: NDArray[np.int64], tried: tuple[int, ...], share: Floats) -> Floats:
    """Probabilities by the first k of labels (m, most), for each k, (k, m, c)."""
    counts = np.zeros((len(tried), len(neighbours), len(share)))
    for place, k in enumerate(tried):
        for number in range(len(share)):
            counts[place, :, number] = np.count_nonzero(neighbours[:, :k] == number, axis=1)
    return np.asarray((counts + share) / (np.array(tried)[:, np.newaxis, np.newaxis] + 1))


def _fitted(
    vector: NDArray[np.float32], label: NDArray[np.int64], loss: Floats
) -> FittedNeighbours:
    best = int(loss.argmin())
    k = NEIGHBOURS[best]
    largest = best == len(loss) - 1
    return FittedNeighbours(
        vector=vector,
        label=label,
        share=np.bincount(label) / len(label),
        settings={"k": float(k), "inner-log-loss": float(loss[best])},
        notes=(f"the best k is the largest tried ({k}); more may do better",) if largest else (),
    )
