"""A metric: a number from confusion counts or from probabilities, for many draws at once.

The *class set* of evaluated rows is the classes that occur in them (statistics.md section 2). A
prediction outside it is an error of its true class, so a table of counts has a row for each class
of the set, and the same classes as its first columns; further columns hold what lies outside.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: On which scale an interval is symmetric (statistics: logit in [0, 1], log for losses).
Scale = Literal["logit", "log", "atanh", "identity"]
#: What is better of a metric; of `neither`, encoders cannot be ranked.
Better = Literal["higher", "lower", "neither"]
#: Weights of each cluster in each draw, (draws, C) float32 -> (draws,) values.
Resampled = Callable[[NDArray[np.float32]], Floats]


@dataclass(frozen=True, kw_only=True, slots=True)
class CountMetric:
    """A metric of the confusion counts alone.

    Attributes:
        name: as in tables and on the command line, `macro-f1`.
        title: as people write it, `Macro-F1`.
        scale: of its interval.
        better: whether more or less of it is better.
        from_confusion: (…, k, m) counts, m >= k, rows true and columns predicted -> (…,) values;
            NaN where it does not exist, as where a class of the set has no images.
        unit: what counts alike: `image`, or `cluster`: each image counts 1 / images of its cluster.
        mean_of: for a mean over classes, the images that each class's part rests on, as in
            `ClassMetric.counts`; empty for other metrics. Where few patients have a class, a part
            without a fault says nothing of its variance.
    """

    name: str
    title: str
    scale: Scale
    better: Better
    from_confusion: FromConfusion
    unit: Literal["image", "cluster"] = "image"
    mean_of: Literal["true", "either", ""] = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassMetric:
    """A metric of the confusion counts that has a value for each class.

    Attributes:
        name, title, scale, better: as in `CountMetric`.
        counts: which images of a class it rests on: those that are of it (`true`), those
            predicted as it (`predicted`), or both (`either`).
        from_confusion: (…, k, m) counts, as in `CountMetric` -> (…, k) values; NaN where undefined.
    """

    name: str
    title: str
    scale: Scale
    better: Better
    counts: Literal["true", "predicted", "either"]
    from_confusion: FromConfusion


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreMetric:
    """A metric of the class probabilities.

    Attributes:
        name, title, scale, better: as in `CountMetric`.
        from_scores: probability (n, c), label (n,), weight (draws, n) -> (draws,) values over the
            classes that occur in `label`; NaN where one of them has no weight.
        leave_one_out: the same without each patient cluster in turn, where that has a faster way
            than a weight of zero; None where it has not.
        by_cluster: prepares many draws of whole clusters, where that has a faster way than a
            weight for each image; None where it has not.
    """

    name: str
    title: str
    scale: Scale
    better: Better
    from_scores: FromScores
    leave_one_out: LeaveOneOut | None = None
    by_cluster: ByCluster | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PointMetric:
    """A number of the class probabilities that is given without an interval.

    Attributes:
        name, title, better: as in `CountMetric`.
        from_clusters: probability (n, c), label (n,), cluster (n,) -> value over the clusters.
        why: the reason that no interval stands beside it, for the row's note.
    """

    name: str
    title: str
    better: Better
    from_clusters: FromClusters
    why: str


Metric = CountMetric | ScoreMetric


class FromConfusion(Protocol):
    """See `CountMetric.from_confusion` and `ClassMetric.from_confusion`."""

    def __call__(self, confusion: Floats) -> Floats:
        """Value of each table of counts."""


class FromScores(Protocol):
    """See `ScoreMetric.from_scores`."""

    def __call__(self, probability: Floats, label: NDArray[np.int16], weight: Floats) -> Floats:
        """Value under each draw's weights."""


class LeaveOneOut(Protocol):
    """See `ScoreMetric.leave_one_out`."""

    def __call__(
        self, probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
    ) -> Floats:
        """Value without each of the clusters, numbered 0 to C - 1: (C,)."""


class ByCluster(Protocol):
    """See `ScoreMetric.by_cluster`."""

    def __call__(
        self, probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
    ) -> Resampled:
        """What gives the value of each draw from its clusters' weights, whole numbers."""


class FromClusters(Protocol):
    """See `PointMetric.from_clusters`."""

    def __call__(
        self, probability: Floats, label: NDArray[np.int16], cluster: NDArray[np.int64]
    ) -> float:
        """The value of these rows."""
