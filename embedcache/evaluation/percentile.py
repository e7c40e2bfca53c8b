"""Percentile bootstrap over patient clusters, beside the default interval.

Every draw resamples whole clusters within sites, the same for all encoders and metrics of a cohort
(draws.py). A draw in which a class of the set has no weight has no macro average: it is left out
and counted. Above 1 % of such draws there is no percentile interval; nothing repairs it
(statistics.md section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.evaluation.draws import DRAWS, SEED, cluster_weights
from embedcache.evaluation.sample import Sample, sums_of, weighed
from embedcache.metrics.metric import ClassMetric, CountMetric, Floats, Metric, ScoreMetric

#: Weights of each cluster in each draw, (draws, C) float32 -> (draws, columns) values.
Plan = Callable[[NDArray[np.float32]], Floats]

#: Largest share of draws without a value that leaves an interval (statistics.md section 3).
MOST_UNDEFINED = 0.01
_QUANTILES = (0.025, 0.975)
#: Weights of this many (draw, image) pairs are held at once where a metric has no faster way.
_BLOCK = 4_000_000
#: Weights handed to a plan at once, as far as there are as many.
_LARGE = 800_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentiles:
    """The middle 95 % of draws.

    Attributes:
        low: 2.5th percentile of the draws that have a value; None where too many have none.
        high: 97.5th.
        undefined: draws without a value.
    """

    low: float | None
    high: float | None
    undefined: int


#: (metric, class): class empty over the class set.
Drawn = Mapping[tuple[str, str], Percentiles]


def bootstrap(
    samples: Sequence[Sample], metrics: Sequence[Metric], class_metrics: Sequence[ClassMetric]
) -> list[Drawn]:
    """Percentiles of every metric of samples of one cohort, all under the same draws.

    Args:
        samples: with the same clusters, one at least.
        metrics: those of probabilities are left out where a sample has none.
        class_metrics: of each class of the set.
    """
    counted = [metric for metric in metrics if isinstance(metric, CountMetric)]
    scored = [metric for metric in metrics if not isinstance(metric, CountMetric)]
    tabled: list[CountMetric | ClassMetric] = [*counted, *class_metrics]
    plans = [plan_tables(tabled, [drawn.counts for drawn in samples])]
    keys = [
        (index, metric.name, class_)
        for index, drawn in enumerate(samples)
        for metric in tabled
        for class_ in (drawn.classes if isinstance(metric, ClassMetric) else ("",))
    ]
    for index, drawn in enumerate(samples):
        if drawn.probability is not None:
            plans += [plan_metric(metric, drawn) for metric in scored]
            keys += [(index, metric.name, "") for metric in scored]
    columns = (column for part in draw_values(plans, samples[0].site) for column in part.T)
    found: list[dict[tuple[str, str], Percentiles]] = [{} for _ in samples]
    for (index, name, class_), column in zip(keys, columns, strict=True):
        found[index][name, class_] = percentiles(column)
    return list(found)


def percentiles(value: Floats) -> Percentiles:
    """Percentiles of (draws,) values; NaN: undefined."""
    defined = value[~np.isnan(value)]
    undefined = len(value) - len(defined)
    if undefined > MOST_UNDEFINED * len(value):
        return Percentiles(low=None, high=None, undefined=undefined)
    low, high = np.quantile(defined, _QUANTILES).tolist()
    return Percentiles(low=low, high=high, undefined=undefined)


def draw_values(
    plans: Sequence[Plan], site: NDArray[np.int64], *, seed: int = SEED, draws: int = DRAWS
) -> list[Floats]:
    """Values of every plan under the same draws: (draws, columns) float64 each.

    Args:
        plans: of samples whose clusters are those of `site`.
        site: code of each cluster's site, (C,) int64.
        seed: of the draws.
        draws: how many.
    """
    found: list[list[Floats]] = [[] for _ in plans]
    for weight in _large(cluster_weights(site, seed=seed, draws=draws)):
        for values, plan in zip(found, plans, strict=True):
            values.append(plan(weight))
    return [np.concatenate(values) for values in found]


def _large(blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """Join blocks of few clusters: a call costs the same for few draws as for many."""
    held: list[NDArray[np.float32]] = []
    for block in blocks:
        held.append(block)
        if sum(part.size for part in held) >= _LARGE:
            yield np.concatenate(held)
            held = []
    if held:
        yield np.concatenate(held)


def plan_counts(metrics: Sequence[CountMetric | ClassMetric], counts: Floats) -> Plan:
    """Draw metrics of confusion counts, (C, k, c): a column each, k for a metric of classes."""
    return plan_tables(metrics, [counts])


def plan_tables(metrics: Sequence[CountMetric | ClassMetric], tables: Sequence[Floats]) -> Plan:
    """Draw the same metrics of several encoders' counts: the columns of one after the other's."""
    by_unit: dict[str, Callable[[NDArray[np.float32]], list[Floats]]] = {}
    for metric in metrics:
        if _unit(metric) not in by_unit:
            by_unit[_unit(metric)] = sums_of([weighed(metric, counts) for counts in tables])

    def plan(weight: NDArray[np.float32]) -> Floats:
        drawn = {unit: sums(weight) for unit, sums in by_unit.items()}
        columns = [
            metric.from_confusion(drawn[_unit(metric)][table]).reshape(len(weight), -1)
            for table in range(len(tables))
            for metric in metrics
        ]
        return np.concatenate(columns, axis=1)

    return plan


def _unit(metric: CountMetric | ClassMetric) -> str:
    return metric.unit if isinstance(metric, CountMetric) else "image"


def plan_scores(
    metric: ScoreMetric,
    probability: Floats,
    label: NDArray[np.int16],
    cluster: NDArray[np.int64],
) -> Plan:
    """Draw a metric of probabilities of K models, (K, n, c): one column, the models' mean."""
    parts = [
        _by_image(metric, model, label, cluster)
        if metric.by_cluster is None
        else metric.by_cluster(model, label, cluster)
        for model in probability
    ]

    def plan(weight: NDArray[np.float32]) -> Floats:
        return np.asarray(np.mean([part(weight) for part in parts], axis=0)[:, None])

    return plan


def plan_metric(metric: Metric, drawn: Sample) -> Plan:
    """Draw one metric of a sample, which has what the metric needs."""
    if isinstance(metric, CountMetric):
        return plan_counts([metric], drawn.counts)
    assert drawn.probability is not None  # asked for only with probabilities
    return plan_scores(metric, drawn.probability, drawn.label, drawn.cluster)


def _by_image(
    metric: ScoreMetric,
    probability: Floats,
    label: NDArray[np.int16],
    cluster: NDArray[np.int64],
) -> Callable[[NDArray[np.float32]], Floats]:
    rows = max(1, _BLOCK // len(label))

    def part(weight: NDArray[np.float32]) -> Floats:
        blocks = (weight[start : start + rows] for start in range(0, len(weight), rows))
        return np.concatenate(
            [
                metric.from_scores(probability, label, block[:, cluster].astype(np.float64))
                for block in blocks
            ]
        )

    return part
