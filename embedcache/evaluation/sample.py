"""The rows that one number is computed from, reduced to their own class set and clusters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.evaluation.evaluand import Evaluand
from embedcache.metrics.metric import ClassMetric, CountMetric, Floats, Metric, ScoreMetric

#: Weights of this many (cluster, image) pairs are held at once where a metric has no faster way.
_BLOCK = 4_000_000


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sample:
    """Some rows of an evaluand; the class set comes first among its classes.

    Attributes:
        classes: the class set: classes that occur, k of them.
        label: index into `classes`, (n,) int16.
        cluster: 0 to C - 1, every number occurs, (n,) int64.
        site: code of each cluster's site, (C,) int64.
        sites: names of the sites, by code.
        predicted: (K, n) int16; k and above: outside the class set.
        probability: (K, n, c) float64, columns of the class set first, or None.
        counts: confusion counts of each cluster, summed over K, (C, k, c) float64.
    """

    classes: tuple[str, ...]
    label: NDArray[np.int16]
    cluster: NDArray[np.int64]
    site: NDArray[np.int64]
    sites: tuple[str, ...]
    predicted: NDArray[np.int16]
    probability: NDArray[np.float64] | None
    counts: Floats


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class LeftOut:
    """A metric of all rows, and without each cluster.

    Attributes:
        value: of all rows; NaN where undefined.
        without: without each cluster in turn, (C,) float64; NaN where undefined.
    """

    value: float
    without: Floats


def sample(evaluand: Evaluand, rows: NDArray[np.bool_] | None = None) -> Sample:
    """Take the rows of a stratum, or all; (n,) bool, at least one of them."""
    taken = np.ones(len(evaluand.label), bool) if rows is None else rows
    clusters, cluster = np.unique(evaluand.cluster[taken], return_inverse=True)
    sites, site = np.unique(evaluand.site[clusters], return_inverse=True)
    present = np.unique(evaluand.label[taken])
    order = np.concatenate([present, np.setdiff1d(np.arange(len(evaluand.classes)), present)])
    place = np.argsort(order).astype(np.int16)
    label, predicted = place[evaluand.label[taken]], place[evaluand.predicted[:, taken]]
    probability = evaluand.probability
    return Sample(
        classes=tuple(evaluand.classes[index] for index in present),
        label=label,
        cluster=cluster,
        site=site,
        sites=tuple(sites.tolist()),
        predicted=predicted,
        probability=None if probability is None else probability[:, taken][..., order],
        counts=_counts(cluster, label, predicted, (len(clusters), len(present), len(order))),
    )


def leave_one_out(metric: Metric, drawn: Sample) -> LeftOut | None:
    """A metric of the sample and without each cluster; None where it needs probabilities."""
    if isinstance(metric, CountMetric):
        return leave_counts_out(metric, drawn.counts)
    if drawn.probability is None:
        return None
    models = [_leave_scores_out(metric, drawn, model) for model in drawn.probability]
    return LeftOut(
        value=float(np.mean([model.value for model in models])),
        without=np.mean([model.without for model in models], axis=0),
    )


def leave_counts_out(metric: CountMetric, counts: Floats) -> LeftOut:
    """A count metric of the sum of (C, k, c) counts, and without each cluster's."""
    weight = weighed(metric, counts)
    total = weight.sum(axis=0)
    rest = total - weight
    # Parts of an image leave a rounding error where nothing is left.
    rest[counts.sum(axis=0) == counts] = 0
    return LeftOut(value=float(metric.from_confusion(total)), without=metric.from_confusion(rest))


def weighed(metric: CountMetric | ClassMetric, counts: Floats) -> Floats:
    """Counts as the metric counts them: each image as one, or each cluster as one; (C, k, c)."""
    if isinstance(metric, ClassMetric) or metric.unit == "image":
        return counts
    return np.asarray(counts / counts.sum(axis=(1, 2), keepdims=True))


def product(weight: NDArray[np.float32], counts: Floats) -> Floats:
    """Weighted sums of clusters' (C, …) counts under each draw: (draws, …) float64."""
    return sums_of([counts])(weight)[0]


