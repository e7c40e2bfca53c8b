"""The rows of metrics.csv and comparisons.csv (ARCHITECTURE: results on disk)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Estimand = Literal["oof", "external-folds", "external-refit", "external-ensemble"]
ClassRule = Literal["restricted", "as-is"]
Level = Literal["image", "patient"]
ComparisonKind = Literal["pair", "rank", "gap", "gap-pair", "sites"]


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRow:
    """One value with its interval; a float that does not exist is None, an empty cell on disk.

    Attributes:
        arm: how the predictions were made.
        encoder: reference without weights.
        cohort: whose images.
        estimand: which models, which predictions (statistics.md section 1).
        class_rule: how classes that the cohort lacks were treated.
        level: whether images or patients count.
        train_patients: patients a class in training; 0: all.
        metric: name of the metric.
        class_: one class for per-class metrics; empty: over the class set.
        stratum: `site=Ghana`; empty: all.
        value: the point value.
        low: of the 95 % interval.
        high: likewise.
        method: `cluster-jackknife`, `exact-cluster` or `not estimable`; `point`: a metric that is
            given without an interval.
        images: evaluated.
        clusters: evaluated.
        df: degrees of freedom of the interval.
        low_train: with training variance, in-domain rows only.
        high_train: likewise.
        pct_low: percentile bootstrap, beside the default; rows over all strata only. Empty where
            more than 1 % of draws have no value, or nothing is estimable.
        pct_high: likewise.
        n_undefined: of 10,000 draws those in which the metric does not exist; None: not drawn.
        note: why there is no interval, or what to beware of.
    """

    arm: str
    encoder: str
    cohort: str
    estimand: Estimand
    class_rule: ClassRule
    level: Level = "image"
    train_patients: int = 0
    metric: str
    class_: str = ""
    stratum: str = ""
    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = "cluster-jackknife"
    images: int
    clusters: int
    df: float | None = None
    low_train: float | None = None
    high_train: float | None = None
    pct_low: float | None = None
    pct_high: float | None = None
    n_undefined: int | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ComparisonRow:
    """One difference with its interval and p, or what follows from a family of them.

    Attributes:
        kind: `pair` (two encoders), `rank` (one among its family; the value is its own), `gap`
            (home minus abroad), `gap-pair` (the gaps of two encoders) or `sites` (best minus worst
            site; the note names them).
        arm: of the first.
        other_arm: of the second; of the first where there is one.
        encoder: the first.
        other: the second, empty where there is one; the difference is `encoder` minus `other`.
        cohort: whose images; of a gap, abroad.
        estimand: as in `MetricRow`.
        class_rule: likewise.
        level: likewise.
        metric: likewise.
        value: the difference.
        low: of its 95 % interval.
        high: likewise.
        method: of the interval.
        clusters: evaluated.
        df: degrees of freedom.
        p: cluster swap, two-sided.
        p_max_t: max-T adjusted over the family.
        p_holm: Holm adjusted over the family.
        p_nadeau_bengio: companion.
        family: name of the family of comparisons.
        rank_low: best rank that is not excluded; rows of kind `rank` only, as are the next three.
        rank_high: worst rank that is not excluded.
        may_be_best: whether the rank interval holds 1.
        p_best: bootstrap share of draws that the encoder leads; a description, no test.
        note: what to beware of.
    """

    kind: ComparisonKind
    arm: str
    other_arm: str
    encoder: str
    other: str
    cohort: str
    estimand: Estimand
    class_rule: ClassRule
    level: Level = "image"
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = "cluster-jackknife"
    clusters: int
    df: float | None = None
    p: float | None = None
    p_max_t: float | None = None
    p_holm: float | None = None
    p_nadeau_bengio: float | None = None
    family: str = ""
    rank_low: int | None = None
    rank_high: int | None = None
    may_be_best: bool | None = None
    p_best: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReliabilityRow:
    """One bin of a reliability plot: what was promised, and what was held.

    Attributes:
        arm: as in `MetricRow`.
        encoder: likewise.
        cohort: likewise.
        estimand: likewise.
        class_rule: likewise.
        bin: 0 is the least confident.
        predictions: in the bin; of K fold models all together.
        clusters: patient clusters with predictions in the bin.
        confidence: mean probability of the predicted class.
        accuracy: share of predictions that are right.
        low: of the accuracy's 95 % interval.
        high: likewise.
        method: as in `MetricRow`.
    """

    arm: str
    encoder: str
    cohort: str
    estimand: Estimand
    class_rule: ClassRule
    bin: int
    predictions: int
    clusters: int
    confidence: float
    accuracy: float
    low: float | None
    high: float | None
    method: str
