"""How numbers and names read on the page: points of a hundred, true minus signs, plain lists."""

from __future__ import annotations

from collections.abc import Sequence

from embedcache.results.tables import ComparisonRow, MetricRow

#: As people write them; a metric that is not here goes by its own name.
TITLES = {
    "macro-f1": "macro-F1",
    "balanced-accuracy": "balanced accuracy",
    "patient-weighted-macro-f1": "patient-weighted macro-F1",
    "macro-f1-reweighted": "macro-F1 at in-domain shares",
    "mcc": "MCC",
    "accuracy": "accuracy",
    "auroc": "AUROC",
    "average-precision": "average precision",
    "log-loss": "log loss",
    "brier": "Brier score",
    "overconfidence": "confidence minus accuracy",
    "ece": "ECE",
    "ece-debiased": "ECE, debiased",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "precision": "precision",
}
#: Metrics that are no shares of one and are printed as they are.
UNBOUNDED = ("log-loss", "brier", "mcc")
#: Metrics of which less is better, in whatever table they are sorted.
LOSSES = ("log-loss", "brier")
MINUS, TIMES, NONE = "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}", "\N{EN DASH}"


def title(metric: str) -> str:
    """Write a metric's name as people do."""
    return TITLES.get(metric, metric)


def points(value: float | None, metric: str = "macro-f1") -> str:
    """Write a value in hundredths with one decimal, a loss with three; a dash for none."""
    if value is None:
        return NONE
    text = f"{value:z.3f}" if metric in UNBOUNDED else f"{100 * value:z.1f}"
    return text.replace("-", MINUS)


def signed(value: float | None) -> str:
    """Write a difference in points, always with its sign; a dash for none."""
    if value is None:
        return NONE
    text = f"{100 * value:+z.1f}".replace("-", MINUS)
    return "0.0" if text == "+0.0" else text


def tick_label(value: float) -> str:
    """Write a place on an axis, in hundredths with no more decimals than it has."""
    return f"{round(100 * value, 6):g}".replace("-", MINUS)


def interval(row: MetricRow) -> str:
    """Write a row's 95 % interval, or say that there is none."""
    if row.low is None or row.high is None:
        return "no interval"
    return f"{points(row.low, row.metric)} to {points(row.high, row.metric)}"


def difference_interval(row: ComparisonRow) -> str:
    """Write the 95 % interval of a difference, or say that there is none."""
    if row.low is None or row.high is None:
        return "no interval"
    return f"{signed(row.low)} to {signed(row.high)}"


def rank(row: ComparisonRow | None) -> str:
    """Write a rank interval, `1` or `2–4`; a dash for none."""
    if row is None or row.rank_low is None:
        return NONE
    if row.rank_low == row.rank_high:
        return str(row.rank_low)
    return f"{row.rank_low}{NONE}{row.rank_high}"


def adjusted_p(row: ComparisonRow) -> float | None:
    """Take the p-value that counts: adjusted for the number of pairs where that was done."""
    return next((p for p in (row.p_max_t, row.p_holm, row.p) if p is not None), None)


def adjustment(rows: Sequence[ComparisonRow]) -> str:
    """Name how the p-values of a family were adjusted."""
    if any(row.p_max_t is not None for row in rows):
        return "max-T adjusted"
    return "Holm adjusted" if any(row.p_holm is not None for row in rows) else "unadjusted"


def p_value(p: float | None) -> str:
    """Write a p-value with three decimals, never as zero; a dash for none."""
    if p is None:
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Write a number with its noun: `1 patient`, `1,792 patients`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def joined(names: Sequence[str], most: int = 4) -> str:
    """Join names as a sentence does; past `most` the rest is counted."""
    shown = list(names)
    if len(shown) > most:
        shown = [*shown[: most - 1], f"{len(shown) - most + 1} others"]
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
