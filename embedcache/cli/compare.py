"""embedcache compare: which differences between encoders are more than chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedcache.cli.arguments import Json

Results = Annotated[list[Path], typer.Argument(help="Results folders of one protocol.")]
MetricName = Annotated[str, typer.Option("--metric", help="What is compared.")]


def compare(results: Results, metric: MetricName = "macro-f1", json: Json = False) -> None:
    """Compare every two encoders on the same patients: difference, interval and p.

    Example: embedcache compare results --metric balanced-accuracy
    """
    from embedcache import registry
    from embedcache.cli.differences import print_comparisons
    from embedcache.cli.show import progress_bars
    from embedcache.evaluation.compare import compare as compare_encoders
    from embedcache.results.layout import ResultsFolder

    folders = [path.expanduser() for path in results]
    with progress_bars() as progress:
        rows = compare_encoders(folders, metric, progress)
    print_comparisons(rows, better=registry.load("metrics", metric).better, as_json=json)
    if json:
        return
    if len(folders) == 1:
        typer.echo(f"written to {ResultsFolder(folders[0]).comparisons_file}")
    else:
        typer.echo("comparisons of several folders are printed, not written; --json keeps all")
