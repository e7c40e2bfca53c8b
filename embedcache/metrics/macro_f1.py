"""Macro-F1: the mean over the class set of each class's F1, 2 t / (n + m).

The set is the classes that occur. scikit-learn without `labels=` also averages over classes that
are only predicted: one stray prediction of a class that a site lacks then costs a share of its F1.
"""

from __future__ import annotations

import numpy as np

from embedcache.metrics import f1
from embedcache.metrics.metric import CountMetric, Floats


def from_confusion(confusion: Floats) -> Floats:
    """Macro-F1 of each table of counts."""
    return np.asarray(f1.from_confusion(confusion).mean(axis=-1))


METRIC = CountMetric(
    name="macro-f1",
    title="Macro-F1",
    scale="logit",
    better="higher",
    from_confusion=from_confusion,
    mean_of="either",
)
