"""The three counts of each class that most metrics are made of (statistics.md section 1)."""

from __future__ import annotations

import numpy as np

from embedcache.metrics.metric import Floats


def true(confusion: Floats) -> Floats:
    """n_k, images of each class: (…, k, m) -> (…, k)."""
    return np.asarray(confusion.sum(axis=-1))


def predicted(confusion: Floats) -> Floats:
    """m_k, images predicted as each class of the set: (…, k, m) -> (…, k)."""
    return np.asarray(confusion[..., : confusion.shape[-2]].sum(axis=-2))


def correct(confusion: Floats) -> Floats:
    """t_k, images of each class that are predicted as it: (…, k, m) -> (…, k)."""
    return np.diagonal(confusion, axis1=-2, axis2=-1)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Divide; NaN where the denominator is zero."""
    undefined = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    return np.asarray(np.divide(numerator, denominator, out=undefined, where=denominator != 0))
