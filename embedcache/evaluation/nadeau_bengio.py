"""Nadeau and Bengio's corrected t over folds: a companion, conservative by design."""

from __future__ import annotations

import numpy as np

from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.sample import leave_one_out, sample
from embedcache.metrics.metric import Metric

#: Differences of folds that vary less are one.
_SAME = 1e-12


def nadeau_bengio(first: Evaluand, second: Evaluand, metric: Metric) -> float | None:
    """Two-sided p of the mean difference over the test folds of a cross-validation.

    The variance of K fold differences is multiplied by 1/K + 1/(K - 1), since training sets
    overlap (Nadeau and Bengio 2003, doi:10.1023/A:1024068626366); K - 1 degrees of freedom. None
    for predictions that are not out-of-fold, with fewer than two folds, where a fold has no value,
    or where all folds differ by the same.
    """
    from scipy.special import stdtr

    if first.tested is None or second.tested is None:
        return None
    folds = np.unique(first.tested)
    apart = np.array([_value(first, fold, metric) - _value(second, fold, metric) for fold in folds])
    if len(folds) < 2 or np.isnan(apart).any() or apart.std() < _SAME:
        return None
    k = len(folds)
    t = apart.mean() / np.sqrt((1 / k + 1 / (k - 1)) * apart.var(ddof=1))
    return float(2 * stdtr(k - 1, -abs(t)))


def _value(evaluand: Evaluand, fold: int, metric: Metric) -> float:
    assert evaluand.tested is not None  # asked before
    left = leave_one_out(metric, sample(evaluand, evaluand.tested == fold))
    assert left is not None  # encoders without probabilities are left out before
    return left.value
