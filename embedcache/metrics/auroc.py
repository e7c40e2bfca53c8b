"""Macro AUROC, one class against the rest, over the classes that occur.

Of a class it is U / (P N): U counts the pairs of a positive and a negative image in which the
positive scores higher, ties for half (Mann and Whitney 1947). Without a cluster U loses the pairs
of its positives with all negatives and of its negatives with all positives; the pairs within the
cluster are then lost twice, so they come back once. Three sorts give all C values exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.counts import ratio
from embedcache.metrics.metric import Floats, ScoreMetric

Integers = NDArray[np.int64]


def from_scores(probability: Floats, label: NDArray[np.int16], weight: Floats) -> Floats:
    """Macro AUROC under each draw's weights; NaN where a class has no weight, or there is one."""
    classes = np.unique(label)
    values = [_weighted(probability[:, k], label == k, weight) for k in classes]
    return np.asarray(np.mean(values, axis=0))


def leave_one_out(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Floats:
    """Macro AUROC without each cluster, exactly and without refitting the ranks C times."""
    classes = np.unique(label)
    values = [_without(probability[:, k], label == k, cluster) for k in classes]
    return np.asarray(np.mean(values, axis=0))


def _weighted(score: Floats, positive: NDArray[np.bool_], weight: Floats) -> Floats:
    order = np.argsort(score, kind="stable")
    tie = _runs(score[order])
    pos = np.where(positive, weight, 0.0)[:, order]
    neg = np.where(positive, 0.0, weight)[:, order]
    starts = np.flatnonzero(np.diff(tie, prepend=-1))
    pos, neg = np.add.reduceat(pos, starts, axis=1), np.add.reduceat(neg, starts, axis=1)
    below = np.cumsum(neg, axis=1) - neg / 2
    return ratio((pos * below).sum(axis=1), pos.sum(axis=1) * neg.sum(axis=1))


def _without(score: Floats, positive: NDArray[np.bool_], cluster: Integers) -> Floats:
    clusters = int(cluster.max()) + 1
    everyone = np.zeros_like(cluster)
    won = _negatives_below(score, positive, everyone)  # by each positive, over all negatives
    lost = _negatives_below(-score, ~positive, everyone)  # by each negative, to all positives
    inner = _negatives_below(score, positive, cluster)
    pos = np.bincount(cluster, positive, clusters)
    neg = np.bincount(cluster, ~positive, clusters)
    pairs = (
        won.sum()
        - np.bincount(cluster, won, clusters)
        - np.bincount(cluster, lost, clusters)
        + np.bincount(cluster, inner, clusters)
    )
    return ratio(pairs, (pos.sum() - pos) * (neg.sum() - neg))


def _negatives_below(score: Floats, positive: NDArray[np.bool_], group: Integers) -> Floats:
    """Negatives of its group that each positive beats, ties for half: (n,); 0 for negatives."""
    order = np.lexsort((score, group))
    tie = _runs(score[order], group[order])
    negative = (~positive[order]).astype(np.float64)
    tied = np.bincount(tie, negative)
    below = (np.cumsum(tied) - tied / 2)[tie]
    # The cumulated count runs over all groups; each begins with what came before it.
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    before = np.concatenate([[0.0], np.cumsum(negative)])[first]
    below -= np.repeat(before, np.diff(first, append=len(order)))
    result = np.empty(len(order))
    result[order] = below * positive[order]
    return result


def _runs(*sorted_key: Floats | Integers) -> Integers:
    """Number the runs of equal keys in sorted order, from 0: (n,)."""
    changes = [np.concatenate([[False], key[1:] != key[:-1]]) for key in sorted_key]
    return np.cumsum(np.logical_or.reduce(changes))


METRIC = ScoreMetric(
    name="auroc",
    title="AUROC",
    scale="logit",
    better="higher",
    from_scores=from_scores,
    leave_one_out=leave_one_out,
)
