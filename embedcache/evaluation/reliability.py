"""reliability.csv: confidence against accuracy, in 15 bins of equally many predictions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.intervals import Clusters, jackknife
from embedcache.evaluation.sample import leave_counts_out
from embedcache.metrics import accuracy
from embedcache.metrics.reliability import bin_rows
from embedcache.results.tables import ReliabilityRow


def reliability_rows(evaluand: Evaluand) -> Iterator[ReliabilityRow]:
    """The bins of one evaluand, least confident first; none without probabilities.

    The predictions of K models share the bins. An accuracy's interval is the cluster jackknife
    over the patients of its bin, sites together: a bin has too few of a site.
    """
    if evaluand.probability is None:
        return
    models, _, classes = evaluand.probability.shape
    bins = bin_rows(evaluand.probability.reshape(-1, classes), np.tile(evaluand.label, models))
    cluster = np.tile(evaluand.cluster, models)
    for number in range(int(bins.number.max()) + 1):
        inside = bins.number == number
        right = bins.right[inside]
        _, own = np.unique(cluster[inside], return_inverse=True)
        counts = np.zeros((int(own.max()) + 1, 1, 2))
        counts[:, 0] = np.column_stack([np.bincount(own, right), np.bincount(own, ~right)])
        left = leave_counts_out(accuracy.METRIC, counts)
        whole = Clusters(site=np.zeros(len(counts), np.int64), sites=("",))
        interval = jackknife(left, whole, scale="logit", degrees="clusters")
        yield ReliabilityRow(
            arm=evaluand.arm,
            encoder=evaluand.encoder,
            cohort=evaluand.cohort,
            estimand=evaluand.estimand,
            class_rule=evaluand.class_rule,
            bin=number,
            predictions=int(inside.sum()),
            clusters=len(counts),
            confidence=float(bins.confidence[inside].mean()),
            accuracy=float(right.mean()),
            low=interval.low,
            high=interval.high,
            method=interval.method,
        )
