"""All that a page rests on, read once: the record, the makers, the rows, the confusion counts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from embedcache.results.curves_file import Curve
from embedcache.results.record import CohortRecord, Maker, Record
from embedcache.results.shift_file import Agreement, EncoderShift, Map
from embedcache.results.tables import ComparisonRow, Estimand, MetricRow, ReliabilityRow

#: Which estimand stands for a cohort: the first of these that it has (statistics.md section 1).
HEADLINE: tuple[Estimand, ...] = ("oof", "external-folds", "external-refit", "external-ensemble")
#: The metric that the page leads with.
PRIMARY = "macro-f1"
#: The encoder that every model must beat.
FLOOR = "pixels"

#: arm, encoder
Who = tuple[str, str]
#: arm, encoder, cohort
Place = tuple[str, str, str]
#: arm, encoder, cohort, metric, class, stratum
Key = tuple[str, str, str, str, str, str]
Rows = dict[Key, MetricRow]


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
class EncoderMap:
    """One encoder's map of all cohorts' images, as `shift` left it.

    Attributes:
        shift: its own numbers.
        points: the images.
    """

    shift: EncoderShift
    points: Map


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
        left_out: a sentence for each encoder whose predictions are incomplete.
        reliability: rows of reliability.csv.
        look_alike: pairs of images under different patients that look alike.
        shift: each encoder's own numbers of `shift`; none where nobody asked.
        agreement: pairs of encoders of `shift`.
        maps: each encoder's.
        curves: of tuned models.
    """

    record: Record
    makers: tuple[Maker, ...]
    metrics: tuple[MetricRow, ...]
    comparisons: tuple[ComparisonRow, ...]
    confusions: tuple[Confusion, ...]
    sites: dict[str, int]
    audit: Audit = field(default_factory=Audit)
    left_out: tuple[str, ...] = ()
    reliability: tuple[ReliabilityRow, ...] = ()
    look_alike: int = 0
    shift: tuple[EncoderShift, ...] = ()
    agreement: tuple[Agreement, ...] = ()
    maps: tuple[EncoderMap, ...] = ()
    curves: tuple[Curve, ...] = ()


def headline_rows(evidence: Evidence) -> Rows:
    """Index the rows that the page shows: every image counts, all training data, one estimand.

    Of the two class rules the restricted one leads (statistics.md section 2).
    """
    rows: Rows = {}
    for row in sorted(evidence.metrics, key=_preference, reverse=True):
        if row.level == "image" and row.train_patients == 0:
            key = (row.arm, row.encoder, row.cohort, row.metric, row.class_, row.stratum)
            rows[key] = row  # the most preferred comes last
    return rows


def _preference(row: MetricRow) -> tuple[int, bool]:
    return HEADLINE.index(row.estimand), row.class_rule != "restricted"


def home_and_abroad(evidence: Evidence) -> tuple[CohortRecord | None, tuple[CohortRecord, ...]]:
    """Tell the cohort that was cross-validated from those that were only tested on."""
    inside = {row.cohort for row in evidence.metrics if row.estimand == "oof"}
    home = next((cohort for cohort in evidence.record.cohorts if cohort.name in inside), None)
    return home, tuple(cohort for cohort in evidence.record.cohorts if cohort is not home)


def who(maker: Maker) -> Who:
    """Name a row of the page: arm and encoder."""
    return maker.arm, maker.encoder


def is_floor(maker: Maker) -> bool:
    """Whether this is the thumbnail that every model must beat, and no model itself."""
    return maker.encoder.split("#")[0].split("@")[0] == FLOOR


def is_random(maker: Maker) -> bool:
    """Whether nobody trained this encoder."""
    return maker.contract is not None and maker.contract.random_weights


def is_synthetic(evidence: Evidence) -> bool:
    """Whether any cohort's pictures were drawn."""
    return any(cohort.synthetic for cohort in evidence.record.cohorts)


def called(evidence: Evidence) -> dict[Who, str]:
    """Name each row for people: the encoder, with its arm where there are several arms."""
    several = len({maker.arm for maker in evidence.makers}) > 1
    return {
        who(maker): f"{maker.encoder} ({maker.arm})" if several else maker.encoder
        for maker in evidence.makers
    }
