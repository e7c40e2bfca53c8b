"""The verb: results folders in, one HTML page out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache.durable import write_file
from embedcache.errors import NotAReportError
from embedcache.progress import Progress
from embedcache.reporting.html import GENERATOR, render
from embedcache.reporting.read import read_evidence


def report(results: Sequence[Path], out: Path, progress: Progress | None = None) -> Path:
    """Write the report of one or several results folders of one protocol.

    Comparisons that are missing or older than the metrics are computed first. A report that
    embedcache made is replaced; any other file is left alone.

    Args:
        results: folders that `probe`, `evaluate` or another arm wrote.
        out: the HTML file.
        progress: of what has to be computed first.

    Returns:
        `out`.

    Raises:
        NotAReportError: if `out` exists and is no report of ours.
        OtherProtocolError: if the folders do not share folds, classes and cohorts.
    """
    if out.exists() and not _is_report(out):
        raise NotAReportError(out)
    write_file(out, render(read_evidence(results, progress)).encode("utf-8"))
    return out


def _is_report(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return GENERATOR.encode() in file.read(2000)
