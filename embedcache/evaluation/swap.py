"""Cluster swap: the p of a difference, by exchanging two encoders in whole patient clusters.

If two encoders did not differ, who made which prediction could be exchanged for any patient.
Signs are drawn over clusters in order of their smallest digest, once for all pairs, so that
neither row order nor the list of encoders changes a p (statistics.md section 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.evaluation.draws import CHUNK, DRAWS, SEED
from embedcache.evaluation.sample import LeftOut, sums_of, weighed
from embedcache.metrics.metric import CountMetric, Floats

#: Differences closer than this are one (statistics.md section 4).
SAME = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Swapped:
    """Differences of pairs of encoders, as they are and after random exchanges.

    Attributes:
        observed: (pairs,) float64; NaN where it does not exist.
        drawn: after each exchange, the same exchange for all pairs, (draws, pairs) float64.
    """

    observed: Floats
    drawn: Floats


def swap_counts(
    metric: CountMetric,
    counts: Floats,
    pairs: Sequence[tuple[int, int]],
    *,
    seed: int = SEED,
    draws: int = DRAWS,
) -> Swapped:
    """Exchange whole clusters, for a metric of counts.

    Args:
        metric: the metric.
        counts: confusion counts of each encoder and cluster, (E, C, k, c) float64.
        pairs: indices of two encoders.
        seed: of the draws.
        draws: how many.
    """
    weight = np.stack([weighed(metric, encoder) for encoder in counts])
    total = weight.sum(axis=1)
    observed = np.array(
        [_difference(metric, total[a] + total[b], total[a] - total[b]) for a, b in pairs]
    )
    drawn = np.empty((draws, len(pairs)))
    sums = sums_of(list(weight))
    start = 0
    for sign in _signs(counts.shape[1], seed, draws):
        swapped = sums(sign)
        for index, (a, b) in enumerate(pairs):
            drawn[start : start + len(sign), index] = _difference(
                metric, total[a] + total[b], swapped[a] - swapped[b]
            )
        start += len(sign)
    return Swapped(observed=observed, drawn=drawn)


def swap_values(differences: Sequence[LeftOut], *, seed: int = SEED, draws: int = DRAWS) -> Swapped:
    """Exchange for AUROC, AP or a loss: signs are given to values that sum to the difference.

    NaN where a value without some cluster does not exist.
    """
    z = np.column_stack([pseudo_values(difference) for difference in differences])
    drawn = np.concatenate([sign.astype(np.float64) @ z for sign in _signs(len(z), seed, draws)])
    return Swapped(observed=np.array([one.value for one in differences]), drawn=drawn)


def two_sided(swapped: Swapped) -> Floats:
    """P of each pair by itself: (pairs,) float64, NaN where there is none.

    An exchange that changes as much as is observed counts half, the observation itself among them
    (mid-p, Lancaster 1961); 1 where nothing differs. Few patients tell two encoders apart, so that
    many exchanges tie: counted whole, 20 patients without a difference were rejected in 2.9 to
    3.4 % at .05, counted half in 4.6 to 5.0 % (benchmarks/coverage.py swap).
    """
    observed, drawn = np.abs(swapped.observed), np.abs(swapped.drawn)
    exists = np.isfinite(observed) & np.isfinite(drawn).all(axis=0)
    p = _mid_p(drawn, observed, np.full_like(observed, SAME))
    return np.where(exists, np.where(observed <= SAME, 1.0, p), np.nan)


def max_t(swapped: Swapped, spread: Floats) -> Floats:
    """P of each pair, adjusted over all of them: step-down max-T (Westfall and Young 1993).

    The probability that, were there no differences, the largest statistic of this and all less
    striking pairs reached this pair's; then made monotone. Pairs without p take no part.

    Args:
        swapped: of the family.
        spread: what makes pairs comparable, (pairs,) float64; of a pair with 0 the p is 1.

    Returns:
        (pairs,) float64; NaN where a pair has none.
    """
    known = np.flatnonzero(~np.isnan(two_sided(swapped)))
    scale = np.where(spread[known] > SAME, spread[known], np.inf)
    observed = np.abs(swapped.observed[known]) / scale
    drawn = np.abs(swapped.drawn[:, known]) / scale
    order = np.argsort(observed, kind="stable")
    # From the least striking pair on: the largest statistic among those no more striking.
    largest = np.maximum.accumulate(drawn[:, order], axis=1)
    p = _mid_p(largest, observed[order], SAME / scale[order])
    p[np.abs(swapped.observed[known][order]) <= SAME] = 1.0
    adjusted = np.full(len(spread), np.nan)
    adjusted[known[order]] = np.maximum.accumulate(p[::-1])[::-1]
    return adjusted


def _mid_p(drawn: Floats, observed: Floats, same: Floats) -> Floats:
    """Share of (draws, pairs) beyond the observed (pairs,), ties counted half, itself as one."""
    beyond = (drawn > observed + same).sum(axis=0)
    ties = (drawn >= observed - same).sum(axis=0) - beyond
    return np.asarray((beyond + (ties + 1) / 2) / (len(drawn) + 1))


def spread_of(swapped: Swapped) -> Floats:
    """Root mean square of each pair's exchanges, what makes pairs comparable: (pairs,) float64.

    The exchanges of exchanged data are the same, so this is as it would be without a difference.
    The root of the sum of squared pseudo-values is not: standardised by it, 21 equal pairs erred
    in 6.1 % of families of 50 patients and 6.7 % of 20 (benchmarks/coverage.py families).
    """
    return np.asarray(np.sqrt((swapped.drawn**2).mean(axis=0)))


def pseudo_values(difference: LeftOut) -> Floats:
    """Each cluster's part of a difference; they sum to it: (C,) float64."""
    clusters = len(difference.without)
    apart = difference.without.mean() - difference.without
    return np.asarray(difference.value / clusters + apart * (clusters - 1) / clusters)


def _signs(clusters: int, seed: int, draws: int) -> Iterator[NDArray[np.float32]]:
    """Blocks of (at most 500, C) signs, +1 and -1."""
    random = np.random.default_rng(seed)
    for start in range(0, draws, CHUNK):
        rows = min(CHUNK, draws - start)
        # A byte holds eight of them; each row begins with a fresh one.
        octets = np.frombuffer(random.bytes(rows * -(-clusters // 8)), np.uint8)
        bits = np.unpackbits(octets.reshape(rows, -1), axis=1, count=clusters)
        yield 2 * bits.astype(np.float32) - 1


def _difference(metric: CountMetric, both: Floats, swapped: Floats) -> Floats:
    """F of one encoder minus F of the other, from the sum and the difference of their counts."""
    first = metric.from_confusion((both + swapped) / 2)
    return np.asarray(first - metric.from_confusion((both - swapped) / 2))
