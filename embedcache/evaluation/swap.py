"""Cluster swap: the p of a difference, by exchanging two encoders in whole patient clusters.

If two encoders did not differ, who made which prediction could be exchanged for any patient.
Signs are drawn over clusters in order of their smallest digest, once for all pairs, so that
neither row order nor the list of encoders changes a p (statistics.md section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache.evaluation.sample import LeftOut
from embedcache.metrics.metric import CountMetric, Floats

DRAWS = 10_000
#: Draws held at once; part of the stream of random numbers, so a change changes p.
_CHUNK = 500
#: Differences closer than this are one (statistics.md section 4).
_SAME = 1e-12


def swap_counts(
    metric: CountMetric, counts: Floats, pairs: Sequence[tuple[int, int]], *, seed: int
) -> Floats:
    """Two-sided p of each pair, for a metric of counts: (pairs,) float64.

    Args:
        metric: the metric.
        counts: confusion counts of each encoder and cluster, (E, C, k, c) float64.
        pairs: indices of two encoders.
        seed: of the draws.
    """
    encoders, clusters, *shape = counts.shape
    # Sums of whole numbers below 2^24 are exact in float32, in whatever order they are added.
    assert counts.sum(axis=(1, 2, 3)).max() < 2**24
    flat = counts.transpose(1, 0, 2, 3).reshape(clusters, -1).astype(np.float32)
    total = counts.sum(axis=1)
    observed = [_difference(metric, total[a] + total[b], total[a] - total[b]) for a, b in pairs]
    reached = np.zeros(len(pairs), np.int64)
    for sign in _signs(clusters, seed):
        signed = (sign.astype(np.float32) @ flat).astype(np.float64)
        swapped = signed.reshape(len(sign), encoders, *shape)
        for index, (a, b) in enumerate(pairs):
            drawn = _difference(metric, total[a] + total[b], swapped[:, a] - swapped[:, b])
            reached[index] += int((np.abs(drawn) >= np.abs(observed[index]) - _SAME).sum())
    return (1 + reached) / (DRAWS + 1)


def swap_values(differences: Sequence[LeftOut], *, seed: int) -> Floats:
    """Two-sided p of each difference of AUROC or a loss, from its leave-one-out values.

    The signs are given to pseudo-values z that sum to the difference: (pairs,) float64, NaN where
    a value without some cluster does not exist.
    """
    z = np.column_stack([_pseudo_values(difference) for difference in differences])
    observed = np.array([difference.value for difference in differences])
    reached = np.zeros(len(differences), np.int64)
    for sign in _signs(len(z), seed):
        reached += (np.abs(sign @ z) >= np.abs(observed) - _SAME).sum(axis=0)
    return np.where(np.isnan(z).any(axis=0), np.nan, (1 + reached) / (DRAWS + 1))


def _signs(clusters: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """Blocks of (draws, C) signs, +1 and -1."""
    random = np.random.default_rng(seed)
    for start in range(0, DRAWS, _CHUNK):
        draws = min(_CHUNK, DRAWS - start)
        yield random.integers(0, 2, (draws, clusters), np.int8) * 2.0 - 1.0


def _difference(metric: CountMetric, both: Floats, swapped: Floats) -> Floats:
    """F of one encoder minus F of the other, from the sum and the difference of their counts."""
    first, second = metric.from_confusion(np.stack([both + swapped, both - swapped]) / 2)
    return np.asarray(first - second)


def _pseudo_values(difference: LeftOut) -> Floats:
    clusters = len(difference.without)
    spread = difference.without.mean() - difference.without
    return np.asarray(difference.value / clusters + spread * (clusters - 1) / clusters)
