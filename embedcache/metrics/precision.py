"""Precision (positive predictive value) of a class: the share of its predictions that are right."""

from __future__ import annotations

from embedcache.metrics.counts import correct, predicted, ratio
from embedcache.metrics.metric import ClassMetric, Floats


def from_confusion(confusion: Floats) -> Floats:
    """Precision of each class; NaN for one that is never predicted."""
    return ratio(correct(confusion), predicted(confusion))


METRIC = ClassMetric(
    name="precision",
    title="Precision",
    scale="logit",
    better="higher",
    counts="predicted",
    from_confusion=from_confusion,
)
