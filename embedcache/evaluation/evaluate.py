"""Every metric of every encoder in a results folder, with its interval."""

from __future__ import annotations

from pathlib import Path

from embedcache.progress import Progress, Silent
from embedcache.results.tables import MetricRow


def evaluate(results: Path, progress: Progress | None = None) -> tuple[MetricRow, ...]:
    """Evaluate all predictions of a results folder and write its metrics.csv.

    Encoders whose units are not all there are left out and named in a note.
    """
    raise NotImplementedError(results, progress or Silent())
