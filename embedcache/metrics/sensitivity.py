"""Sensitivity (recall) of a class: the share of its images that are predicted as it."""

from __future__ import annotations

from embedcache.metrics.counts import correct, ratio, true
from embedcache.metrics.metric import ClassMetric, Floats


def from_confusion(confusion: Floats) -> Floats:
    """Sensitivity of each class; NaN for one without images."""
    return ratio(correct(confusion), true(confusion))


METRIC = ClassMetric(
    name="sensitivity",
    title="Sensitivity",
    scale="logit",
    better="higher",
    counts="true",
    from_confusion=from_confusion,
)
