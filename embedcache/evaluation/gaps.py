"""The generalisation gap: how much is lost on the way from the training cohort abroad.

`oof` minus `external-folds`: single models on both sides, and only the classes that both cohorts
have (statistics.md section 1). The cohorts share no patient, so variances add; two encoders' gaps
are paired within each cohort. Balanced accuracy leads, because the classes' shares do not move it;
macro-F1 stands beside it raw, and with the images abroad weighted to the shares at home.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from embedcache.evaluation.evaluand import Evaluand, on_classes
from embedcache.evaluation.families import minus
from embedcache.evaluation.intervals import Interval, independent_difference
from embedcache.evaluation.printed import difference_error, metric_error
from embedcache.evaluation.sample import LeftOut, Sample, leave_one_out, sample
from embedcache.metrics import balanced_accuracy, macro_f1
from embedcache.metrics.macro_f1_at_shares import at_shares
from embedcache.metrics.metric import Metric
from embedcache.results.tables import ComparisonRow

#: In every table of gaps, beside the metric that is asked for.
ALWAYS: tuple[Metric, ...] = (balanced_accuracy.METRIC, macro_f1.METRIC)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Moved:
    """One encoder on the classes that home and abroad share.

    Attributes:
        home: out-of-fold.
        abroad: by the same fold models.
        at_home: its sample.
        over_there: its sample.
    """

    home: Evaluand
    abroad: Evaluand
    at_home: Sample
    over_there: Sample


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Gap:
    """One metric at home and abroad.

    Attributes:
        metric: which.
        home: its values at home.
        abroad: its values abroad.
    """

    metric: Metric
    home: LeftOut
    abroad: LeftOut


def gap_rows(evaluands: Sequence[Evaluand], metric: Metric) -> Iterator[ComparisonRow]:
    """Gaps of every encoder and external cohort, then differences of gaps within each arm.

    None unless exactly one cohort is out-of-fold.
    """
    homes = {evaluand.cohort for evaluand in evaluands if evaluand.estimand == "oof"}
    if len(homes) != 1:
        return
    metrics = tuple({one.name: one for one in (*ALWAYS, metric)}.values())
    abroad = dict.fromkeys(e.cohort for e in evaluands if e.estimand == "external-folds")
    for cohort in abroad:
        moved = list(_moved(evaluands, cohort))
        gaps = [list(_gaps(one, metrics)) for one in moved]
        for one, own in zip(moved, gaps, strict=True):
            for gap in own:
                yield _gap_row(one, gap)
        for first, second in combinations(range(len(moved)), 2):
            if moved[first].home.arm == moved[second].home.arm:
                for pair in zip(gaps[first], gaps[second], strict=True):
                    yield _pair_row(moved[first], moved[second], *pair)


def _moved(evaluands: Sequence[Evaluand], cohort: str) -> Iterator[Moved]:
    home = _as_made([e for e in evaluands if e.estimand == "oof"])
    abroad = _as_made(
        [e for e in evaluands if e.estimand == "external-folds" and e.cohort == cohort]
    )
    for who in sorted(home.keys() & abroad.keys()):
        pair = home[who], abroad[who]
        shared = set.intersection(*(_occurring(evaluand) for evaluand in pair))
        if len(shared) > 1:
            there, away = (on_classes(evaluand, tuple(shared)) for evaluand in pair)
            yield Moved(home=there, abroad=away, at_home=sample(there), over_there=sample(away))


def _as_made(evaluands: Sequence[Evaluand]) -> dict[tuple[str, str], Evaluand]:
    """Each encoder's predictions before a class rule: `as-is`, or all there is."""
    found: dict[tuple[str, str], Evaluand] = {}
    for evaluand in evaluands:
        who = (evaluand.arm, evaluand.encoder)
        if who not in found or evaluand.class_rule == "as-is":
            found[who] = evaluand
    return found


def _occurring(evaluand: Evaluand) -> set[str]:
    return {evaluand.classes[index] for index in np.unique(evaluand.label)}


def _gaps(moved: Moved, metrics: Sequence[Metric]) -> Iterator[Gap]:
    for metric in metrics:
        home = leave_one_out(metric, moved.at_home)
        abroad = leave_one_out(metric, moved.over_there)
        if home is not None and abroad is not None:
            yield Gap(metric=metric, home=home, abroad=abroad)
        if metric.name == macro_f1.METRIC.name:
            assert home is not None  # a metric of counts
            share = np.bincount(moved.at_home.label) / len(moved.at_home.label)
            reweighted = at_shares(share)
            abroad = leave_one_out(reweighted, moved.over_there)
            assert abroad is not None  # likewise
            yield Gap(metric=reweighted, home=home, abroad=abroad)


def _gap_row(moved: Moved, gap: Gap) -> ComparisonRow:
    value = gap.home.value - gap.abroad.value
    interval = independent_difference(
        value,
        metric_error(gap.metric, moved.at_home, gap.home),
        metric_error(gap.metric, moved.over_there, gap.abroad),
    )
    return _row("", moved, gap.metric.name, value, interval)


def _pair_row(first: Moved, second: Moved, one: Gap, other: Gap) -> ComparisonRow:
    home, abroad = minus(one.home, other.home), minus(one.abroad, other.abroad)
    value = home.value - abroad.value
    interval = independent_difference(
        value,
        difference_error(one.metric, (first.at_home, second.at_home), home),
        difference_error(one.metric, (first.over_there, second.over_there), abroad),
    )
    return _row(second.home.encoder, first, one.metric.name, value, interval)


def _row(other: str, moved: Moved, metric: str, value: float, interval: Interval) -> ComparisonRow:
    notes = dict.fromkeys((*moved.home.notes, *moved.abroad.notes, interval.note))
    return ComparisonRow(
        kind="gap-pair" if other else "gap",
        arm=moved.home.arm,
        other_arm=moved.home.arm,
        encoder=moved.home.encoder,
        other=other,
        cohort=moved.abroad.cohort,
        estimand="external-folds",
        class_rule=moved.abroad.class_rule,
        metric=metric,
        value=None if np.isnan(value) else value,
        low=interval.low,
        high=interval.high,
        method=interval.method,
        clusters=len(moved.at_home.site) + len(moved.over_there.site),
        df=interval.df,
        note="; ".join(note for note in notes if note),
    )
