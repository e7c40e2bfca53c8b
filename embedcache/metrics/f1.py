"""F1 of a class: the harmonic mean of its sensitivity and precision, 2 t / (n + m)."""

from __future__ import annotations

import numpy as np

from embedcache.metrics.counts import correct, predicted, ratio, true
from embedcache.metrics.metric import ClassMetric, Floats


def from_confusion(confusion: Floats) -> Floats:
    """F1 of each class; NaN for one without images, however often it is predicted."""
    n, m, t = true(confusion), predicted(confusion), correct(confusion)
    return ratio(2 * t, np.where(n > 0, n + m, 0))


METRIC = ClassMetric(
    name="f1",
    title="F1",
    scale="logit",
    better="higher",
    counts="either",
    from_confusion=from_confusion,
)
