"""Expected calibration error: the mean distance of confidence and accuracy over 15 equal bins.

Chance alone makes it positive: a perfectly calibrated model of 50 patient clusters scores .024,
of 112 .017, of 1,792 .004 (statistics.md section 7). Read it beside `ece-debiased`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.metric import Floats, PointMetric
from embedcache.metrics.reliability import bin_rows


def from_clusters(
    probability: Floats,
    label: NDArray[np.int16],
    cluster: NDArray[np.int64],  # noqa: ARG001  # an interface; it plays no part here
) -> float:
    """ECE of these rows."""
    bins = bin_rows(probability, label)
    return float((bins.size * np.abs(bins.gap)).sum() / len(label))


METRIC = PointMetric(
    name="ece",
    title="ECE",
    better="lower",
    from_clusters=from_clusters,
    why="chance alone makes it positive, so resampling cannot bound it; see ece-debiased",
)
