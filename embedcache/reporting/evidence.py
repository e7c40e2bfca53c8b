"""All that a page rests on, read once: the record, the makers, the rows, the confusion counts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedcache.results.predictions import Predictions
from embedcache.results.record import Maker, Record
from embedcache.results.tables import ComparisonRow, Estimand, MetricRow

#: Which estimand stands for a cohort: the first of these that it has (statistics.md section 1).
HEADLINE: tuple[Estimand, ...] = ("oof", "external-folds", "external-refit")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Confusion:
    """Who was taken for what, by one encoder on one cohort.

    Attributes:
        arm: how the predictions were made.
        encoder: whose they are.
        cohort: of the images.
        counts: (c, c) int64, rows true, columns predicted; over fold models counts are summed.
        images: distinct images of each true class, (c,) int64.
        clusters: patient clusters of each true class, (c,) int64.
    """

    arm: str
    encoder: str
    cohort: str
    counts: NDArray[np.int64]
    images: NDArray[np.int64]
    clusters: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """What the predictions themselves show about leakage, whoever made them.

    Attributes:
        split_clusters: patient clusters whose images lie in two folds.
        shared_images: external images that are training images too, by cohort.
    """

    split_clusters: int = 0
    shared_images: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evidence:
    """The content of one or several results folders of one protocol.

    Attributes:
        record: of the protocol.
        makers: one of each (arm, encoder), in the order of their names.
        metrics: rows of metrics.csv.
        comparisons: rows of comparisons.csv.
        confusions: one of each (arm, encoder, cohort).
        sites: number of sites of each cohort that has the stratum.
        audit: of the predictions.
    """

    record: Record
    makers: tuple[Maker, ...]
    metrics: tuple[MetricRow, ...]
    comparisons: tuple[ComparisonRow, ...]
    confusions: tuple[Confusion, ...]
    sites: dict[str, int]
    audit: Audit = field(default_factory=Audit)


def headline(predictions: Iterable[Predictions]) -> Estimand:
    """Name the estimand that predictions of one encoder on one cohort stand for."""
    raise NotImplementedError
