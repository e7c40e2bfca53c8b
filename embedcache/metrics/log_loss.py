"""Log loss: the mean of -ln of the probability given to the true class.

Probabilities are clipped at 1e-15 whatever their dtype; scikit-learn clips at the dtype's eps, so
that float32 probabilities lose less there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.image_means import means_by_cluster, means_without, weighted_mean
from embedcache.metrics.metric import Floats, Resampled, ScoreMetric

#: Least probability that a true class counts with (statistics.md section 2).
LEAST = 1e-15


def from_scores(probability: Floats, label: NDArray[np.int16], weight: Floats) -> Floats:
    """Log loss under each draw's weights."""
    return weighted_mean(_losses(probability, label), weight)


def leave_one_out(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Floats:
    """Log loss without each cluster."""
    return means_without(_losses(probability, label), cluster)


def by_cluster(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Resampled:
    """Log loss of draws of clusters."""
    return means_by_cluster(_losses(probability, label), cluster)


def _losses(probability: Floats, label: NDArray[np.int16]) -> Floats:
    given = probability[np.arange(len(label)), label].astype(np.float64)
    return -np.log(np.clip(given, LEAST, 1.0))


METRIC = ScoreMetric(
    name="log-loss",
    title="Log loss",
    scale="log",
    better="lower",
    from_scores=from_scores,
    leave_one_out=leave_one_out,
    by_cluster=by_cluster,
)
