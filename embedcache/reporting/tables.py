"""Who stands where: leaderboards and differences from the leader, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace

from embedcache.reporting.evidence import (
    PRIMARY,
    Evidence,
    Rows,
    Who,
    home_and_abroad,
    is_floor,
    is_random,
    is_synthetic,
    who,
)
from embedcache.reporting.gaps import change_of, opposite
from embedcache.reporting.matrices import too_few
from embedcache.results.record import CohortRecord, Maker
from embedcache.results.tables import ComparisonRow, MetricRow


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One row of a leaderboard.

    Attributes:
        maker: encoder and arm.
        home: primary metric in-domain.
        abroad: primary metric on the panel's external cohort.
        worst: the site with the lowest value, of the external cohort where there is one.
        floor: whether this is the `pixels` floor.
        random: whether nobody trained the encoder.
        rank: among its arm, on the external cohort where there is one; None for the floor, for
            an untrained encoder, and where there is nothing to rank.
        change: external minus in-domain value on the classes that both cohorts have.
    """

    maker: Maker
    home: MetricRow | None
    abroad: MetricRow | None
    worst: MetricRow | None
    floor: bool
    random: bool
    rank: ComparisonRow | None
    change: ComparisonRow | None

    @property
    def may_be_best(self) -> bool:
        """Whether nobody in its arm is significantly better."""
        return self.rank is not None and self.rank.may_be_best is True

    @property
    def order(self) -> float:
        """What leaderboards are sorted by: the external value, else the in-domain one."""
        value = _value(self.abroad if self.abroad is not None else self.home)
        return float("-inf") if value is None else value


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaderboard:
    """All encoders at home and on one external cohort, best abroad first.

    Attributes:
        home: the cross-validated cohort, or None.
        abroad: the external cohort, or None.
        entries: sorted.
    """

    home: CohortRecord | None
    abroad: CohortRecord | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """Differences from the leader on one cohort, and all pairs.

    Attributes:
        cohort: whose images.
        leader: the trained encoder with the highest value; any, where none is trained.
        against: each other encoder minus the leader, nearest first.
        pairs: all comparisons of the cohort, as computed.
    """

    cohort: CohortRecord
    leader: Who
    against: tuple[ComparisonRow, ...]
    pairs: tuple[ComparisonRow, ...]


def _value(row: MetricRow | None) -> float | None:
    return None if row is None else row.value


def leaderboards(evidence: Evidence, rows: Rows) -> tuple[Leaderboard, ...]:
    """Make one leaderboard for each external cohort; one without, where there is none."""
    home, abroad = home_and_abroad(evidence)
    return tuple(_leaderboard(evidence, rows, home, cohort) for cohort in abroad or (None,))


def _leaderboard(
    evidence: Evidence, rows: Rows, home: CohortRecord | None, abroad: CohortRecord | None
) -> Leaderboard:
    at = abroad or home
    entries = [
        Entry(
            maker=maker,
            home=_headline(rows, who(maker), home),
            abroad=_headline(rows, who(maker), abroad),
            worst=worst_site(rows, who(maker), abroad or home),
            floor=is_floor(maker),
            random=is_random(maker),
            rank=None if _unranked(evidence, maker) else rank_of(evidence, who(maker), at),
            change=None if abroad is None else change_of(evidence, who(maker), abroad),
        )
        for maker in evidence.makers
    ]
    ranked = sorted(entries, key=lambda entry: -entry.order)
    return Leaderboard(home=home, abroad=abroad, entries=tuple(ranked))


def _unranked(evidence: Evidence, maker: Maker) -> bool:
    return is_floor(maker) or is_random(maker) or is_synthetic(evidence)


def rank_of(evidence: Evidence, name: Who, cohort: CohortRecord | None) -> ComparisonRow | None:
    """Find an encoder's rank interval among its arm on a cohort."""
    if cohort is None:
        return None
    return next(
        (
            row
            for row in evidence.comparisons
            if row.kind == "rank" and row.metric == PRIMARY and row.level == "image"
            if (row.arm, row.encoder) == name and row.cohort == cohort.name
        ),
        None,
    )


def _headline(rows: Rows, name: Who, cohort: CohortRecord | None) -> MetricRow | None:
    return None if cohort is None else rows.get((*name, cohort.name, PRIMARY, "", ""))


def worst_site(rows: Rows, name: Who, cohort: CohortRecord | None) -> MetricRow | None:
    """Find the site with the lowest value among those large enough to be shown."""
    if cohort is None:
        return None
    sites = [
        row
        for (*of, where, metric, class_, stratum), row in rows.items()
        if tuple(of) == name and where == cohort.name and metric == PRIMARY and class_ == ""
        if stratum.startswith("site=") and not too_few(row.images, row.clusters)
    ]
    valued = [row for row in sites if row.value is not None]
    return min(valued, key=lambda row: (row.value, row.stratum), default=None)


def forest(evidence: Evidence, rows: Rows, cohort: CohortRecord) -> Forest | None:
    """Compare each encoder with the leader of a cohort; None with fewer than two encoders."""
    models = tuple(who(m) for m in evidence.makers if not is_floor(m) and not is_random(m))
    leader = leader_of(evidence, rows, cohort, among=models) or leader_of(evidence, rows, cohort)
    pairs = pairs_of(evidence, rows, cohort)
    if leader is None or not pairs:
        return None
    against = [row for row in (from_leader(pair, leader) for pair in pairs) if row is not None]
    ranked = sorted(against, key=lambda row: -(row.value if row.value is not None else -2.0))
    return Forest(cohort=cohort, leader=leader, against=tuple(ranked), pairs=pairs)


def leader_of(
    evidence: Evidence, rows: Rows, cohort: CohortRecord, among: tuple[Who, ...] | None = None
) -> Who | None:
    """Name the encoder with the highest value on a cohort; ties go to the first name."""
    candidates = among or tuple(who(maker) for maker in evidence.makers)
    valued = [
        (row.value, name)
        for name in candidates
        if (row := _headline(rows, name, cohort)) is not None and row.value is not None
    ]
    return max(valued, key=lambda pair: pair[0])[1] if valued else None


def pairs_of(evidence: Evidence, rows: Rows, cohort: CohortRecord) -> tuple[ComparisonRow, ...]:
    """Take the comparisons that belong to the values shown: same estimand, same class rule."""
    shown = {
        (row.estimand, row.class_rule)
        for maker in evidence.makers
        if (row := _headline(rows, who(maker), cohort)) is not None
    }
    return tuple(
        row
        for row in evidence.comparisons
        if row.kind == "pair" and row.metric == PRIMARY and row.cohort == cohort.name
        if row.level == "image" and (row.estimand, row.class_rule) in shown
    )


def from_leader(pair: ComparisonRow, leader: Who) -> ComparisonRow | None:
    """Turn a pair so that it reads other minus leader; None if the leader is not in it."""
    if (pair.other_arm, pair.other) == leader:
        return pair
    if (pair.arm, pair.encoder) == leader:
        return turned(pair)
    return None


def turned(pair: ComparisonRow) -> ComparisonRow:
    """Swap the two sides of a comparison; p-values are two-sided and stay."""
    return replace(
        opposite(pair),
        arm=pair.other_arm,
        other_arm=pair.arm,
        encoder=pair.other,
        other=pair.encoder,
    )
