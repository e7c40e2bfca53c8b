"""Metrics that are the mean of one number an image: their draws are sums over clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.counts import ratio
from embedcache.metrics.metric import Floats, Resampled


def weighted_mean(value: Floats, weight: Floats) -> Floats:
    """Mean of (n,) values under each draw's (draws, n) weights; NaN without weight."""
    return ratio(weight @ value, weight.sum(axis=-1))


def means_without(value: Floats, cluster: NDArray[np.int64]) -> Floats:
    """Mean without each cluster: its share taken from the sum, (C,); NaN where none is left."""
    clusters = int(cluster.max()) + 1
    rest = value.sum() - np.bincount(cluster, value, clusters)
    return ratio(rest, len(value) - np.bincount(cluster, minlength=clusters).astype(np.float64))


def means_by_cluster(value: Floats, cluster: NDArray[np.int64]) -> Resampled:
    """Prepare the mean under weights of clusters: one product in float64."""
    total = np.column_stack([np.bincount(cluster, value), np.bincount(cluster)])

    def resampled(weight: NDArray[np.float32]) -> Floats:
        summed = weight.astype(np.float64) @ total
        return ratio(summed[:, 0], summed[:, 1])

    return resampled
