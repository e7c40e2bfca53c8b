"""Paired differences between encoders, with interval and cluster-swap p.

Both statements are paired: the same patients judge both encoders. The interval is the cluster
jackknife of the difference, the p that of exchanging the two encoders' predictions in whole
patient clusters (statistics.md section 4). Holm's correction is over the family: one metric, arm
and cohort; pairs across arms are exploratory and carry none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import combinations, groupby
from pathlib import Path

import numpy as np

from embedcache import registry
from embedcache.errors import DifferentFoldsError, SameEncoderError
from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.gather import Gathered, check_same_rows, gather
from embedcache.evaluation.intervals import Clusters, jackknife
from embedcache.evaluation.sample import LeftOut, Sample, leave_one_out, sample
from embedcache.evaluation.swap import swap_counts, swap_values, two_sided
from embedcache.metrics.metric import CountMetric, Floats, Metric
from embedcache.progress import Progress, Silent
from embedcache.results.layout import ResultsFolder, open_results
from embedcache.results.rows_file import write_comparisons
from embedcache.results.tables import ComparisonRow, Estimand

#: The estimand that speaks for a cohort: the first of these that its predictions have.
HEADLINE: tuple[Estimand, ...] = ("oof", "external-folds", "external-refit")
#: Seed of the swaps; one for all, so that p depends on the data alone.
SEED = 0


def compare(
    results: Sequence[Path], metric: str = "macro-f1", progress: Progress | None = None
) -> tuple[ComparisonRow, ...]:
    """Compare every pair of (encoder, arm) in each cohort; one folder gets its comparisons.csv.

    Pairs stand in the order of (arm, encoder), the difference is `encoder` minus `other`. Home:
    `oof`; abroad: `external-folds`, or `external-refit` where that is all there is. Of several
    folders nothing is written.

    Raises:
        as `differences` does.
    """
    rows = differences(results, metric, progress)
    if len(results) == 1:
        write_comparisons(ResultsFolder(results[0]), rows)
    return rows


def differences(
    results: Sequence[Path], metric: str = "macro-f1", progress: Progress | None = None
) -> tuple[ComparisonRow, ...]:
    """Compare as `compare` does, and write nothing.

    Raises:
        PathMissingError, NoResultsError, NewerResultsError: if a folder cannot be used.
        UnknownNameError: if there is no such metric.
        DifferentFoldsError: if folders differ in folds or classes.
        SameEncoderError: if two folders hold one encoder and arm.
        DifferentImagesError: if encoders disagree in a cohort's images, labels or patients.
    """
    progress = progress or Silent()
    chosen: Metric = registry.load("metrics", metric)
    folders = [open_results(path) for path in results]
    gathered = [gather(folder) for folder in folders]
    for part in gathered:
        for left_out in part.incomplete:
            progress.note(str(left_out))
    _check_together(folders, gathered)
    everything = [evaluand for part in gathered for evaluand in part.evaluands]
    rows: list[ComparisonRow] = []
    groups = list(_groups(everything, chosen, progress))
    with progress.stage("compare", len(groups), "cohorts") as stage:
        for group in groups:
            rows += _holm(list(_pairs(group, chosen)))
            stage.advance()
    if not rows:
        progress.note("there are no pairs: one encoder has nothing to be compared with")
    return tuple(rows)


def _check_together(folders: Sequence[ResultsFolder], gathered: Sequence[Gathered]) -> None:
    first, seen = gathered[0], dict[tuple[str, str], Path]()
    for folder, part in zip(folders, gathered, strict=True):
        for field in ("classes", "folds_sha256"):
            if getattr(part.record, field) != getattr(first.record, field):
                raise DifferentFoldsError(folders[0].path, folder.path, field)
        for arm, encoder in sorted({(e.arm, e.encoder) for e in part.evaluands}):
            if (arm, encoder) in seen:
                raise SameEncoderError(f"{encoder} ({arm})", seen[arm, encoder], folder.path)
            seen[arm, encoder] = folder.path


def _groups(
    evaluands: Sequence[Evaluand], metric: Metric, progress: Progress
) -> Iterator[list[Evaluand]]:
    """The evaluands that are compared with each other: one cohort, estimand and class rule."""
    usable = [
        evaluand
        for evaluand in _headline(evaluands)
        if isinstance(metric, CountMetric) or evaluand.probability is not None
    ]
    names = {(evaluand.encoder, evaluand.arm) for evaluand in evaluands}
    for encoder, arm in sorted(names - {(evaluand.encoder, evaluand.arm) for evaluand in usable}):
        progress.note(f"{encoder} ({arm}) is left out: {metric.name} needs probabilities")
    for _, members in groupby(usable, key=lambda evaluand: (evaluand.cohort, evaluand.estimand)):
        group = list(members)
        arms = {(evaluand.arm, evaluand.encoder) for evaluand in group}
        restricted = [evaluand for evaluand in group if evaluand.class_rule == "restricted"]
        as_is = [evaluand for evaluand in group if evaluand.class_rule == "as-is"]
        kept = restricted if len(restricted) == len(arms) else as_is
        check_same_rows(kept)
        yield kept


def _headline(evaluands: Sequence[Evaluand]) -> list[Evaluand]:
    """Each encoder's first estimand in each cohort; sorted by cohort, estimand, arm, encoder."""
    cohorts = list(dict.fromkeys(evaluand.cohort for evaluand in evaluands))
    best: dict[tuple[str, str, str], int] = {}
    for evaluand in evaluands:
        if evaluand.estimand in HEADLINE:
            key = (evaluand.arm, evaluand.encoder, evaluand.cohort)
            rank = HEADLINE.index(evaluand.estimand)
            best[key] = min(rank, best.get(key, rank))
    chosen = [
        evaluand
        for evaluand in evaluands
        if evaluand.estimand in HEADLINE
        and HEADLINE.index(evaluand.estimand)
        == best[evaluand.arm, evaluand.encoder, evaluand.cohort]
    ]
    return sorted(
        chosen,
        key=lambda evaluand: (
            cohorts.index(evaluand.cohort),
            HEADLINE.index(evaluand.estimand),
            evaluand.arm,
            evaluand.encoder,
        ),
    )


