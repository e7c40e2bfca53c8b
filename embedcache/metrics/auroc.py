"""Macro AUROC, one class against the rest, over the classes that occur.

Of a class it is U / (P N): U counts the pairs of a positive and a negative image in which the
positive scores higher, ties for half (Mann and Whitney 1947). Without a cluster U loses the pairs
of its positives with all negatives and of its negatives with all positives; the pairs within the
cluster are then lost twice, so they come back once. Three sorts give all C values exactly.

Draws of clusters sort once. In the order of scores negatives and positives come in runs; a run of
negatives and the positives that follow it are one step, and U is the sum over steps of positives
times the negatives up to there. Images that tie across labels are a step of their own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.counts import ratio
from embedcache.metrics.metric import Floats, Resampled, ScoreMetric
from embedcache.metrics.score_order import (
    ClassDraws,
    cumulate,
    mean_over_classes,
    run_sums,
    tie_runs,
)

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


def by_cluster(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Resampled:
    """Macro AUROC of draws of clusters; NaN where a class has no weight, or there is one."""
    return mean_over_classes(
        [_steps(probability[:, k], label == k, cluster) for k in np.unique(label)]
    )


def _steps(score: Floats, positive: NDArray[np.bool_], cluster: Integers) -> ClassDraws:
    order = np.argsort(score, kind="stable")
    step, mixed = _step_numbers(score[order], positive[order])
    steps, clusters = int(step[-1]) + 1, int(cluster.max()) + 1
    is_pos = positive[order]
    pos = run_sums(step[is_pos], cluster[order][is_pos], steps, clusters)
    neg = run_sums(step[~is_pos], cluster[order][~is_pos], steps, clusters)

    def block(weight: NDArray[np.float32]) -> Floats:
        p, n = pos.of(weight), neg.of(weight)
        # Sums of whole numbers below 2^24 are exact in float32; their products are not.
        up_to = cumulate(n)
        assert up_to[-1].max() < 2**24
        total = up_to[-1].astype(np.float64) * p.sum(axis=0, dtype=np.float64)
        won = np.einsum("sd,sd->d", p, up_to, dtype=np.float64)
        tied = np.einsum("sd,sd->d", p[mixed], n[mixed], dtype=np.float64)
        return ratio(won - tied / 2, total)

    return ClassDraws(runs=steps, values=block)


def _step_numbers(score: Floats, positive: NDArray[np.bool_]) -> tuple[Integers, Integers]:
    """Number the steps of rows in ascending order, (n,), and name those that are mixed ties."""
    tie = tie_runs(score)
    share = np.bincount(tie, positive) / np.bincount(tie)
    mixed = (share > 0) & (share < 1)
    begins = mixed.copy()
    begins[1:] |= mixed[:-1] | ((share[1:] == 0) & (share[:-1] == 1))
    begins[0] = False
    step = np.cumsum(begins)
    return np.asarray(step[tie]), np.asarray(np.unique(step[mixed]))


def _weighted(score: Floats, positive: NDArray[np.bool_], weight: Floats) -> Floats:
    order = np.argsort(score, kind="stable")
    tie = tie_runs(score[order])
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
    tie = tie_runs(score[order], group[order])
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


METRIC = ScoreMetric(
    name="auroc",
    title="AUROC",
    scale="logit",
    better="higher",
    from_scores=from_scores,
    leave_one_out=leave_one_out,
    by_cluster=by_cluster,
)
