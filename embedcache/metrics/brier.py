"""Brier score: the mean over images of the squared distance from what was said to what is true.

As Brier (1950) defined it, summed over all classes: 0 is perfect, 2 is certain and wrong.
scikit-learn halves it where there are two classes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.image_means import means_by_cluster, means_without, weighted_mean
from embedcache.metrics.metric import Floats, Resampled, ScoreMetric


def from_scores(probability: Floats, label: NDArray[np.int16], weight: Floats) -> Floats:
    """Brier score under each draw's weights."""
    return weighted_mean(_distances(probability, label), weight)


def leave_one_out(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Floats:
    """Brier score without each cluster."""
    return means_without(_distances(probability, label), cluster)


def by_cluster(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Resampled:
    """Brier score of draws of clusters."""
    return means_by_cluster(_distances(probability, label), cluster)


def _distances(probability: Floats, label: NDArray[np.int16]) -> Floats:
    truth = np.arange(probability.shape[1]) == label[:, None]
    return np.asarray(((probability.astype(np.float64) - truth) ** 2).sum(axis=1))


METRIC = ScoreMetric(
    name="brier",
    title="Brier score",
    scale="log",
    better="lower",
    from_scores=from_scores,
    leave_one_out=leave_one_out,
    by_cluster=by_cluster,
)