def _pairs(group: Sequence[Evaluand], metric: Metric) -> Iterator[ComparisonRow]:
    if len(group) < 2:
        return
    samples = [sample(evaluand) for evaluand in group]
    left = [_given(leave_one_out(metric, drawn)) for drawn in samples]
    pairs = list(combinations(range(len(group)), 2))
    for pair, p in zip(pairs, _p_values(metric, samples, left, pairs), strict=True):
        first, second = pair
        yield _row(
            (group[first], group[second]),
            metric,
            _minus(left[first], left[second]),
            samples[first],
            p,
        )


def _given(left: LeftOut | None) -> LeftOut:
    assert left is not None  # encoders without probabilities are left out before
    return left


def _minus(first: LeftOut, second: LeftOut) -> LeftOut:
    return LeftOut(value=first.value - second.value, without=first.without - second.without)


def _p_values(
    metric: Metric,
    samples: Sequence[Sample],
    left: Sequence[LeftOut],
    pairs: Sequence[tuple[int, int]],
) -> Floats:
    if isinstance(metric, CountMetric):
        counts = np.stack([drawn.counts for drawn in samples])
        return two_sided(swap_counts(metric, counts, pairs, seed=SEED))
    differences = [_minus(left[first], left[second]) for first, second in pairs]
    return two_sided(swap_values(differences, seed=SEED))


def _row(
    pair: tuple[Evaluand, Evaluand], metric: Metric, left: LeftOut, drawn: Sample, p: float
) -> ComparisonRow:
    first, second = pair
    interval = jackknife(
        left,
        Clusters(site=drawn.site, sites=drawn.sites),
        scale="identity",
        degrees="clusters",
    )
    notes = dict.fromkeys((*first.notes, *second.notes, interval.note))
    same_arm = first.arm == second.arm
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
        clusters=len(drawn.site),
        df=interval.df,
        p=None if np.isnan(p) else float(p),
        family=f"{metric.name} {first.arm} {first.cohort}" if same_arm else "",
        note="; ".join(note for note in notes if note),
    )


def _holm(rows: Sequence[ComparisonRow]) -> list[ComparisonRow]:
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
