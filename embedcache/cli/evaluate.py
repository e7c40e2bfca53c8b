"""embedcache evaluate: any prediction table, judged by the rules of a probe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from embedcache.cli.arguments import Json

Predictions = Annotated[
    Path, typer.Argument(help="A CSV or Parquet table, a folder of them, or a results folder.")
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The results folder; a results folder is its own."),
]


def evaluate(predictions: Predictions, out: Out = None, json: Json = False) -> None:
    """Evaluate anyone's predictions: honest intervals, per class, per site.

    Columns: image, patient or cluster, label, and probability:CLASS for each class or predicted;
    optional encoder, arm, cohort, fold, stratum:NAME. An image once with a fold is out-of-fold,
    once for each fold external, without fold predicted by one model.

    Example: embedcache evaluate predictions.csv --out results
    """
    from embedcache.cli.leaderboard import print_results
    from embedcache.cli.show import progress_bars
    from embedcache.evaluation.evaluate import evaluate as evaluate_results
    from embedcache.evaluation.foreign import evaluate_table
    from embedcache.results.layout import ResultsFolder

    place = predictions.expanduser()
    folder = place if out is None else out.expanduser()
    own = ResultsFolder(place).protocol_file.is_file()
    if own and folder.resolve() != place.resolve():
        raise typer.BadParameter("a results folder is evaluated where it is; leave --out away")
    if not own and out is None:
        raise typer.BadParameter("name the results folder with --out")
    with progress_bars() as progress:
        rows = evaluate_results(place, progress) if own else evaluate_table(place, folder, progress)
    print_results(folder, rows, as_json=json)
