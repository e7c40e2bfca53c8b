"""Every metric of every encoder in a results folder, with its interval."""

from __future__ import annotations

from pathlib import Path

from embedcache import registry
from embedcache.evaluation.gather import gather
from embedcache.evaluation.rows import metric_rows
from embedcache.progress import Progress, Silent
from embedcache.results.layout import open_results
from embedcache.results.rows_file import write_metrics
from embedcache.results.tables import MetricRow


def evaluate(results: Path, progress: Progress | None = None) -> tuple[MetricRow, ...]:
    """Evaluate all predictions of a results folder and write its metrics.csv.

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
    rows: list[MetricRow] = []
    with progress.stage("evaluate", len(gathered.evaluands), "tables") as stage:
        for evaluand in gathered.evaluands:
            rows += metric_rows(evaluand, metrics)
            stage.advance()
    write_metrics(folder, rows)
    return tuple(rows)
