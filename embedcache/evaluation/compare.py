"""Differences between encoders, home and abroad, with interval and p: comparisons.csv.

Pairs are judged on the same patients (families.py), gaps on two cohorts (gaps.py), sites within
one (sites.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from embedcache import registry
from embedcache.errors import DifferentFoldsError, MetricNotComparedError, SameEncoderError
from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.families import compare_group
from embedcache.evaluation.gaps import gap_rows
from embedcache.evaluation.gather import Gathered, check_same_rows, gather
from embedcache.evaluation.sites import site_rows
from embedcache.metrics.metric import CountMetric, Metric, PointMetric
from embedcache.progress import Progress, Silent
from embedcache.results.layout import ResultsFolder, open_results
from embedcache.results.rows_file import write_comparisons
from embedcache.results.tables import ComparisonRow, Estimand

#: The estimand that speaks for a cohort: the first of these that its predictions have.
HEADLINE: tuple[Estimand, ...] = ("oof", "external-folds", "external-refit")


def compare(
    results: Sequence[Path], metric: str = "macro-f1", progress: Progress | None = None
) -> tuple[ComparisonRow, ...]:
    """Compare every pair of (encoder, arm) in each cohort; one folder gets its comparisons.csv.

    For each cohort pairs in the order of (arm, encoder), the difference `encoder` minus `other`,
    then ranks within each arm, then ranges over sites; last the gaps between cohorts. Home: `oof`;
    abroad: `external-folds`, or `external-refit` where that is all there is. Of several folders
    nothing is written.

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
        MetricNotComparedError: if encoders cannot be ranked by it.
        DifferentFoldsError: if folders differ in folds or classes.
        SameEncoderError: if two folders hold one encoder and arm.
        DifferentImagesError: if encoders disagree in a cohort's images, labels or patients.
    """
    progress = progress or Silent()
    chosen = _comparable(metric)
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
            rows += compare_group(group, chosen)
            rows += site_rows(group, chosen)
            stage.advance()
    if not any(row.kind == "pair" for row in rows):
        progress.note("there are no pairs: one encoder has nothing to be compared with")
    homes = sorted({evaluand.cohort for evaluand in everything if evaluand.estimand == "oof"})
    if len(homes) > 1:
        progress.note(f"there are no gaps: {', '.join(homes)} are each out-of-fold, which is home?")
    return (*rows, *gap_rows(everything, chosen))


def _comparable(name: str) -> Metric:
    metric: Metric | PointMetric = registry.load("metrics", name)
    if isinstance(metric, PointMetric) or metric.better == "neither":
        offered = [registry.load("metrics", other) for other in registry.names("metrics")]
        usable = [m for m in offered if not isinstance(m, PointMetric) and m.better != "neither"]
        raise MetricNotComparedError(name, tuple(one.name for one in usable))
    return metric


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
