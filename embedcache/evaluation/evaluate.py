"""Every metric of every encoder in a results folder, with its interval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache import registry
from embedcache.evaluation.efficiency import efficiency_rows
from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.gather import gather
from embedcache.evaluation.patients import by_patient
from embedcache.evaluation.percentile import Drawn, bootstrap
from embedcache.evaluation.reliability import reliability_rows
from embedcache.evaluation.rows import CLASS_METRICS, metric_rows, no_patient_row
from embedcache.evaluation.sample import sample
from embedcache.metrics.metric import CountMetric, Metric, PointMetric
from embedcache.progress import Progress, Silent
from embedcache.results.layout import open_results
from embedcache.results.rows_file import write_metrics, write_reliability
from embedcache.results.tables import MetricRow


def evaluate(results: Path, progress: Progress | None = None) -> tuple[MetricRow, ...]:
    """Evaluate all predictions of a results folder; write its metrics.csv and reliability.csv.

    Encoders whose units are not all there are left out and named in a note.

    Raises:
        PathMissingError, NoResultsError, NewerResultsError: if the folder cannot be used.
        NothingToEvaluateError: if no encoder is complete.
        ClashingUnitsError: if two units predict the same image in the same fold.
        DifferentImagesError: if encoders disagree in a cohort's images, labels or patients.
    """
    progress = progress or Silent()
    folder = open_results(results)
    gathered = gather(folder)
    for left_out in gathered.incomplete:
        progress.note(str(left_out))
    metrics = [registry.load("metrics", name) for name in registry.names("metrics")]
    patients = {evaluand: by_patient(evaluand) for evaluand in gathered.evaluands}
    judged = [*patients, *(part for part in patients.values() if isinstance(part, Evaluand))]
    drawn = _resampled(judged, metrics, progress)
    rows: list[MetricRow] = []
    with progress.stage("evaluate", len(patients), "tables") as stage:
        for evaluand, patient in patients.items():
            rows += metric_rows(evaluand, metrics, drawn[evaluand])
            if isinstance(patient, Evaluand):
                rows += metric_rows(patient, metrics, drawn[patient])
            else:
                rows.append(no_patient_row(evaluand, patient))
            stage.advance()
    counted = [metric for metric in metrics if isinstance(metric, CountMetric)]
    few, unfinished = efficiency_rows(folder, gathered.record, counted)
    for left_out in unfinished:
        progress.note(str(left_out))
    rows += few
    bins = [row for evaluand in gathered.evaluands for row in reliability_rows(evaluand)]
    write_reliability(folder, bins)
    write_metrics(folder, rows)
    return tuple(rows)


def _resampled(
    judged: Sequence[Evaluand], metrics: Sequence[Metric | PointMetric], progress: Progress
) -> dict[Evaluand, Drawn]:
    """Percentiles of each evaluand; those of one cohort share their draws."""
    cohorts: dict[tuple[str, bytes], list[Evaluand]] = {}
    for evaluand in judged:
        cohorts.setdefault((evaluand.cohort, evaluand.site.tobytes()), []).append(evaluand)
    usable = [metric for metric in metrics if not isinstance(metric, PointMetric)]
    drawn: dict[Evaluand, Drawn] = {}
    with progress.stage("resample", len(cohorts), "cohorts") as stage:
        for members in cohorts.values():
            samples = [sample(evaluand) for evaluand in members]
            drawn |= zip(members, bootstrap(samples, usable, CLASS_METRICS), strict=True)
            stage.advance()
    return drawn
