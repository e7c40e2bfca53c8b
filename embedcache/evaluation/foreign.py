"""Anyone's prediction table becomes a results folder."""

from __future__ import annotations

from pathlib import Path

from embedcache.progress import Progress, Silent
from embedcache.results.tables import MetricRow


def evaluate_table(
    table: Path, out: Path, progress: Progress | None = None
) -> tuple[MetricRow, ...]:
    """Import a CSV or Parquet table, or a folder of them, into `out` and evaluate it.

    Columns: `image`, `patient` or `cluster`, `label`, and either `probability:CLASS` columns or
    `predicted`; optional `encoder`, `arm`, `cohort`, `fold`, `stratum:NAME`.
    """
    raise NotImplementedError(table, out, progress or Silent())
