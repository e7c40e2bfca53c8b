"""Bootstrap draws of whole patient clusters: one stream of weights for a cohort.

Clusters are drawn with replacement within their sites. Sites are taken in the order of their
first cluster and clusters are numbered by their smallest digest, so the draws depend on digests,
patients and the seed alone: all encoders, arms and metrics of a cohort are resampled alike.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

DRAWS = 10_000
#: Seed of all draws; one for all, so that an interval depends on the data alone.
SEED = 0
#: Draws held at once; part of the stream of random numbers, so a change changes the draws.
CHUNK = 500
#: Draws counted at once, so that their counts stay in the processor's cache.
_COUNTED = 64


def cluster_weights(
    site: NDArray[np.int64], *, seed: int = SEED, draws: int = DRAWS
) -> Iterator[NDArray[np.float32]]:
    """How often each draw holds each cluster: blocks of (at most 500, C) float32, whole numbers.

    Draws lie side by side in memory, as products that sum over clusters read them.

    Args:
        site: code of each cluster's site, (C,) int64.
        seed: of the draws.
        draws: how many in all.
    """
    random = np.random.default_rng(seed)
    members = [np.flatnonzero(site == code) for code in _by_first_cluster(site)]
    for start in range(0, draws, CHUNK):
        rows = min(CHUNK, draws - start)
        weight = np.empty((len(site), rows), np.float32)
        for clusters in members:
            weight[clusters] = _drawn(random, rows, len(clusters))
        yield weight.T


def _by_first_cluster(site: NDArray[np.int64]) -> NDArray[np.int64]:
    codes, first = np.unique(site, return_index=True)
    return codes[np.argsort(first)]


def _drawn(random: np.random.Generator, rows: int, clusters: int) -> NDArray[np.float32]:
    """Draw `clusters` of them with replacement, `rows` times: counts (clusters, rows)."""
    # 16 bits hold most studies and take half the time of 32.
    kind = np.uint16 if clusters <= 2**16 else np.uint32
    index = random.integers(0, clusters, (rows, clusters), dtype=kind)
    counted = np.empty((clusters, rows), np.float32)
    for start in range(0, rows, _COUNTED):
        part = index[start : start + _COUNTED].astype(np.intp)
        part += np.arange(len(part))[:, None] * clusters
        counts = np.bincount(part.ravel(), minlength=part.size).reshape(part.shape)
        counted[:, start : start + len(part)] = counts.T
    return counted
