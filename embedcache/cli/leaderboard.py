"""The tables that evaluate and probe end with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import typer

from embedcache.cli.show import print_json, print_table
from embedcache.evaluation.compare import HEADLINE
from embedcache.evaluation.gather import RANDOM_WEIGHTS, SYNTHETIC, TOO_GOOD
from embedcache.evaluation.intervals import NOT_ESTIMABLE
from embedcache.results.layout import ResultsFolder
from embedcache.results.tables import MetricRow
from embedcache.schema import plain

LEAD = "macro-f1"
BESIDE = ("balanced-accuracy", "mcc", "accuracy", "auroc", "log-loss")


def print_results(results: Path, rows: Sequence[MetricRow], *, as_json: bool) -> None:
    """Print the leaderboard of what `evaluate` returned, and where its files lie."""
    if as_json:
        print_json([{key.rstrip("_"): cell for key, cell in plain(row).items()} for row in rows])
        return
    headline = _headline(rows)
    cohorts = list(dict.fromkeys(row.cohort for row in headline))
    models = _sorted_models(headline, cohorts)
    _print_lead(headline, cohorts, models)
    _print_beside(headline, cohorts, models)
    for line in _legend(headline):
        typer.echo(line)
    typer.echo(f"every class, site and estimand: {ResultsFolder(results).metrics_file}")
    typer.echo(f"next: embedcache compare {results}   embedcache report {results} -o report.html")


def _headline(rows: Sequence[MetricRow]) -> list[MetricRow]:
    """Rows over all classes and images of each cohort's first estimand, restricted where it is."""
    whole = [
        row for row in rows if not row.class_ and row.level == "image" and row.train_patients == 0
    ]
    chosen: dict[tuple[str, ...], list[MetricRow]] = {}
    for row in whole:
        chosen.setdefault((row.arm, row.encoder, row.cohort), []).append(row)
    found: list[MetricRow] = []
    for group in chosen.values():
        estimand = next(name for name in HEADLINE if any(row.estimand == name for row in group))
        speaking = [row for row in group if row.estimand == estimand]
        rule = "restricted" if any(row.class_rule == "restricted" for row in speaking) else "as-is"
        found += [row for row in speaking if row.class_rule == rule]
    return found


def _sorted_models(rows: Sequence[MetricRow], cohorts: Sequence[str]) -> list[tuple[str, str]]:
    """(encoder, arm), best abroad first; by the first external cohort, else at home."""
    abroad = [row.cohort for row in rows if row.estimand != "oof"] or list(cohorts)
    values = {
        (row.encoder, row.arm): row.value
        for row in rows
        if row.metric == LEAD and not row.stratum and row.cohort == abroad[0]
    }
    models = sorted({(row.encoder, row.arm) for row in rows})
    return sorted(models, key=lambda model: -(values.get(model) or 0.0))


def _print_lead(
    rows: Sequence[MetricRow], cohorts: Sequence[str], models: Sequence[tuple[str, str]]
) -> None:
    whole = [row for row in rows if row.metric == LEAD and not row.stratum]
    places = {row.cohort: row for row in whole}
    columns = ["encoder", *(f">{_cohort(places[cohort])}" for cohort in cohorts)]
    sites = [cohort for cohort in cohorts if _worst_site(rows, models[0], cohort)]
    columns += [f"worst site, {cohort}" for cohort in sites]
    lines = []
    for encoder, arm in models:
        own = {row.cohort: row for row in whole if (row.encoder, row.arm) == (encoder, arm)}
        notes = next(iter(own.values())).note
        line = [_model(encoder, arm, models) + marks(notes, (RANDOM_WEIGHTS,))]
        line += [_interval(own[cohort]) if cohort in own else "-" for cohort in cohorts]
        line += [_worst_site(rows, (encoder, arm), cohort) for cohort in sites]
        lines.append(line)
    print_table("Macro-F1 [95 % interval]", columns, lines)


def _print_beside(
    rows: Sequence[MetricRow], cohorts: Sequence[str], models: Sequence[tuple[str, str]]
) -> None:
    values = {
        (row.encoder, row.arm, row.cohort, row.metric): row.value for row in rows if not row.stratum
    }
    metrics = [name for name in BESIDE if any(key[3] == name for key in values)]
    lines = [
        [
            _model(encoder, arm, models),
            cohort,
            *(_number(values.get((encoder, arm, cohort, m))) for m in metrics),
        ]
        for cohort in cohorts
        for encoder, arm in models
    ]
    print_table("Beside it", ["encoder", "cohort", *(f">{m}" for m in metrics)], lines)


def _model(encoder: str, arm: str, models: Sequence[tuple[str, str]]) -> str:
    return encoder if len({arm for _, arm in models}) == 1 else f"{encoder}, {arm}"


def _worst_site(rows: Sequence[MetricRow], model: tuple[str, str], cohort: str) -> str:
    sites = [
        row
        for row in rows
        if (row.encoder, row.arm) == model
        and (row.cohort, row.metric) == (cohort, LEAD)
        and row.stratum.startswith("site=")
        and row.value is not None
    ]
    if len(sites) < 2:
        return ""
    worst = min(sites, key=lambda row: row.value or 0.0)
    name = worst.stratum.removeprefix("site=")
    return f"{name} {_number(worst.value)} ({worst.clusters} patients)"


def _legend(rows: Sequence[MetricRow]) -> Iterator[str]:
    estimands = {row.estimand for row in rows}
    warned = {note for row in rows for note in row.note.split("; ") if note.startswith(TOO_GOOD)}
    for note in sorted(warned):
        yield f"in-domain: {note}"
    if "oof" in estimands and not warned:
        yield "in-domain: out-of-fold, patients never on both sides"
    if "external-folds" in estimands:
        yield "external: each fold's model alone, so that it compares with in-domain"
    yield "95 % intervals: these models, new patients of the same sites"
    if any(row.class_rule == "as-is" for row in rows):
        yield "as-is: predictions of classes that the cohort lacks count as errors"
    for row in rows:
        if row.method == NOT_ESTIMABLE and row.metric == LEAD and not row.stratum:
            yield f"no interval for {row.encoder} on {row.cohort}: {row.note}"


def _cohort(row: MetricRow) -> str:
    rule = ", as-is" if row.class_rule == "as-is" else ""
    return f"{row.cohort}, {place(row.estimand)}{rule}{marks(row.note, (SYNTHETIC,))}"


def place(estimand: str) -> str:
    """Say in words where predictions of an estimand were made."""
    words = {"oof": "in-domain", "external-folds": "external", "external-refit": "one model"}
    return words[estimand]


def marks(note: str, shown: Sequence[str]) -> str:
    """The marks of a row's note that are to be shown, each after a space."""
    return "".join(f" {mark}" for mark in shown if mark in note.split("; "))


def _interval(row: MetricRow) -> str:
    if row.low is None or row.high is None:
        return f"{_number(row.value)} [no interval]"
    return f"{_number(row.value)} [{row.low:.3f}, {row.high:.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
