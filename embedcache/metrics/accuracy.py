"""Accuracy: the share of images whose class is predicted."""

from __future__ import annotations

from embedcache.metrics.counts import correct, ratio, true
from embedcache.metrics.metric import CountMetric, Floats


def from_confusion(confusion: Floats) -> Floats:
    """Accuracy of each table of counts."""
    return ratio(correct(confusion).sum(axis=-1), true(confusion).sum(axis=-1))


METRIC = CountMetric(
    name="accuracy",
    title="Accuracy",
    scale="logit",
    better="higher",
    from_confusion=from_confusion,
)
