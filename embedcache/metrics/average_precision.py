"""Macro average precision, one class against the rest, over the classes that occur.

Of a class: the mean over its images, from the highest score down, of the precision there; images
of one score count together (scikit-learn's definition, no interpolation).

Draws of clusters sort once. Positives above every negative have precision 1 and are one row;
each other score that a positive has is a row of its own, since precision moves with it, and the
negatives between two rows are summed. Nothing below the last positive matters.
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


def from_scores(probability: Floats, label: NDArray[np.int16], weight: Floats) -> Floats:
    """Macro average precision under each draw's weights; NaN where a class has no weight."""
    values = [_weighted(probability[:, k], label == k, weight) for k in np.unique(label)]
    return np.asarray(np.mean(values, axis=0))


def by_cluster(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Resampled:
    """Macro average precision of draws of clusters; NaN where a class has no weight."""
    return mean_over_classes(
        [_rows(probability[:, k], label == k, cluster) for k in np.unique(label)]
    )


def _weighted(score: Floats, positive: NDArray[np.bool_], weight: Floats) -> Floats:
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.diff(tie_runs(score[order]), prepend=-1))
    pos = np.add.reduceat(np.where(positive, weight, 0.0)[:, order], starts, axis=1)
    neg = np.add.reduceat(np.where(positive, 0.0, weight)[:, order], starts, axis=1)
    found = np.cumsum(pos, axis=1)
    taken = found + np.cumsum(neg, axis=1)
    precision = np.divide(found, taken, out=np.zeros_like(found), where=taken > 0)
    return ratio((pos * precision).sum(axis=1), found[:, -1])


def _rows(score: Floats, positive: NDArray[np.bool_], cluster: NDArray[np.int64]) -> ClassDraws:
    order = np.argsort(-score, kind="stable")
    row = _row_numbers(score[order], positive[order])
    rows, clusters = int(row[-1]) + 1, int(cluster.max()) + 1
    is_pos = positive[order]
    pos = run_sums(row[is_pos], cluster[order][is_pos], rows, clusters)
    neg = run_sums(row[~is_pos], cluster[order][~is_pos], rows, clusters)

    def block(weight: NDArray[np.float32]) -> Floats:
        p = pos.of(weight)
        found, taken = cumulate(p), cumulate(neg.of(weight))
        taken += found
        # Where nothing is taken yet nothing is found: 0 / 1.
        np.maximum(taken, 1, out=taken)
        assert taken[-1].max() < 2**24  # whole numbers that float32 holds
        precision = np.divide(found, taken, dtype=np.float64)
        return ratio(np.einsum("rd,rd->d", p, precision), found[-1].astype(np.float64))

    return ClassDraws(runs=rows, values=block)


def _row_numbers(score: Floats, positive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Number the rows of images in descending order: each ends with a score that positives have.

    The first holds all positives above the first negative; the last may hold no positive.
    """
    tie = tie_runs(score)
    has_positive = np.bincount(tie, positive) > 0
    clean = np.cumsum(np.bincount(tie, ~positive)) == 0
    ends = has_positive & ~clean
    # The last clean score ends the first row.
    ends[np.flatnonzero(clean)[-1:]] = True
    row = np.concatenate([[0], np.cumsum(ends)[:-1]])
    return np.asarray(row[tie])


METRIC = ScoreMetric(
    name="average-precision",
    title="Average precision",
    scale="logit",
    better="higher",
    from_scores=from_scores,
    by_cluster=by_cluster,
)
