"""Balanced accuracy: the mean over the class set of each class's sensitivity.

It does not move with the classes' shares, so it leads wherever two populations are compared.
"""

from __future__ import annotations

import numpy as np

from embedcache.metrics import sensitivity
from embedcache.metrics.metric import CountMetric, Floats


def from_confusion(confusion: Floats) -> Floats:
    """Balanced accuracy of each table of counts."""
    return np.asarray(sensitivity.from_confusion(confusion).mean(axis=-1))


METRIC = CountMetric(
    name="balanced-accuracy",
    title="Balanced accuracy",
    scale="logit",
    better="higher",
    from_confusion=from_confusion,
    mean_of="true",
)
