"""Matthews' correlation coefficient of true and predicted classes (Gorodkin 2004 for many).

1 is perfect, 0 no better than chance. As in scikit-learn it is 0 where all predictions are of one
class; with one true class there is nothing to correlate with, and no value.
"""

from __future__ import annotations

import numpy as np

from embedcache.metrics.counts import correct, true
from embedcache.metrics.metric import CountMetric, Floats


def from_confusion(confusion: Floats) -> Floats:
    """MCC of each table of counts; NaN where only one class has images."""
    n = true(confusion)
    # Columns outside the class set count: they are predictions too.
    m = np.asarray(confusion.sum(axis=-2))
    total = n.sum(axis=-1)
    together = correct(confusion).sum(axis=-1) * total - (n * m[..., : n.shape[-1]]).sum(axis=-1)
    true_spread = total**2 - (n**2).sum(axis=-1)
    predicted_spread = total**2 - (m**2).sum(axis=-1)
    both = np.sqrt(np.maximum(true_spread, 0)) * np.sqrt(np.maximum(predicted_spread, 0))
    value = np.divide(together, both, out=np.zeros_like(both), where=both > 0)
    return np.asarray(np.where(true_spread > 0, value, np.nan))


METRIC = CountMetric(
    name="mcc",
    title="MCC",
    scale="atanh",
    better="higher",
    from_confusion=from_confusion,
)
