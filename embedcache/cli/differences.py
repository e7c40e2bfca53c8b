"""The table of compare: who is better, by how much, and whether that is more than chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import typer

from embedcache.cli.leaderboard import marks, place
from embedcache.cli.show import print_json, print_table
from embedcache.evaluation.gather import RANDOM_WEIGHTS, SYNTHETIC
from embedcache.results.tables import ComparisonRow

#: Two encoders are told apart where p, adjusted for the number of pairs, is below this.
LEVEL = 0.05
_COLUMNS = ("better", "other", ">difference [95 %]", ">p", ">p (Holm)", "so the two")


def print_comparisons(rows: Sequence[ComparisonRow], *, better: str, as_json: bool) -> None:
    """Print paired differences, the better encoder first, in plain words.

    Args:
        rows: what `compare` returned.
        better: `higher` or `lower`: which is better of the metric.
        as_json: print the rows as they are instead.
    """
    if as_json:
        print_json(rows)
        return
    for cohort in dict.fromkeys(row.cohort for row in rows):
        inside = [row for row in rows if row.cohort == cohort]
        first = inside[0]
        title = (
            f"{first.metric} on {cohort} ({place(first.estimand)}), paired over "
            f"{first.clusters:,} patients{marks(first.note, (SYNTHETIC,))}"
        )
        print_table(title, _COLUMNS, [_line(_better_first(row, better)) for row in inside])
    if any(RANDOM_WEIGHTS in row.note for row in rows):
        typer.echo(f"pairs with an encoder of {RANDOM_WEIGHTS} say nothing about any trained model")
    if any(row.p_holm is not None for row in rows):
        typer.echo("p: predictions exchanged in whole patients; Holm: for the number of pairs")
    if not rows:
        typer.echo("there is one encoder, and nothing to compare it with")


def _better_first(row: ComparisonRow, better: str) -> ComparisonRow:
    if not row.value or (row.value > 0) == (better == "higher"):
        return row
    return dataclasses.replace(
        row,
        encoder=row.other,
        other=row.encoder,
        arm=row.other_arm,
        other_arm=row.arm,
        value=-row.value,
        low=None if row.high is None else -row.high,
        high=None if row.low is None else -row.low,
    )


def _line(row: ComparisonRow) -> list[str]:
    names = [row.encoder, row.other]
    if row.arm != row.other_arm:
        names = [f"{row.encoder}, {row.arm}", f"{row.other}, {row.other_arm}"]
    return [*names, _difference(row), _p(row.p), _p(row.p_holm), _words(row)]


def _difference(row: ComparisonRow) -> str:
    if row.value is None:
        return "-"
    # Shares are compared in points of a hundred, losses as they are.
    factor, unit, digits = (1, "", 3) if row.metric == "log-loss" else (100, " points", 1)
    value = f"{factor * row.value:+.{digits}f}{unit}"
    if row.low is None or row.high is None:
        return f"{value} [no interval]"
    return f"{value} [{factor * row.low:.{digits}f}, {factor * row.high:.{digits}f}]"


def _p(p: float | None) -> str:
    if p is None:
        return "-"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _words(row: ComparisonRow) -> str:
    p = row.p if row.p_holm is None else row.p_holm
    if p is None:
        return "have no p"
    return "differ" if p < LEVEL else "cannot be told apart"
