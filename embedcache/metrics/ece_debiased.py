"""Calibration error less what chance makes of it (statistics.md section 7).

sign(q) sqrt(|q|) with q = sum over bins of their share times (gap squared minus its variance over
patient clusters). Of a perfectly calibrated model it lies around 0, negative as often as not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.metric import Floats, PointMetric
from embedcache.metrics.reliability import bin_rows, gap_variance


def from_clusters(
    probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
) -> float:
    """Debiased calibration error; NaN where a bin holds one cluster only."""
    bins = bin_rows(probability, label)
    variance = gap_variance(bins, cluster)
    if np.isinf(variance).any():
        return float("nan")
    q = (bins.size * (bins.gap**2 - variance)).sum() / len(label)
    return float(np.sign(q) * np.sqrt(np.abs(q)))


METRIC = PointMetric(
    name="ece-debiased",
    title="ECE, debiased",
    better="lower",
    from_clusters=from_clusters,
    why="a root of a difference, uneven around 0: read its sign and size beside ece",
)
