"""Log loss: the mean of -ln of the probability given to the true class.

Probabilities are clipped at 1e-15 whatever their dtype; scikit-learn clips at the dtype's eps, so
that float32 probabilities lose less there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.counts import ratio
from embedcache.metrics.metric import Floats, ScoreMetric

#: Least probability that a true class counts with (statistics.md section 2).
LEAST = 1e-15


def from_scores(probability: Floats, label: NDArray[np.int16], weight: Floats) -> Floats:
    """Log loss under each draw's weights."""
    return ratio(weight @ _losses(probability, label), weight.sum(axis=-1))


def leave_one_out(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> Floats:
    """Log loss without each cluster: its share taken from the sum."""
    loss = _losses(probability, label)
    clusters = int(cluster.max()) + 1
    rest = loss.sum() - np.bincount(cluster, loss, clusters)
    return ratio(rest, len(label) - np.bincount(cluster, minlength=clusters).astype(np.float64))


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
)
