"""Near-duplicates between patients, told from the `pixels` features of a store.

Probing opens no image, so 16x16 thumbnails are all there is: enough for a frame that comes twice,
rescaled, compressed or brightened, and for neighbouring frames of a sweep that hardly differ; a
closer look, at 32x32, is `cohorts inspect`. Each image is centred and scaled to length one, which
takes brightness and contrast away; each pixel is standardised over the images compared, then
whitened by their second moments with a ridge: what the pictures of a machine share (its fan, its
text) weighs little, what only two share keeps its weight. The score is a cosine.

Measured on 1,317 real images (benchmarks/pixels_near_duplicates.py and its JSON): that a pair is
listed is a reason to look at it, not yet to link it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import write_file
from embedcache.protocol.clusters import digest_keys
from embedcache.protocol.judged import Judged
from embedcache.store.reader import FeatureStore

#: `Contract.architecture` of the thumbnails.
_PIXELS = "pixels"
#: Cosine from which a pair is listed. Measured: copies rescaled, compressed, brightened or cropped
#: by up to 2 % reach .80, with callipers drawn in 99 % of them; the loosest pair that the closer
#: look finds .90; strangers at most .71, among few images .74, drawn pictures .76.
NEAR = 0.8
#: Ridge of the whitening, as a share of all energy, and in images: this many count at least, so
#: that a pair among few images is not taken for what all share.
RIDGE = 0.003
RIDGE_IMAGES = 2.0
#: Standard deviation over its pixels, of grey from 0 to 1, under which a thumbnail shows nothing.
BLANK = 1 / 255

_ROWS_AT_ONCE = 1024  # x 13,000 images x 4 bytes: 53 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class NearDuplicate:
    """Two images of different patient clusters that look alike.

    Attributes:
        first: the smaller digest, 64 hex digits.
        second: the larger digest.
        score: `NEAR` to 1.
    """

    first: str
    second: str
    score: float


def find_near_duplicates(
    store: FeatureStore, cohorts: Sequence[Judged]
) -> tuple[NearDuplicate, ...]:
    """Compare all judged images that have `pixels` features; none where the store has none.

    Args:
        store: whose features are read.
        cohorts: whose images are judged; clusters of two cohorts are different clusters, since
            what they share was dropped before.

    Returns:
        Pairs of different clusters, sorted by digests.
    """
    sets = [one for one in store.feature_sets() if one.contract.architecture == _PIXELS]
    if not sets:
        return ()
    row = np.concatenate([judged.row for judged in cohorts])
    image = np.concatenate([judged.image for judged in cohorts])
    group = _groups(cohorts)
    known = np.flatnonzero(store.done(sets[0].id)[row])
    known = known[np.argsort(digest_keys(image[known]), kind="stable")]
    row, image, group = row[known], image[known], group[known]
    feature = signature(store.features(sets[0].id, row))
    found = []
    for one, other, score in _pairs(feature):
        apart = group[one] != group[other]
        for a, b, value in zip(one[apart], other[apart], score[apart].tolist(), strict=True):
            pair = (image[a].tobytes().hex(), image[b].tobytes().hex())
            found.append(NearDuplicate(first=pair[0], second=pair[1], score=round(value, 4)))
    return tuple(sorted(found, key=lambda pair: (pair.first, pair.second)))


def signature(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Describe thumbnails that are compared together, by rows whose dot product is their score.

    Args:
        pixels: grey values from 0 to 1, (n, d) float32.

    Returns:
        (n, d) float32, rows of length one; a thumbnail that shows nothing has a row of zeros.
    """
    from scipy.linalg import solve_triangular

    shows = pixels.std(axis=1) >= BLANK
    feature = np.zeros_like(pixels)
    if shows.sum() < 2:
        return feature
    grey = pixels[shows].astype(np.float64)
    grey = _unit(grey - grey.mean(axis=1, keepdims=True))
    spread = grey.std(axis=0)
    z = _unit((grey - grey.mean(axis=0)) / np.where(spread > 0, spread, 1))
    moment = z.T @ z / len(z)
    moment[np.diag_indices_from(moment)] += max(RIDGE, RIDGE_IMAGES / len(z))
    # Any square root of the inverse gives the same dot products; a triangular one is the fastest.
    white = solve_triangular(np.linalg.cholesky(moment), z.T, lower=True).T
    feature[shows] = _unit(white)
    return feature


def near_duplicate_note(found: Sequence[NearDuplicate]) -> str:
    """Say what was found and what to do, in one sentence; the closest pairs are named."""
    closest = sorted(found, key=lambda pair: (-pair.score, pair.first, pair.second))[:3]
    shown = ", ".join(f"{p.first[:12]} & {p.second[:12]} {p.score:.2f}" for p in closest)
    count = "1 pair of images looks" if len(found) == 1 else f"{len(found):,} pairs of images look"
    return (
        f"{count} alike though under different patients ({shown}{', …' if len(found) > 3 else ''}; "
        f"listed in near_duplicates.csv of the results): if they show one frame, give them with "
        f"--links FILE and another --out, so that none is trained on and tested"
    )


def write_near_duplicates(file: Path, found: Sequence[NearDuplicate]) -> None:
    """Write the pairs as a links file: two digests a row, and the score for people."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["first", "second", "score"])
    rows.writerows([pair.first, pair.second, f"{pair.score:.4f}"] for pair in found)
    write_file(file, text.getvalue().encode("ascii"))


def _groups(cohorts: Sequence[Judged]) -> NDArray[np.int64]:
    """Number patient clusters through all cohorts, (n,) int64."""
    sizes = [int(judged.cluster.max()) + 1 for judged in cohorts]
    starts = np.cumsum([0, *sizes[:-1]])
    parts = [judged.cluster + start for judged, start in zip(cohorts, starts, strict=True)]
    return np.concatenate(parts)


def _unit(row: NDArray[np.float64]) -> NDArray[np.float64]:
    length = np.linalg.norm(row, axis=1, keepdims=True)
    return np.asarray(row / np.where(length > 0, length, 1))


def _pairs(
    feature: NDArray[np.float32],
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]]:
    """Rows, partners and scores of the pairs of each block of rows."""
    for start in range(0, len(feature), _ROWS_AT_ONCE):
        block = feature[start : start + _ROWS_AT_ONCE]
        # Row i meets the rows after it: the pairs before it came with an earlier block.
        score = np.triu(block @ feature[start:].T, k=1)
        one, other = np.nonzero(score >= NEAR)
        yield one + start, other + start, score[one, other]
