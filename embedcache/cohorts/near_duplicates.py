"""Near-duplicates: images that show one frame, or nearly, though their bytes differ.

The same picture comes rescaled, stretched, compressed or brightened; neighbouring frames of one
sweep come under two patients. Names are never looked at. Grey 32x32 thumbnails are compared, all
with all, by the cosine of what is left of them after two things were taken away:

1. Slow changes of brightness: from each pixel, the brightness around it.
2. What many images share. All pictures of a machine have its fan, its logo and its text, and such
   sharp edges outweigh any anatomy: without this step, strangers under one sharp fan reach 0.96.
   So the pixels are whitened by their second moments over the compared images, with a ridge. A
   pattern that many images share weighs little; what only two share keeps its weight.

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
SIDE = 32

#: Cosine from which a pair is a near-duplicate. Measured: copies that were rescaled or compressed
#: reach 0.98, with callipers drawn in or a per cent cropped 0.83, the loosest neighbouring frames
#: under two patients 0.77 (0.74 among few images); strangers at most 0.55, or 0.68 when all were
#: cut by one sharp fan; pictures that are drawn alike 0.69.
NEAR = 0.7

#: Root mean square, in grey levels, under which a thumbnail shows nothing to compare by
#: (real images: at least 6).
BLANK = 1.0

#: Reach, in pixels of the thumbnail, of the brightness around a pixel (a Gaussian's sigma).
AROUND = 2.0

#: Ridge of the whitening, as a share of all energy: this, or two images' worth if that is more, so
#: that a pair among few images is not taken for what all share.
RIDGE = 0.003
RIDGE_IMAGES = 2.0

_ROWS_AT_ONCE = 1024  # x 13,000 images x 4 bytes: 53 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicate:
    """Two images that show nearly the same.

    Attributes:
        first: the smaller digest, 64 hex digits.
        second: the larger digest.
        score: `NEAR` to 1; about 1 for a rescaled copy.
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
        thumbnail: (n, 32, 32) uint8, as `images.thumbnail` gives it.
        progress: who watches.

    Returns:
        Every pair found, sorted by digests.
    """
    order = np.array(sorted(range(len(digests)), key=digests.__getitem__), dtype=np.int64)
    shown = order[~blank(thumbnail[order])]
    feature = signature(thumbnail[shown])
    found = []
    with (progress or Silent()).stage("comparing", len(shown), "images") as stage:
        for start, one, other, score in _pairs(feature):
            pairs = zip(shown[one].tolist(), shown[other].tolist(), score.tolist(), strict=True)
            found += [
                NearDuplicate(first=digests[a], second=digests[b], score=round(value, 4))
                for a, b, value in pairs
            ]
            stage.advance(min(_ROWS_AT_ONCE, len(shown) - start))
    return tuple(found)


def blank(thumbnail: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Say which thumbnails show nothing to compare by: (n, 32, 32) uint8 -> (n,) bool."""
    return np.asarray(np.sqrt(np.mean(_detail(thumbnail) ** 2, axis=1)) < BLANK)


def signature(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Describe images that are compared together, by rows whose dot product is their score.

    Args:
        thumbnail: (n, 32, 32) uint8, none of them blank.

    Returns:
        (n, 1024) float32, each row of length one.
    """
    from scipy.linalg import solve_triangular

    detail = _unit(_detail(thumbnail))
    count = max(len(detail), 1)
    moment = (detail.T @ detail).astype(np.float64) / count
    moment[np.diag_indices_from(moment)] += max(RIDGE, RIDGE_IMAGES / count)
    # Any square root of the inverse gives the same dot products; a triangular one is the fastest.
    root = np.linalg.cholesky(moment).astype(np.float32)
    return _unit(solve_triangular(root, detail.T, lower=True).T)


def _detail(thumbnail: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Subtract from each pixel the brightness around it: (n, 1024), mean zero."""
    from scipy.ndimage import gaussian_filter

    grey = thumbnail.astype(np.float32)
    detail = (grey - gaussian_filter(grey, (0, AROUND, AROUND))).reshape(-1, SIDE * SIDE)
    return np.asarray(detail - detail.mean(axis=1, keepdims=True))


def _unit(row: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(row / np.linalg.norm(row, axis=1, keepdims=True))


def _pairs(
    feature: NDArray[np.float32],
) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Give, for each block of rows, its start, and rows, partners and scores of its pairs."""
    for start in range(0, len(feature), _ROWS_AT_ONCE):
        block = feature[start : start + _ROWS_AT_ONCE]
        # Row i meets the rows after it: the pairs before it came with an earlier block.
        score = np.triu(block @ feature[start:].T, k=1)
        one, other = np.nonzero(score >= NEAR)
        yield start, one + start, other + start, score[one, other]
