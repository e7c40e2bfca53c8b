"""Near-duplicates: images that show one frame, or nearly, though their bytes differ.

The same picture comes rescaled, stretched, compressed or brightened; neighbouring frames of one
sweep come under two patients. Names are never looked at. Two looks at grey thumbnails, with the
slow differences of brightness removed, so that the fan that all pictures of a machine share does
not decide:

1. *Candidates*: the correlation of whole 32x32 thumbnails, over all pairs.
2. *Confirmation*: each 16x16 block of one 64x64 thumbnail is sought within one pixel of its
   place in the other; the mean of the blocks' correlations, weighted by what they show. Tissue
   that moved a little still matches; another patient's same plane does not.

Measured on 1,344 real images (benchmarks/near_duplicates.py and its JSON). What it does not
find: mirrored copies, and copies cropped by more than about 1 % at each edge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.progress import Progress, Silent

#: Rows and columns of the thumbnails that are compared.
SIDE = 64

#: Correlation from which a pair is looked at again. Measured: copies that were rescaled and
#: compressed reach 0.999, with calipers drawn in 0.80, the loosest pair of neighbouring frames
#: under two patients 0.85; pictures of two patients at most 0.72.
CANDIDATE = 0.75

#: Block correlation from which a candidate is a near-duplicate. Measured on the same pairs:
#: at least 0.85 for the former, at most 0.74 for the latter.
CONFIRMED = 0.8

#: Root mean square, in grey levels, under which a thumbnail shows nothing to compare by
#: (real images: at least 6).
BLANK = 1.0

_COARSE = 32
_BLOCK = 16
_REACH = 1
_ROWS_AT_ONCE = 1024  # x 13,000 images x 4 bytes: 53 MB
_PAIRS_AT_ONCE = 256  # x 9 shifts, one at a time


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicate:
    """Two images that show nearly the same.

    Attributes:
        first: the smaller digest, 64 hex digits.
        second: the larger digest.
        score: block correlation, `CONFIRMED` to 1; about 1 for a rescaled copy.
    """

    first: str
    second: str
    score: float


def near_duplicates(
    digests: Sequence[str], thumbnail: NDArray[np.uint8], progress: Progress | None = None
) -> tuple[NearDuplicate, ...]:
    """Compare every image with every other.

    Args:
        digests: of the images, distinct, 64 hex digits each; their order changes nothing.
        thumbnail: (n, 64, 64) uint8, as `images.thumbnail` gives it.
        progress: who watches.

    Returns:
        Every pair found, sorted by digests.
    """
    shown = np.flatnonzero(~blank(thumbnail))
    feature = signature(thumbnail[shown])
    found = []
    with (progress or Silent()).stage("comparing", len(shown), "images") as stage:
        for start, pair in _candidates(feature):
            score = block_score(thumbnail, shown[pair])
            found += _named(digests, shown[pair], score)
            stage.advance(min(_ROWS_AT_ONCE, len(shown) - start))
    return tuple(sorted(found, key=lambda pair: (pair.first, pair.second)))


def blank(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which thumbnails show nothing to compare by: (n, 64, 64) uint8 -> (n,) bool."""
    detail = _detail(_halve(thumbnail), sigma=2.0)
    return np.asarray(np.sqrt(np.mean(detail**2, axis=(1, 2))) < BLANK)


def signature(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe images by rows whose dot product is the correlation of the first look.

    Args:
        thumbnail: (n, 64, 64) uint8, none of them blank.

    Returns:
        (n, 1024) float32, each row of mean zero and length one.
    """
    row = _detail(_halve(thumbnail), sigma=2.0).reshape(-1, _COARSE**2)
    row -= row.mean(axis=1, keepdims=True)
    return np.asarray(row / np.linalg.norm(row, axis=1, keepdims=True))


def _halve(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    step = SIDE // _COARSE
    cells = thumbnail.reshape(-1, _COARSE, step, _COARSE, step)
    return np.asarray(cells.mean(axis=(2, 4), dtype=np.float32))


def _detail(grey: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Subtract the brightness around each pixel (a Gaussian of `sigma` pixels)."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(grey - gaussian_filter(grey, (0, sigma, sigma)))


def _candidates(feature: NDArray[np.float32]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Give, for each block of rows, its start and its pairs (k, 2) that correlate enough."""
    for start in range(0, len(feature), _ROWS_AT_ONCE):
        block = feature[start : start + _ROWS_AT_ONCE]
        # Row i meets the rows after it: the pairs before it came with an earlier block.
        likeness = np.triu(block @ feature[start:].T, k=1)
        yield start, np.argwhere(likeness >= CANDIDATE) + start


def block_score(thumbnail: NDArray[np.uint8], pair: NDArray[np.int64]) -> NDArray[np.float64]:
    """Score pairs by the second look, both ways round.

    Args:
        thumbnail: (n, 64, 64) uint8.
        pair: (k, 2), rows of `thumbnail`.

    Returns:
        (k,), at most 1.
    """
    score = np.empty(len(pair))
    for start in range(0, len(pair), _PAIRS_AT_ONCE):
        part = slice(start, start + _PAIRS_AT_ONCE)
        one, other = (
            _detail(thumbnail[pair[part, side]].astype(np.float32), sigma=4.0) for side in (0, 1)
        )
        score[part] = (_seek(one, other) + _seek(other, one)) / 2
    return score


def _seek(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Seek each block of one picture near its place in the other; (k, 64, 64) each -> (k,)."""
    block = _blocks(one)
    energy = np.sum(block**2, axis=2)
    around = np.pad(other, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)))
    best, weight = np.full(energy.shape, -1.0), np.zeros(energy.shape)
    for down in range(2 * _REACH + 1):
        for right in range(2 * _REACH + 1):
            there = _blocks(around[:, down : down + SIDE, right : right + SIDE])
            shown = np.sqrt(energy * np.sum(there**2, axis=2))
            alike = np.sum(block * there, axis=2) / np.maximum(shown, 1e-6)
            better = alike > best
            best, weight = np.where(better, alike, best), np.where(better, shown, weight)
    return np.asarray(np.sum(best * weight, axis=1) / np.maximum(np.sum(weight, axis=1), 1e-6))


def _blocks(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut (k, 64, 64) into (k, 16 blocks, 256 pixels)."""
    count = SIDE // _BLOCK
    cut = picture.reshape(-1, count, _BLOCK, count, _BLOCK).swapaxes(2, 3)
    return cut.reshape(-1, count * count, _BLOCK * _BLOCK)


def _named(
    digests: Sequence[str], pair: NDArray[np.int64], score: NDArray[np.float64]
) -> list[NearDuplicate]:
    found = []
    for (one, other), value in zip(pair.tolist(), score.tolist(), strict=True):
        if value >= CONFIRMED:
            first, second = sorted((digests[one], digests[other]))
            found.append(NearDuplicate(first=first, second=second, score=round(value, 4)))
    return found
