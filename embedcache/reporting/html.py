"""One HTML file that needs nothing else: no network, no fonts, no library.

Names of classes, encoders, sites and cohorts come from strangers: the templates escape everything,
anchors are numbers, and the page's own policy lets no script run but the one that it carries.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from embedcache.reporting import (
    calibration,
    checks,
    curves,
    figures,
    gaps,
    matrices,
    methods,
    numbers,
    overlap,
    shifts,
    tables,
)
from embedcache.reporting.evidence import (
    PRIMARY,
    Evidence,
    Rows,
    Who,
    called,
    headline_rows,
    home_and_abroad,
    is_floor,
    is_random,
    is_synthetic,
    who,
)
from embedcache.reporting.verdict import verdict
from embedcache.results.tables import MetricRow
from embedcache.schema import plain

if TYPE_CHECKING:
    from jinja2 import Environment

#: Marks a file as ours, so that a later report may replace it.
GENERATOR = '<meta name="generator" content="embedcache">'


def render(evidence: Evidence) -> str:
    """Write the page; the same evidence gives the same text."""
    environment = _environment()
    script, style = (_source(environment, name) for name in ("script.js", "style.css"))
    return environment.get_template("page.html.j2").render(
        generator=GENERATOR,
        script=script,
        script_sha256=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        style=style,
        **_content(evidence, headline_rows(evidence)),
    )


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("embedcache.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(numbers, name)
        for name in (
            "count",
            "difference_interval",
            "interval",
            "p_value",
            "points",
            "rank",
            "signed",
            "tick_label",
        )
    }
    environment.filters |= {
        "adjusted_p": numbers.adjusted_p,
        "metric_title": numbers.title,
        "overlap": overlap.overlap_of,
        "preprocessing": methods.preprocessing_of,
        "seen_before": overlap.seen_before,
        "weights": methods.weights_of,
    }
    environment.globals |= {"ink_on": figures.ink_on, "who": who}
    return environment


def _source(environment: Environment, name: str) -> str:
    from markupsafe import Markup

    assert environment.loader is not None
    # Our own text, and no stranger's: it must not be escaped.
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704  # a file of this package


def _content(evidence: Evidence, rows: Rows) -> dict[str, Any]:
    home, abroad = home_and_abroad(evidence)
    names = called(evidence)
    boards = tables.leaderboards(evidence, rows)
    forests = [tables.forest(evidence, rows, cohort) for cohort in evidence.record.cohorts]
    makers = sorted(evidence.makers, key=lambda maker: _rank(boards[0], maker))
    strata = matrices.stratum_matrices(evidence, rows)
    classes = [(c, matrices.class_matrices(evidence, rows, c)) for c in evidence.record.cohorts]
    return {
        "record": evidence.record,
        "protocol": plain(evidence.record.protocol),
        "home": home,
        "abroad": abroad,
        "sites": evidence.sites,
        "names": names,
        "arms": sorted({maker.arm for maker in evidence.makers}),
        "bands": _bands(evidence),
        "verdict": verdict(evidence, rows),
        "checks": checks.checks(evidence, rows),
        "failures": {c.name: checks.failures(c) for c in evidence.record.cohorts},
        "boards": [(board, _board_axis(board)) for board in boards],
        "ranked": not is_synthetic(evidence) and not all(map(is_random, evidence.makers)),
        "gaps": [(c, found) for c in abroad if (found := gaps.gaps(evidence, c, makers))],
        "gap_metrics": gaps.GAP_METRICS,
        "by_site": any(entry.worst for board in boards for entry in board.entries),
        "metric_name": numbers.title(PRIMARY),
        "forests": [(item, _forest_axis(evidence, item)) for item in forests if item is not None],
        "adjustment": numbers.adjustment(evidence.comparisons),
        "strata": strata,
        "classes": classes,
        "shades": _shades(strata, [matrix for _, items in classes for matrix in items]),
        "calibration": [
            (c, plots)
            for c in evidence.record.cohorts
            if (plots := calibration.reliability_of(evidence, rows, c, makers))
        ],
        "apart": shifts.apart(evidence),
        "agreements": shifts.agreements(evidence),
        "maps": shifts.maps(evidence),
        "curves": curves.curve_figures(evidence),
        "look_alike": evidence.look_alike,
        "no_interval": _withheld(boards, names),
        "confusions": [(m, matrices.confusion_tables(evidence, who(m))) for m in makers],
        "anchors": {who(maker): number for number, maker in enumerate(makers)},
        "left_out": evidence.left_out,
        "metrics": _overall(evidence, rows),
        "least": (matrices.LEAST_PATIENTS, matrices.LEAST_IMAGES),
        "makers": makers,
        "methods": methods.methods(evidence),
        "citations": methods.citations(evidence),
    }


def _withheld(
    boards: Sequence[tables.Leaderboard], names: dict[Who, str]
) -> dict[tuple[str, str], str]:
    """Why a value of the leaderboards has no interval, by encoder and cohort."""
    shown = [row for board in boards for e in board.entries for row in (e.home, e.abroad) if row]
    return {
        (names[row.arm, row.encoder], row.cohort): row.note
        for row in shown
        if row.value is not None and row.low is None
    }


def _rank(board: tables.Leaderboard, maker: object) -> int:
    return next(place for place, entry in enumerate(board.entries) if entry.maker == maker)


def _bands(evidence: Evidence) -> list[str]:
    names = called(evidence)
    drawn = [cohort.name for cohort in evidence.record.cohorts if cohort.synthetic]
    random = [names[who(maker)] for maker in evidence.makers if is_random(maker)]
    bands = []
    if is_synthetic(evidence):
        bands.append(
            f"SYNTHETIC pictures: {numbers.joined(drawn)}. Drawn, not taken from patients."
        )
    if random:
        bands.append(
            f"RANDOM WEIGHTS: {numbers.joined(random)}. Nobody trained them; "
            f"they take no part in the verdict."
        )
    return bands


def _board_axis(board: tables.Leaderboard) -> figures.Axis:
    shown = [row for entry in board.entries for row in (entry.home, entry.abroad) if row]
    return figures.axis_over(_ends(shown))


def _ends(rows: list[MetricRow]) -> list[float]:
    ends = [end for row in rows for end in (row.value, row.low, row.high)]
    return [end for end in ends if end is not None]


def _forest_axis(evidence: Evidence, item: tables.Forest) -> figures.Axis:
    floors = {who(maker) for maker in evidence.makers if is_floor(maker)}
    models = [row for row in item.against if (row.arm, row.encoder) not in floors]
    # The floor lies far off and would press the models together; it is marked at the edge.
    ends = [end for row in models or item.against for end in (row.value, row.low, row.high)]
    return figures.axis_over([0.0, *(end for end in ends if end is not None)], most=5)


def _shades(strata: Sequence[matrices.Matrix], rows: Sequence[matrices.Matrix]) -> figures.Shades:
    values = [
        cell.row.value
        for matrix in (*strata, *rows)
        for _, cells in matrix.rows
        for cell in cells
        if cell.row is not None and cell.row.value is not None
    ]
    return figures.Shades(low=min(values, default=0.0), high=max(values, default=1.0))


def _overall(evidence: Evidence, rows: Rows) -> list[MetricRow]:
    order = {cohort.name: place for place, cohort in enumerate(evidence.record.cohorts)}
    metric = list(numbers.TITLES)
    overall = [row for key, row in rows.items() if not key[4] and not key[5]]
    return sorted(
        overall,
        key=lambda row: (
            order[row.cohort],
            metric.index(row.metric) if row.metric in metric else len(metric),
            row.metric,
            _worse(row),
            row.encoder,
            row.arm,
        ),
    )


def _worse(row: MetricRow) -> float:
    if row.value is None:
        return float("inf")
    return row.value if row.metric in numbers.LOSSES else -row.value
