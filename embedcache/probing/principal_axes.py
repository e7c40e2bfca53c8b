"""A map of features: their two main axes (principal components of standardised features)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def principal_map(x: NDArray[np.float32]) -> tuple[NDArray[np.float64], tuple[float, ...]]:
    """Place images on the two main axes of their features.

    The direction of an axis is free; its largest loading is made positive, so that a map does not
    turn over from one machine to the next.

    Args:
        x: features, (n, d) float32, at least two rows.

    Returns:
        Places, (n, 2) float64, and the share of the variance along each axis. A second axis that
        does not exist (d = 1) is zero.
    """
    from scipy.linalg import eigh

    mean = x.mean(axis=0, dtype=np.float64)
    spread = x.std(axis=0, dtype=np.float64)
    z = ((x - mean) / np.where(spread > 0, spread, 1)).astype(np.float32)
    moment = (z.T @ z).astype(np.float64) / len(z)
    d = len(moment)
    share, axis = eigh(moment, subset_by_index=(max(d - 2, 0), d - 1))
    share, axis = share[::-1], axis[:, ::-1]
    axis *= np.sign(axis[np.abs(axis).argmax(axis=0), np.arange(axis.shape[1])])
    total = float(np.trace(moment))
    places = np.zeros((len(z), 2))
    places[:, : axis.shape[1]] = z @ axis
    return places, tuple(float(s / total) if total > 0 else 0.0 for s in share)
