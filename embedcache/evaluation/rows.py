"""The rows of metrics.csv that one evaluand gives: overall, per class, per stratum."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.intervals import NOT_ESTIMABLE, Clusters, Interval, jackknife
from embedcache.evaluation.sample import LeftOut, Sample, leave_one_out, sample
from embedcache.metrics import f1, precision, sensitivity
from embedcache.metrics.metric import ClassMetric, CountMetric, Floats, Metric, PointMetric
from embedcache.results.tables import MetricRow

CLASS_METRICS: tuple[ClassMetric, ...] = (sensitivity.METRIC, precision.METRIC, f1.METRIC)
#: Below so many patient clusters of a class, 95 % intervals cover 90 to 95 % (statistics.md 3).
FEW = 10


def metric_rows(evaluand: Evaluand, metrics: Sequence[Metric | PointMetric]) -> Iterator[MetricRow]:
    """Every metric, over all rows first, then in each value of each stratum."""
    yield from _rows(evaluand, sample(evaluand), metrics, stratum="")
    for name, values in evaluand.strata.items():
        # Within one site there is nothing to stratify: a cluster across sites has one here.
        whole = dataclasses.replace(evaluand, site=np.full_like(evaluand.site, ""))
        for value in np.unique(values):
            drawn = sample(whole if name == "site" else evaluand, values == value)
            yield from _rows(evaluand, drawn, metrics, stratum=f"{name}={value}")


def _rows(
    evaluand: Evaluand, drawn: Sample, metrics: Sequence[Metric | PointMetric], stratum: str
) -> Iterator[MetricRow]:
    folds = evaluand.folds if evaluand.estimand == "oof" else 0
    clusters = Clusters(site=drawn.site, sites=drawn.sites)
    warnings = _few_clusters(drawn)
    base = _base(evaluand, drawn, stratum)
    for metric in metrics:
        if isinstance(metric, PointMetric):
            yield from _point_row(base, evaluand, drawn, metric)
            continue
        left = leave_one_out(metric, drawn)
        if left is not None:
            interval = _interval(metric, left, clusters, folds)
            yield _row(base, evaluand, metric.name, left, interval, tuple(warnings.values()))
    for class_metric in CLASS_METRICS:
        yield from _class_rows(base, evaluand, drawn, class_metric, folds)


def _point_row(
    base: MetricRow, evaluand: Evaluand, drawn: Sample, metric: PointMetric
) -> Iterator[MetricRow]:
    if drawn.probability is None:
        return
    models = [metric.from_clusters(p, drawn.label, drawn.cluster) for p in drawn.probability]
    left = LeftOut(value=float(np.mean(models)), without=np.empty(0))
    interval = Interval(method=NOT_ESTIMABLE, note=metric.why)
    yield _row(base, evaluand, metric.name, left, interval, ())


def _class_rows(
    base: MetricRow, evaluand: Evaluand, drawn: Sample, metric: ClassMetric, folds: int
) -> Iterator[MetricRow]:
    total = drawn.counts.sum(axis=0)
    value, without = metric.from_confusion(total), metric.from_confusion(total - drawn.counts)
    own = drawn.counts.sum(axis=2) > 0
    counted = _counted(drawn.counts, metric)
    images = np.bincount(drawn.label, minlength=len(drawn.classes))
    few = _few_clusters(drawn)
    for index, name in enumerate(drawn.classes):
        clusters = Clusters(site=drawn.site, sites=drawn.sites, counted=counted[:, index])
        left = LeftOut(value=float(value[index]), without=without[:, index])
        interval = jackknife(left, clusters, scale=metric.scale, degrees="clusters", folds=folds)
        row = dataclasses.replace(
            base, class_=name, images=int(images[index]), clusters=int(own[:, index].sum())
        )
        warnings = (few[name],) if name in few else ()
        yield _row(row, evaluand, metric.name, left, interval, warnings)


def _counted(counts: Floats, metric: ClassMetric) -> NDArray[np.bool_]:
    """Which clusters hold images that a class's metric rests on: (C, k) bool."""
    true = counts.sum(axis=2) > 0
    predicted = counts.sum(axis=1)[:, : true.shape[1]] > 0
    chosen = {"true": true, "predicted": predicted, "either": true | predicted}
    return np.asarray(chosen[metric.counts])


def _interval(metric: Metric, left: LeftOut, clusters: Clusters, folds: int) -> Interval:
    counts = isinstance(metric, CountMetric)
    return jackknife(
        left,
        clusters,
        scale=metric.scale,
        degrees="clusters" if counts else "kurtosis",
        folds=folds,
    )


def _few_clusters(drawn: Sample) -> dict[str, str]:
    """A warning for each class that lies in few patient clusters."""
    clusters = (drawn.counts.sum(axis=2) > 0).sum(axis=0).tolist()
    return {
        name: f"{name}: {count} patient cluster{'s' if count > 1 else ''}"
        for name, count in zip(drawn.classes, clusters, strict=True)
        if count < FEW
    }


def _base(evaluand: Evaluand, drawn: Sample, stratum: str) -> MetricRow:
    return MetricRow(
        arm=evaluand.arm,
        encoder=evaluand.encoder,
        cohort=evaluand.cohort,
        estimand=evaluand.estimand,
        class_rule=evaluand.class_rule,
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
