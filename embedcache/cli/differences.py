"""The tables of compare: who is better, who may be best, what moving costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import typer

from embedcache.cli.leaderboard import marks, place
from embedcache.cli.show import print_json, print_table
from embedcache.evaluation.families import LEVEL
from embedcache.evaluation.gather import RANDOM_WEIGHTS, SYNTHETIC
from embedcache.reporting.numbers import UNBOUNDED, adjusted_p
from embedcache.results.tables import ComparisonRow

_PAIRS = ("better", "other", ">difference [95 %]", ">p", ">p (max-T)", ">p (Holm)", "so the two")
_RANKS = ("encoder", ">rank", "may be best", ">leads in draws")


def print_comparisons(rows: Sequence[ComparisonRow], *, better: str, as_json: bool) -> None:
    """Print paired differences, the better encoder first, in plain words, then ranks and gaps.

    Args:
        rows: what `compare` returned.
        better: `higher` or `lower`: which is better of the metric.
        as_json: print the rows as they are instead.
    """
    if as_json:
        print_json(rows)
        return
    pairs = [row for row in rows if row.kind == "pair"]
    for cohort in dict.fromkeys(row.cohort for row in pairs):
        inside = [row for row in pairs if row.cohort == cohort]
        first = inside[0]
        title = (
            f"{first.metric} on {cohort} ({place(first.estimand)}), paired over "
            f"{first.clusters:,} patients{marks(first.note, (SYNTHETIC,))}"
        )
        print_table(title, _PAIRS, [_line(_better_first(row, better)) for row in inside])
        _print_ranks([row for row in rows if row.kind == "rank" and row.cohort == cohort], better)
    _print_gaps([row for row in rows if row.kind == "gap"])
    if any(RANDOM_WEIGHTS in row.note for row in pairs):
        typer.echo(f"pairs with an encoder of {RANDOM_WEIGHTS} say nothing about any trained model")
    if any(row.p_max_t is not None for row in pairs):
        typer.echo(
            "p: predictions exchanged in whole patients; max-T and Holm: for the number of pairs\n"
            "rank: from who is significantly better to who is not significantly worse (max-T)"
        )
    if not pairs:
        typer.echo("there is one encoder, and nothing to compare it with")


def _print_ranks(rows: Sequence[ComparisonRow], better: str) -> None:
    for arm in dict.fromkeys(row.arm for row in rows):
        inside = [row for row in rows if row.arm == arm]
        sign = -1.0 if better == "higher" else 1.0
        inside.sort(key=lambda row: (row.rank_low or 0, row.rank_high or 0, sign * _value(row)))
        print_table(f"Ranks ({inside[0].family})", _RANKS, [_rank_line(row) for row in inside])


def _rank_line(row: ComparisonRow) -> list[str]:
    share = "-" if row.p_best is None else f"{100 * row.p_best:.0f} %"
    best = "yes" if row.may_be_best else "no"
    return [row.encoder + marks(row.note, (RANDOM_WEIGHTS,)), rank(row), best, share]


def rank(row: ComparisonRow) -> str:
    """Write a rank interval: `1`, or `2-4`."""
    if row.rank_low == row.rank_high:
        return str(row.rank_low)
    return f"{row.rank_low}-{row.rank_high}"


def _print_gaps(rows: Sequence[ComparisonRow]) -> None:
    for cohort in dict.fromkeys(row.cohort for row in rows):
        inside = [row for row in rows if row.cohort == cohort]
        metrics = list(dict.fromkeys(row.metric for row in inside))
        found = {(row.encoder, row.arm, row.metric): row for row in inside}
        models = list(dict.fromkeys((row.encoder, row.arm) for row in inside))
        several = len({arm for _, arm in models}) > 1
        lines = [
            [
                f"{encoder}, {arm}" if several else encoder,
                *(_difference(found[encoder, arm, metric]) for metric in metrics),
            ]
            for encoder, arm in models
        ]
        title = f"Gap: in-domain minus {cohort}, classes that both have [95 %]"
        print_table(title, ["encoder", *(f">{metric}" for metric in metrics)], lines)


def _value(row: ComparisonRow) -> float:
    return 0.0 if row.value is None else row.value


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
    p = [_p(value) for value in (row.p, row.p_max_t, row.p_holm)]
    return [*names, _difference(row), *p, _words(row)]


def _difference(row: ComparisonRow) -> str:
    if row.value is None:
        return "-"
    # Shares are compared in points of a hundred, losses and correlations as they are.
    factor, unit, digits = (1, "", 3) if row.metric in UNBOUNDED else (100, " points", 1)
    value = f"{factor * row.value:+.{digits}f}{unit}"
    if row.low is None or row.high is None:
        return f"{value} [no interval]"
    return f"{value} [{factor * row.low:.{digits}f}, {factor * row.high:.{digits}f}]"


def _p(p: float | None) -> str:
    if p is None:
        return "-"
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"


def _words(row: ComparisonRow) -> str:
    p = adjusted_p(row)
    if p is None:
        return "have no p"
    return "differ" if p < LEVEL else "cannot be told apart"
