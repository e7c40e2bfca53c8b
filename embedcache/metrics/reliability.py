"""Bins of confidence: what a model promised, and what it held.

Confidence is the probability of the predicted class. 15 bins hold equally many images; their
edges are set on all rows once, so that leaving a patient out moves no edge. Equal confidences
share a bin, so that bins may be fewer and uneven.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.metrics.metric import Floats

#: statistics.md section 7.
BINS = 15


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Bins:
    """Rows in bins of confidence, lowest first; every bin holds rows.

    Attributes:
        number: bin of each row, (n,) int64.
        confidence: of each row, (n,) float64.
        right: whether the predicted class is the true one, (n,) bool.
    """

    number: NDArray[np.int64]
    confidence: Floats
    right: NDArray[np.bool_]

    @property
    def size(self) -> NDArray[np.int64]:
        """Rows in each bin, (b,)."""
        return np.bincount(self.number)

    @property
    def gap(self) -> Floats:
        """Mean confidence minus accuracy of each bin, (b,)."""
        return np.bincount(self.number, self.confidence - self.right) / self.size


def bin_rows(probability: Floats, label: NDArray[np.int16]) -> Bins:
    """Put rows into bins of their confidence; probability (n, c), label (n,)."""
    confidence = probability.max(axis=1).astype(np.float64)
    edges = np.quantile(confidence, np.arange(1, BINS) / BINS, method="inverted_cdf")
    place = np.searchsorted(edges, confidence, side="left")
    return Bins(
        number=np.unique(place, return_inverse=True)[1],
        confidence=confidence,
        right=probability.argmax(axis=1) == label,
    )


def gap_variance(bins: Bins, cluster: NDArray[np.int64]) -> Floats:
    """Variance of each bin's gap over patient clusters, (b,); of one cluster in a bin: infinite.

    The gap is a ratio of sums over clusters, and its variance that of the ratio (linearised):
    m / (m - 1) times the sum over the bin's m clusters of (their sum minus gap times their
    rows) squared, by the bin's rows squared.
    """
    gap, size = bins.gap, bins.size
    apart = bins.confidence - bins.right - gap[bins.number]
    pair = bins.number * (int(cluster.max()) + 1) + cluster
    pairs, index = np.unique(pair, return_inverse=True)
    owner = pairs // (int(cluster.max()) + 1)
    squares = np.bincount(owner, np.bincount(index, apart) ** 2)
    clusters = np.bincount(owner).astype(np.float64)
    factor = np.divide(
        clusters, clusters - 1, out=np.full_like(clusters, np.inf), where=clusters > 1
    )
    return np.where(clusters > 1, squares, 1.0) * factor / size**2
