"""The rows of metrics.csv that one evaluand gives: overall, per class, per stratum."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.intervals import NOT_ESTIMABLE, POINT, Clusters, Interval, jackknife
from embedcache.evaluation.percentile import Drawn
from embedcache.evaluation.printed import RANKING, metric_interval
from embedcache.evaluation.sample import LeftOut, Sample, leave_one_out, sample
from embedcache.evaluation.unequal import expected_class_variance
from embedcache.metrics import f1, precision, sensitivity
from embedcache.metrics.metric import ClassMetric, Metric, PointMetric
from embedcache.results.tables import MetricRow

CLASS_METRICS: tuple[ClassMetric, ...] = (sensitivity.METRIC, precision.METRIC, f1.METRIC)
#: Pooled over folds, what ranks images ranks those of several models together; below so many
#: patient clusters that may matter, and the mean within folds stands beside it (statistics.md 2).
MANY = 200
#: A class in fewer patient clusters is named beside its rows.
WARNED = 12
#: How the note with that mean begins.
WITHIN_FOLDS = "mean within folds"


def metric_rows(
    evaluand: Evaluand, metrics: Sequence[Metric | PointMetric], drawn: Drawn
) -> Iterator[MetricRow]:
    """Every metric, over all rows first, then in each value of each stratum.

    Args:
        evaluand: what is evaluated.
        metrics: over the class set, in this order.
        drawn: percentiles of the rows over all.
    """
    for row in _rows(evaluand, sample(evaluand), metrics, stratum=""):
        yield _beside(row, drawn)
    for name, values in evaluand.strata.items():
        # Within one site there is nothing to stratify: a cluster across sites has one here.
        whole = dataclasses.replace(evaluand, site=np.full_like(evaluand.site, ""))
        for value in np.unique(values):
            part = sample(whole if name == "site" else evaluand, values == value)
            yield from _rows(evaluand, part, metrics, stratum=f"{name}={value}")


def no_patient_row(evaluand: Evaluand, reason: str) -> MetricRow:
    """One row at patient level that says why there are no others."""
    return dataclasses.replace(
        _base(evaluand, sample(evaluand), ""),
        level="patient",
        metric="macro-f1",
        method=NOT_ESTIMABLE,
        note="; ".join((*evaluand.notes, reason)),
    )


def _beside(row: MetricRow, drawn: Drawn) -> MetricRow:
    found = drawn.get((row.metric, row.class_))
    if found is None:
        return row
    if row.method == NOT_ESTIMABLE:
        # What no patient can be left out of, no draw of patients bounds.
        return dataclasses.replace(row, n_undefined=found.undefined)
    return dataclasses.replace(
        row, pct_low=found.low, pct_high=found.high, n_undefined=found.undefined
    )


def _rows(
    evaluand: Evaluand, drawn: Sample, metrics: Sequence[Metric | PointMetric], stratum: str
) -> Iterator[MetricRow]:
    folds = evaluand.folds if evaluand.estimand == "oof" else 0
    warnings = tuple(_few_clusters(drawn).values())
    base = _base(evaluand, drawn, stratum)
    for metric in metrics:
        if isinstance(metric, PointMetric):
            yield from _point_row(base, evaluand, drawn, metric)
            continue
        left = leave_one_out(metric, drawn)
        if left is not None:
            within = _within_folds(evaluand, metric) if not stratum else ()
            interval = metric_interval(metric, drawn, left, folds=folds)
            yield _row(base, evaluand, metric.name, left, interval, (*warnings, *within))
    for class_metric in CLASS_METRICS:
        yield from _class_rows(base, evaluand, drawn, class_metric, folds)


def _within_folds(evaluand: Evaluand, metric: Metric) -> tuple[str, ...]:
    """Few patients: what ranks images of several models together, beside each model's own."""
    if evaluand.tested is None or len(evaluand.site) >= MANY or metric.name not in RANKING:
        return ()
    folds = [sample(evaluand, evaluand.tested == fold) for fold in np.unique(evaluand.tested)]
    values = [left.value for part in folds if (left := leave_one_out(metric, part)) is not None]
    mean = np.mean([value for value in values if not np.isnan(value)] or [np.nan])
    return () if np.isnan(mean) else (f"{WITHIN_FOLDS} {mean:.4f}",)


def _point_row(
    base: MetricRow, evaluand: Evaluand, drawn: Sample, metric: PointMetric
) -> Iterator[MetricRow]:
    if drawn.probability is None:
        return
    models = [metric.from_clusters(p, drawn.label, drawn.cluster) for p in drawn.probability]
    left = LeftOut(value=float(np.mean(models)), without=np.empty(0))
    interval = Interval(method=POINT, note=metric.why)
    yield _row(base, evaluand, metric.name, left, interval, ())


def _class_rows(
    base: MetricRow, evaluand: Evaluand, drawn: Sample, metric: ClassMetric, folds: int
) -> Iterator[MetricRow]:
    total = drawn.counts.sum(axis=0)
    value, without = metric.from_confusion(total), metric.from_confusion(total - drawn.counts)
    own = drawn.counts.sum(axis=2) > 0
    expected = expected_class_variance(drawn.counts, metric, models=len(drawn.predicted))
    images = np.bincount(drawn.label, minlength=len(drawn.classes))
    few = _few_clusters(drawn)
    for index, name in enumerate(drawn.classes):
        clusters = Clusters(site=drawn.site, sites=drawn.sites, expected=expected[:, index])
        left = LeftOut(value=float(value[index]), without=without[:, index])
        interval = jackknife(left, clusters, scale=metric.scale, degrees="clusters", folds=folds)
        row = dataclasses.replace(
            base, class_=name, images=int(images[index]), clusters=int(own[:, index].sum())
        )
        warnings = (few[name],) if name in few else ()
        yield _row(row, evaluand, metric.name, left, interval, warnings)


def _few_clusters(drawn: Sample) -> dict[str, str]:
    """A warning for each class that lies in few patient clusters."""
    clusters = (drawn.counts.sum(axis=2) > 0).sum(axis=0).tolist()
    return {
        name: f"{name}: {count} patient cluster{'s' if count > 1 else ''}"
        for name, count in zip(drawn.classes, clusters, strict=True)
        if count < WARNED
    }


def _base(evaluand: Evaluand, drawn: Sample, stratum: str) -> MetricRow:
    return MetricRow(
        arm=evaluand.arm,
        encoder=evaluand.encoder,
        cohort=evaluand.cohort,
        estimand=evaluand.estimand,
        class_rule=evaluand.class_rule,
        level=evaluand.level,
        metric="",
        stratum=stratum,
        value=None,
        images=len(drawn.label),
        clusters=len(drawn.site),
    )


def _row(
    base: MetricRow,
    evaluand: Evaluand,
    metric: str,
    left: LeftOut,
    interval: Interval,
    warnings: tuple[str, ...],
) -> MetricRow:
    notes = (*evaluand.notes, interval.note, *warnings)
    return dataclasses.replace(
        base,
        metric=metric,
        value=None if np.isnan(left.value) else left.value,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        df=interval.df,
        low_train=interval.low_train,
        high_train=interval.high_train,
        note="; ".join(note for note in notes if note),
    )
