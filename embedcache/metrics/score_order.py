"""One class against the rest in the order of scores, summed over runs of images and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.metric import Floats, Resampled

#: Sums of runs held at once, so that they stay in the processor's cache.
_ABREAST = 250_000
#: Rows whose sums are cumulated apart before they are put together.
_STRIDE = 16


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RunSums:
    """Weights of runs of images, from weights of their clusters; exact in whole numbers.

    The largest run is left out of the product and recovered from the total: it holds most of the
    images, above all of a class that is well told apart.

    Attributes:
        images: images of each cluster in each run but the largest, sparse (runs, C) float32.
        largest: index of that run.
        total: images of each cluster, all runs together, (C,) float32.
    """

    images: Any
    largest: int
    total: NDArray[np.float32]

    def of(self, weight: NDArray[np.float32]) -> NDArray[np.float32]:
        """Weight of each run, from cluster weights (C, draws): (runs, draws) float32."""
        sums = np.asarray(self.images @ weight)
        sums[self.largest] = self.total @ weight - sums.sum(axis=0)
        return sums


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassDraws:
    """One class's value under draws of clusters.

    Attributes:
        runs: how many runs of images it sums over.
        values: cluster weights (C, draws) float32 -> (draws,) values.
    """

    runs: int
    values: Resampled


def run_sums(
    run: NDArray[np.int64], cluster: NDArray[np.int64], runs: int, clusters: int
) -> RunSums:
    """Count images, given by their run and cluster, (n,) each."""
    from scipy.sparse import coo_array

    largest = int(np.bincount(run, minlength=runs).argmax())
    kept = run != largest
    ones = np.ones(int(kept.sum()), np.float32)
    return RunSums(
        images=coo_array((ones, (run[kept], cluster[kept])), shape=(runs, clusters)).tocsr(),
        largest=largest,
        total=np.bincount(cluster, minlength=clusters).astype(np.float32),
    )


def tie_runs(*sorted_key: Floats | NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the runs of equal keys in sorted order, from 0: (n,)."""
    changes = [np.concatenate([[False], key[1:] != key[:-1]]) for key in sorted_key]
    return np.cumsum(np.logical_or.reduce(changes))


def mean_over_classes(classes: Sequence[ClassDraws]) -> Resampled:
    """Draw the mean of several classes' values, all on the same blocks of draws."""
    # Blocks that the class of most runs can hold; at least 128 draws.
    draws = max(128, _ABREAST // max(one.runs for one in classes))

    def resampled(weight: NDArray[np.float32]) -> Floats:
        means = []
        for start in range(0, len(weight), draws):
            block = np.ascontiguousarray(weight[start : start + draws].T)
            means.append(np.mean([one.values(block) for one in classes], axis=0))
        return np.concatenate(means)

    return resampled


def cumulate(sums: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cumulate (runs, draws) whole numbers over runs: as `np.cumsum(axis=0)`, ten times as fast.

    Whole numbers below 2^24 add up exactly in any order.
    """
    runs, draws = sums.shape
    padded = np.zeros((-(-runs // _STRIDE), _STRIDE, draws), np.float32)
    padded.reshape(-1, draws)[:runs] = sums
    for row in range(1, _STRIDE):
        padded[:, row] += padded[:, row - 1]
    for block in range(1, len(padded)):
        padded[block] += padded[block - 1, -1]
    return padded.reshape(-1, draws)[:runs]
