"""Linear CKA: how alike two encoders arrange the same images, whatever their dimensions.

Kornblith, Norouzi, Lee and Hinton 2019: |X'Y|^2 / (|X'X| |Y'Y|) of centred features, Frobenius
norms. It is blind to rotation and scale, and grows towards 1 where dimensions outnumber images, so
the debiased form stands beside it (the unbiased HSIC of Song et al. 2012, as Nguyen, Raghu and
Kornblith 2021 use it). Products are summed over blocks of rows: no matrix is n x n.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Reads some rows of an encoder's features: (k,) -> (k, dim) float32.
Read = Callable[[NDArray[np.int64]], NDArray[np.float32]]

_ROWS_AT_ONCE = 1024
#: Images from which the debiased form exists.
_FEWEST = 4


@dataclass(frozen=True, slots=True)
class Cka:
    """Agreement of two encoders.

    Attributes:
        plain: from 0 to 1.
        debiased: at most about 1; None for fewer than four images.
    """

    plain: float
    debiased: float | None


def linear_cka(encoders: Sequence[Read], rows: NDArray[np.int64]) -> dict[tuple[int, int], Cka]:
    """Compare all pairs of encoders on the same images.

    Args:
        encoders: what reads each one's features.
        rows: of the image table, (n,) int64.

    Returns:
        By the places of two encoders, first below second.
    """
    blocks = np.array_split(rows, -(-len(rows) // _ROWS_AT_ONCE))
    mean = [
        np.sum([read(block).sum(axis=0, dtype=np.float64) for block in blocks], axis=0) / len(rows)
        for read in encoders
    ]
    pairs = [(a, b) for a in range(len(encoders)) for b in range(a, len(encoders))]
    cross = {(a, b): np.zeros((len(mean[a]), len(mean[b]))) for a, b in pairs}
    square: list[list[NDArray[np.float64]]] = [[] for _ in encoders]
    for block in blocks:
        centred = [
            (read(block) - middle).astype(np.float32)
            for read, middle in zip(encoders, mean, strict=True)
        ]
        for a, b in pairs:
            cross[a, b] += centred[a].T @ centred[b]
        for lengths, part in zip(square, centred, strict=True):
            lengths.append(np.einsum("ij,ij->i", part, part, dtype=np.float64))
    length = [np.concatenate(parts) for parts in square]
    hsic = {(a, b): _hsic(cross[a, b], length[a], length[b]) for a, b in pairs}
    return {(a, b): _normalised(hsic[a, b], hsic[a, a], hsic[b, b]) for a, b in pairs if a != b}


def _hsic(
    cross: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64]
) -> tuple[float, float | None]:
    """Biased and unbiased HSIC, up to a factor that all pairs share.

    Args:
        cross: X'Y of centred features.
        first: squared length of each row of X, (n,).
        second: of each row of Y.
    """
    n = len(first)
    whole = float((cross**2).sum())
    if n < _FEWEST:
        return whole, None
    # With the diagonals of XX' and YY' taken out; rows of a centred XX' sum to zero.
    own = float(first @ second)
    both = float(first.sum() * second.sum())
    return whole, whole - own + both / ((n - 1) * (n - 2)) - 2 / (n - 2) * own


def _normalised(
    cross: tuple[float, float | None],
    first: tuple[float, float | None],
    second: tuple[float, float | None],
) -> Cka:
    scale = np.sqrt(first[0] * second[0])
    plain = float(cross[0] / scale) if scale > 0 else 0.0
    if cross[1] is None or first[1] is None or second[1] is None:
        return Cka(plain, None)
    spread = first[1] * second[1]
    return Cka(plain, float(cross[1] / np.sqrt(spread)) if spread > 0 else None)