def sums_of(tables: Sequence[Floats]) -> Callable[[NDArray[np.float32]], list[Floats]]:
    """Prepare weighted sums of several tables of the same clusters, (C, …, k, c) each.

    Few images are confused, and paired tables have the same true classes: errors and true images
    are summed, as one sparse product, and what is right is the difference. Whole numbers are summed
    in float32, exactly. Draws lie side by side in memory, since metrics reduce over classes.

    Returns:
        What gives, for (draws, C) weights, (draws, …, k, c) float64 of each table.
    """
    from scipy import sparse

    true = [counts.sum(axis=-1) for counts in tables]
    paired = all(np.array_equal(own, true[0]) for own in true)
    parts = [*map(_errors, tables), *(true[:1] if paired else true)]
    flat = np.concatenate([part.reshape(len(part), -1).T for part in parts])
    ends = np.cumsum([part[0].size for part in parts])[:-1]
    whole = bool((flat == np.rint(flat)).all())
    matrix = sparse.csr_array(flat.astype(np.float32 if whole else np.float64))
    largest = flat.sum(axis=1).max()

    def sums(weight: NDArray[np.float32]) -> list[Floats]:
        drawn = matrix @ np.ascontiguousarray(weight.T, dtype=matrix.dtype)
        # Below 2^24 float32 holds every whole number. Partial sums stay below the last one where
        # weights are not negative, and below the plain sum where they are signs.
        assert not whole or max(drawn.max(), -drawn.min(), largest) < 2**24
        found = np.split(drawn.astype(np.float64), ends)
        of_true = found[len(tables) :]
        return [
            _with_right(wrong, of_true[0 if paired else index], counts.shape[1:])
            for index, (wrong, counts) in enumerate(zip(found, tables, strict=False))
        ]

    return sums


def _errors(counts: Floats) -> Floats:
    """Counts without those of images that are right: (C, …, k, c)."""
    wrong = counts.copy()
    own = np.arange(counts.shape[-2])
    wrong[..., own, own] = 0
    return wrong


def _with_right(wrong: Floats, true: Floats, shape: tuple[int, ...]) -> Floats:
    """Put back what is right, true less wrong, into sums of errors: (draws, …, k, c)."""
    table = wrong.reshape(*shape, -1)
    own = np.arange(shape[-2])
    table[..., own, own, :] = true.reshape(*shape[:-1], -1) - table.sum(axis=-2)
    return np.moveaxis(table, -1, 0)


def _counts(
    cluster: NDArray[np.int64],
    label: NDArray[np.int16],
    predicted: NDArray[np.int16],
    shape: tuple[int, int, int],
) -> Floats:
    cells = np.ravel_multi_index((cluster, label, predicted), shape)
    counted = np.bincount(cells.ravel(), minlength=int(np.prod(shape)))
    return counted.reshape(shape).astype(np.float64)


def _leave_scores_out(metric: ScoreMetric, drawn: Sample, probability: Floats) -> LeftOut:
    everyone = np.ones((1, len(drawn.label)))
    value = float(metric.from_scores(probability, drawn.label, everyone)[0])
    if metric.leave_one_out is not None:
        without = metric.leave_one_out(probability, drawn.label, drawn.cluster)
        return LeftOut(value=value, without=without)
    blocks = _absences(len(drawn.site), len(drawn.label))
    if metric.by_cluster is not None:
        part = metric.by_cluster(probability, drawn.label, drawn.cluster)
        return LeftOut(value=value, without=np.concatenate([part(block) for block in blocks]))
    left = [
        metric.from_scores(probability, drawn.label, block[:, drawn.cluster].astype(np.float64))
        for block in blocks
    ]
    return LeftOut(value=value, without=np.concatenate(left))


def _absences(clusters: int, images: int) -> Iterator[NDArray[np.float32]]:
    """Weights without each cluster in turn, in blocks: (some, C) float32."""
    for part in np.array_split(np.arange(clusters), -(-clusters * images // _BLOCK)):
        yield (np.arange(clusters) != part[:, None]).astype(np.float32)
