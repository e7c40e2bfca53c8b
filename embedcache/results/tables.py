"""The rows of metrics.csv and comparisons.csv (ARCHITECTURE: results on disk)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Estimand = Literal["oof", "external-folds", "external-refit", "external-ensemble"]
ClassRule = Literal["restricted", "as-is"]
Level = Literal["image", "patient"]


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
        method: `cluster-jackknife`, `exact-cluster` or `not estimable`.
        images: evaluated.
        clusters: evaluated.
        df: degrees of freedom of the interval.
        low_train: with training variance, in-domain rows only.
        high_train: likewise.
        pct_low: percentile bootstrap, beside the default.
        pct_high: likewise.
        n_undefined: draws in which the metric does not exist.
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
    """One difference with its interval and p; columns as in ARCHITECTURE.

    Attributes:
        kind: `pair` (two encoders), `gap` (home minus abroad) or `gap-pair`.
        arm: of the first.
        other_arm: of the second.
        encoder: the first.
        other: the second; the difference is `encoder` minus `other`.
        cohort: whose images.
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
        rank_low: of the first encoder.
        rank_high: likewise.
        may_be_best: whether the first encoder's rank interval holds 1.
        p_best: bootstrap share of draws that it leads.
        note: what to beware of.
    """

    kind: Literal["pair", "gap", "gap-pair"]
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
