"""Paired differences between encoders, with interval and cluster-swap p."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache.progress import Progress, Silent
from embedcache.results.tables import ComparisonRow


def compare(
    results: Sequence[Path], metric: str = "macro-f1", progress: Progress | None = None
) -> tuple[ComparisonRow, ...]:
    """Compare every pair of (encoder, arm) in each cohort; one folder gets its comparisons.csv.

    Pairs stand in the order of (arm, encoder), the difference is `encoder` minus `other`. Home:
    `oof`; abroad: `external-folds`, or `external-refit` where that is all there is.
    """
    raise NotImplementedError(results, metric, progress or Silent())
