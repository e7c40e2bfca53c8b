"""What moving to another population costs, as plain values: external minus in-domain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from embedcache.reporting.evidence import PRIMARY, Evidence, Who, who
from embedcache.results.record import CohortRecord, Maker
from embedcache.results.tables import ComparisonRow

#: What moving is measured by; balanced accuracy leads, since class shares do not move it.
GAP_METRICS = ("balanced-accuracy", "macro-f1", "macro-f1-reweighted")


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaps:
    """What one encoder gains or loses on the way to one cohort.

    Attributes:
        maker: encoder and arm.
        changes: external minus in-domain, one of each of `GAP_METRICS`; None where there is none.
        sites: best minus worst site of the external cohort, if it has two large enough.
    """

    maker: Maker
    changes: tuple[ComparisonRow | None, ...]
    sites: ComparisonRow | None


def change_of(
    evidence: Evidence, name: Who, cohort: CohortRecord, metric: str = PRIMARY
) -> ComparisonRow | None:
    """What an encoder gains on the way to a cohort: its gap, the other way round."""
    return next(
        (
            opposite(row)
            for row in evidence.comparisons
            if row.kind == "gap" and row.metric == metric and row.level == "image"
            if (row.arm, row.encoder) == name and row.cohort == cohort.name
        ),
        None,
    )


def gaps(evidence: Evidence, cohort: CohortRecord, makers: Sequence[Maker]) -> tuple[Gaps, ...]:
    """Collect changes on the way to a cohort, in the order of makers; those that have any."""
    rows = [
        Gaps(
            maker=maker,
            changes=tuple(
                change_of(evidence, who(maker), cohort, metric) for metric in GAP_METRICS
            ),
            sites=next(
                (
                    row
                    for row in evidence.comparisons
                    if row.kind == "sites" and row.metric == PRIMARY
                    if (row.arm, row.encoder) == who(maker) and row.cohort == cohort.name
                ),
                None,
            ),
        )
        for maker in makers
    ]
    return tuple(row for row in rows if any(row.changes))


def opposite(row: ComparisonRow) -> ComparisonRow:
    """Change the sign of a difference and of its interval."""
    return replace(
        row,
        value=None if row.value is None else -row.value,
        low=None if row.high is None else -row.high,
        high=None if row.low is None else -row.low,
    )
