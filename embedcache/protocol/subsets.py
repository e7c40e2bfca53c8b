"""Small training sets: n patients a class, one image each (statistics.md section 6).

The samples of one draw are nested, so that a curve over n compares more patients with fewer and
not with others. They follow digests and seed alone, so all encoders learn from the same images.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import TooFewForEfficiencyError
from embedcache.protocol.folds import Folds, training_sets


def patient_counts(
    folds: Folds, *, classes: Sequence[str], asked: Sequence[int]
) -> tuple[tuple[int, ...], str]:
    """Choose how many patients a class are drawn: at most half of the rarest class's.

    Beyond that, draws share so many patients that their spread says little.

    Args:
        folds: whose training sets are drawn from.
        classes: names of the classes.
        asked: patients a class, rising.

    Returns:
        Those of `asked` that are possible, and a sentence about the others; empty where none.

    Raises:
        TooFewForEfficiencyError: if not even the first is possible.
    """
    clusters = np.array(
        [
            [len(np.unique(folds.cluster[train & (folds.label == k)])) for k in range(len(classes))]
            for train in training_sets(folds).values()
        ]
    ).min(axis=0)
    rarest = int(clusters.argmin())
    most = int(clusters[rarest]) // 2
    possible = tuple(count for count in asked if count <= most)
    if not possible:
        raise TooFewForEfficiencyError(classes[rarest], int(clusters[rarest]), asked[0])
    beyond = ", ".join(str(count) for count in asked if count > most)
    note = (
        f"label efficiency: {beyond} patients a class are left out, more than half of the "
        f"{clusters[rarest]} of {classes[rarest]!r} in a training set"
    )
    return possible, note if beyond else ""


def draw_patients(
    label: NDArray[np.int16],
    cluster: NDArray[np.int64],
    pool: NDArray[np.bool_],
    *,
    most: int,
    seed: tuple[int, ...],
) -> NDArray[np.int64]:
    """Draw patients of each class in the order in which they join, one image each.

    Args:
        label: class of each row, (n,) int16, from 0; every class has `most` clusters in the pool.
        cluster: patient cluster of each row, (n,) int64; rows stand in order of digest.
        pool: the rows drawn from, (n,) bool.
        most: patients a class.
        seed: of this draw.

    Returns:
        Rows, (classes, most) int64; the first n of each class are the sample of n patients.
    """
    drawn = []
    for k in range(int(label.max()) + 1):
        # A generator a class: what is drawn of one does not depend on how many of another.
        random = np.random.default_rng((*seed, k))
        own = np.flatnonzero(pool & (label == k))
        own = own[np.argsort(cluster[own], kind="stable")]
        clusters, start, images = np.unique(cluster[own], return_index=True, return_counts=True)
        chosen = random.permutation(len(clusters))[:most]
        drawn.append(own[start[chosen] + random.integers(images[chosen])])
    return np.stack(drawn)
