"""The table that evaluate and probe end with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache.results.tables import MetricRow


def print_results(results: Path, rows: Sequence[MetricRow], *, as_json: bool) -> None:
    """Print the leaderboard of what `evaluate` returned, and where its files lie."""
    raise NotImplementedError(results, rows, as_json)
