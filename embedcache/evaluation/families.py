"""All pairs of one cohort, and what they say together: adjusted p, ranks, who may be best.

A family is one metric, arm and cohort; pairs across arms are exploratory and belong to none. Its p
are adjusted by step-down max-T over the same exchanges of patients, with Holm's beside it. An
encoder's rank interval counts who is significantly better and worse; it may be best where nobody
is significantly better (statistics.md section 4).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.nadeau_bengio import nadeau_bengio
from embedcache.evaluation.percentile import draw_values, plan_metric
from embedcache.evaluation.printed import difference_interval
from embedcache.evaluation.sample import LeftOut, Sample, leave_one_out, sample
from embedcache.evaluation.swap import (
    Swapped,
    max_t,
    spread_of,
    swap_counts,
    swap_values,
    two_sided,
)
from embedcache.metrics.metric import CountMetric, Floats, Metric
from embedcache.results.tables import ComparisonRow

#: A pair is told apart where its p, adjusted over the family, is below this.
LEVEL = 0.05
#: Values closer than this lead together.
_SAME = 1e-12

Pairs = Sequence[tuple[int, int]]


def compare_group(group: Sequence[Evaluand], metric: Metric) -> Iterator[ComparisonRow]:
    """Every pair in order, then the rank of each encoder in its arm; none with fewer than two.

    Args:
        group: evaluands of the same images, that have what the metric needs.
        metric: one that has a better end.
    """
    if len(group) < 2:
        return
    samples = [sample(evaluand) for evaluand in group]
    left = [given(leave_one_out(metric, drawn)) for drawn in samples]
    pairs = list(combinations(range(len(group)), 2))
    apart = [minus(left[first], left[second]) for first, second in pairs]
    swapped = _swapped(metric, samples, apart, pairs)
    rows = [
        dataclasses.replace(
            _row(
                (group[first], group[second]), metric, difference, (samples[first], samples[second])
            ),
            p=None if np.isnan(p) else float(p),
        )
        for (first, second), difference, p in zip(pairs, apart, two_sided(swapped), strict=True)
    ]
    rows = holm(_max_t(rows, swapped, spread_of(swapped)))
    yield from rows
    for arm in dict.fromkeys(evaluand.arm for evaluand in group):
        members = [index for index, evaluand in enumerate(group) if evaluand.arm == arm]
        if len(members) > 1:
            best = _share_of_leads(metric, [samples[index] for index in members])
            for index, share in zip(members, best, strict=True):
                yield _rank(group[index], left[index], rows, metric, share)


def given(left: LeftOut | None) -> LeftOut:
    """Values that exist, since encoders without probabilities are left out before."""
    assert left is not None
    return left


def minus(first: LeftOut, second: LeftOut) -> LeftOut:
    """The difference of two values, paired in the clusters that are left out."""
    return LeftOut(value=first.value - second.value, without=first.without - second.without)


def holm(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
    """Adjust p within each family (Holm 1979), in place of order."""
    adjusted = list(rows)
    for family in {row.family for row in rows} - {""}:
        members = [i for i, row in enumerate(rows) if row.family == family and row.p is not None]
        members.sort(key=lambda i: rows[i].p or 0.0)
        largest = 0.0
        for done, i in enumerate(members):
            largest = max(largest, min(1.0, (len(members) - done) * (rows[i].p or 0.0)))
            adjusted[i] = dataclasses.replace(rows[i], p_holm=largest)
    return adjusted


def rank_interval(
    encoder: str, pairs: Sequence[ComparisonRow], *, higher_is_better: bool
) -> tuple[int, int]:
    """Best and worst rank of an encoder that its family's adjusted p do not exclude.

    Args:
        encoder: one of the family's.
        pairs: the family's pairs.
        higher_is_better: of the metric.
    """
    better = worse = others = 0
    for row in pairs:
        if encoder not in {row.encoder, row.other}:
            continue
        others += 1
        if row.p_max_t is None or row.p_max_t >= LEVEL or not row.value:
            continue
        ahead = (row.value > 0) == higher_is_better
        if ahead == (row.encoder == encoder):
            worse += 1
        else:
            better += 1
    return 1 + better, 1 + others - worse


def _swapped(
    metric: Metric, samples: Sequence[Sample], apart: Sequence[LeftOut], pairs: Pairs
) -> Swapped:
    if isinstance(metric, CountMetric):
        return swap_counts(metric, np.stack([drawn.counts for drawn in samples]), pairs)
    return swap_values(apart)


def _max_t(rows: Sequence[ComparisonRow], swapped: Swapped, spread: Floats) -> list[ComparisonRow]:
    adjusted = list(rows)
    for family in {row.family for row in rows} - {""}:
        members = [i for i, row in enumerate(rows) if row.family == family]
        part = Swapped(observed=swapped.observed[members], drawn=swapped.drawn[:, members])
        for i, p in zip(members, max_t(part, spread[members]).tolist(), strict=True):
            adjusted[i] = dataclasses.replace(rows[i], p_max_t=None if np.isnan(p) else p)
    return adjusted


def _row(
    pair: tuple[Evaluand, Evaluand],
    metric: Metric,
    left: LeftOut,
    samples: tuple[Sample, Sample],
) -> ComparisonRow:
    first, second = pair
    interval = difference_interval(metric, samples, left)
    notes = dict.fromkeys((*first.notes, *second.notes, interval.note))
    return ComparisonRow(
        kind="pair",
        arm=first.arm,
        other_arm=second.arm,
        encoder=first.encoder,
        other=second.encoder,
        cohort=first.cohort,
        estimand=first.estimand,
        class_rule=first.class_rule,
        metric=metric.name,
        value=None if np.isnan(left.value) else left.value,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        clusters=len(samples[0].site),
        df=interval.df,
        p_nadeau_bengio=nadeau_bengio(first, second, metric),
        family=_family(metric, first) if first.arm == second.arm else "",
        note="; ".join(note for note in notes if note),
    )


def _family(metric: Metric, evaluand: Evaluand) -> str:
    return f"{metric.name} {evaluand.arm} {evaluand.cohort}"


def _rank(
    evaluand: Evaluand,
    left: LeftOut,
    rows: Sequence[ComparisonRow],
    metric: Metric,
    share: float | None,
) -> ComparisonRow:
    family = _family(metric, evaluand)
    pairs = [row for row in rows if row.family == family]
    low, high = rank_interval(evaluand.encoder, pairs, higher_is_better=metric.better == "higher")
    return ComparisonRow(
        kind="rank",
        arm=evaluand.arm,
        other_arm=evaluand.arm,
        encoder=evaluand.encoder,
        other="",
        cohort=evaluand.cohort,
        estimand=evaluand.estimand,
        class_rule=evaluand.class_rule,
        metric=metric.name,
        value=None if np.isnan(left.value) else left.value,
        method="max-t-ranks",
        clusters=len(evaluand.site),
        family=family,
        rank_low=low,
        rank_high=high,
        may_be_best=low == 1,
        p_best=share,
        note="; ".join(evaluand.notes),
    )


def _share_of_leads(metric: Metric, samples: Sequence[Sample]) -> list[float | None]:
    """Of the draws in which all have a value, the share that each leads; ties are shared."""
    plans = [plan_metric(metric, drawn) for drawn in samples]
    drawn = np.column_stack(draw_values(plans, samples[0].site))
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    if not len(drawn):
        return [None] * len(samples)
    ahead = drawn if metric.better == "higher" else -drawn
    leads = ahead >= ahead.max(axis=1, keepdims=True) - _SAME
    shares = (leads / leads.sum(axis=1, keepdims=True)).mean(axis=0)
    return [float(share) for share in shares]
