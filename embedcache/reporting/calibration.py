"""Whether encoders hold what they promise: confidence against accuracy, bin by bin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from embedcache.reporting.evidence import HEADLINE, Evidence, Rows, who
from embedcache.reporting.matrices import too_few
from embedcache.results.record import CohortRecord, Maker
from embedcache.results.tables import MetricRow, ReliabilityRow

#: Said beside each plot: proper scores, then how far confidence lies above accuracy.
SCORES = ("log-loss", "brier", "overconfidence")
#: Side of a plot, and what is left free around it, in units of its drawing.
SIDE, FREE = 112.0, 8.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One bin on the plot.

    Attributes:
        row: its numbers.
        x: confidence, in units of the drawing.
        y: accuracy, downwards.
        top: of its interval; None where there is none.
        bottom: likewise.
    """

    row: ReliabilityRow
    x: float
    y: float
    top: float | None
    bottom: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Reliability:
    """One encoder's plot on one cohort.

    Attributes:
        maker: encoder and arm.
        dots: bins with enough patients, least confident first.
        hidden: bins with too few.
        scores: rows of `SCORES` that exist.
    """

    maker: Maker
    dots: tuple[Dot, ...]
    hidden: int
    scores: tuple[MetricRow, ...]


def reliability_of(
    evidence: Evidence, rows: Rows, cohort: CohortRecord, makers: Sequence[Maker]
) -> tuple[Reliability, ...]:
    """Plot every encoder that gave probabilities on a cohort, in the order of makers."""
    led = _headline([row for row in evidence.reliability if row.cohort == cohort.name])
    plots = []
    for maker in makers:
        bins = led.get(who(maker), ())
        if not bins:
            continue
        shown = [row for row in bins if not too_few(row.predictions, row.clusters)]
        keys = ((*who(maker), cohort.name, name, "", "") for name in SCORES)
        plots.append(
            Reliability(
                maker=maker,
                dots=tuple(map(_dot, shown)),
                hidden=len(bins) - len(shown),
                scores=tuple(rows[key] for key in keys if key in rows),
            )
        )
    return tuple(plots)


def _headline(
    rows: Sequence[ReliabilityRow],
) -> dict[tuple[str, str], tuple[ReliabilityRow, ...]]:
    """The bins of each encoder's headline estimand and class rule."""

    def leads(row: ReliabilityRow) -> tuple[int, bool]:
        return HEADLINE.index(row.estimand), row.class_rule != "restricted"

    found = {}
    ordered = sorted(rows, key=lambda row: (row.arm, row.encoder, leads(row), row.bin))
    for name, own in groupby(ordered, key=lambda row: (row.arm, row.encoder)):
        _, bins = next(groupby(own, key=leads))
        found[name] = tuple(bins)
    return found


def _dot(row: ReliabilityRow) -> Dot:
    return Dot(
        row=row,
        x=_across(row.confidence),
        y=_down(row.accuracy),
        top=None if row.high is None else _down(row.high),
        bottom=None if row.low is None else _down(row.low),
    )


def _across(share: float) -> float:
    return round(FREE + SIDE * share, 1)


def _down(share: float) -> float:
    return round(FREE + SIDE * (1 - share), 1)
