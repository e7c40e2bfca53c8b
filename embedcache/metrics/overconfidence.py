"""Overconfidence: mean confidence minus accuracy, confidence the probability of what is predicted.

Positive: the model promises more than it holds. 0 is right on average, not for each image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.image_means import means_by_cluster, means_without, weighted_mean
from embedcache.metrics.metric import Floats, Resampled, ScoreMetric


def from_scores(probability: Floats, label: NDArray[np.int16], weight: Floats) -> Floats:
    """Mean confidence minus accuracy under each draw's weights."""
    return weighted_mean(excess(probability, label), weight)


def leave_one_out(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Floats:
    """Mean confidence minus accuracy without each cluster."""
    return means_without(excess(probability, label), cluster)


def by_cluster(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Resampled:
    """Mean confidence minus accuracy of draws of clusters."""
    return means_by_cluster(excess(probability, label), cluster)


def excess(probability: Floats, label: NDArray[np.int16]) -> Floats:
    """Confidence of each image minus 1 where it is right: (n,)."""
    right = probability.argmax(axis=1) == label
    return np.asarray(probability.max(axis=1).astype(np.float64) - right)


METRIC = ScoreMetric(
    name="overconfidence",
    title="Confidence minus accuracy",
    scale="identity",
    better="neither",
    from_scores=from_scores,
    leave_one_out=leave_one_out,
    by_cluster=by_cluster,
)
