"""Macro-F1 as it would be if the classes had other shares.

F1 moves with prevalence: a class that is rare abroad has less precision there, however good the
model. Images are weighted so that each class has the share it has elsewhere.
"""

from __future__ import annotations

from embedcache.metrics import macro_f1
from embedcache.metrics.counts import ratio, true
from embedcache.metrics.metric import CountMetric, Floats


def at_shares(share: Floats) -> CountMetric:
    """Macro-F1 at given shares of the class set, (k,) float64."""

    def from_confusion(confusion: Floats) -> Floats:
        """Macro-F1 of each table of counts, its rows brought to the shares."""
        weight = ratio(share, true(confusion))
        return macro_f1.from_confusion(confusion * weight[..., None])

    return CountMetric(
        name="macro-f1-reweighted",
        title="Macro-F1 at in-domain class shares",
        scale="logit",
        better="higher",
        from_confusion=from_confusion,
        mean_of="either",
    )
