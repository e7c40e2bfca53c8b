"""The two sentences that people read first, and what they may claim.

An encoder leads alone only where no other may be best: within an arm by the rank intervals, across
arms where the adjusted p of the paired difference is below .05. A difference that is not shown is
never called equality. Drawn images and untrained weights are never ranked.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedcache.reporting.evidence import (
    PRIMARY,
    Evidence,
    Rows,
    Who,
    called,
    home_and_abroad,
    is_floor,
    is_random,
    is_synthetic,
    who,
)
from embedcache.reporting.gaps import change_of, opposite
from embedcache.reporting.numbers import adjusted_p, count, interval, joined, points, signed, title
from embedcache.reporting.tables import (
    from_leader,
    leader_of,
    pairs_of,
    rank_of,
    turned,
    worst_site,
)
from embedcache.results.record import CohortRecord
from embedcache.results.tables import ComparisonRow, MetricRow

#: Below it a difference counts as shown.
LEVEL = 0.05
#: External cohorts that the verdict speaks of; more would be no verdict.
MOST_ABROAD = 2
#: First words that may take a capital; an encoder's name keeps its spelling.
OPENINGS = ("at home", "abroad", "on ", "moved", "weakest")


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Who leads on one cohort, and from whom the leader cannot be told.

    Attributes:
        cohort: of the images.
        place: `at home`, `abroad`, `on NAME`.
        leader: highest value among trained encoders.
        row: its value.
        undecided: other encoders that may be best.
        next: the leader minus the nearest encoder that it beats; None if it beats none.
        floor: the leader minus the `pixels` floor; None where there is no such comparison.
    """

    cohort: CohortRecord
    place: str
    leader: Who
    row: MetricRow
    undecided: tuple[Who, ...]
    next: ComparisonRow | None
    floor: ComparisonRow | None


def verdict(evidence: Evidence, rows: Rows) -> tuple[str, ...]:
    """Say who leads at home and abroad, what moving costs, and where it is weakest."""
    if is_synthetic(evidence):
        return (
            "The pictures are SYNTHETIC: drawn, not taken from patients.",
            "These numbers show that the pipeline runs; they rank no encoder.",
        )
    models = tuple(maker for maker in evidence.makers if not is_floor(maker))
    trained = tuple(who(maker) for maker in models if not is_random(maker))
    if not models:
        return ("Only the pixels floor was judged: add an encoder to compare with it.",)
    if not trained:
        return (
            "All encoders have RANDOM WEIGHTS: nobody trained them.",
            "These numbers show that the pipeline runs; they rank no encoder.",
        )
    standings = _standings(evidence, rows, trained)
    if not standings:
        return ("No encoder has a value to judge by: see the notes of the tables below.",)
    names = called(evidence)
    if len(trained) == 1:
        first = _alone(names, standings)
    else:
        first = "; ".join(_clause(names, found, len(trained)) for found in standings)
    second = [_moved(evidence, trained), _weakest(names, rows, standings[-1])]
    return tuple(_sentence(text) for text in (first, "; ".join(filter(None, second))) if text)


def _standings(evidence: Evidence, rows: Rows, trained: tuple[Who, ...]) -> list[Standing]:
    home, abroad = home_and_abroad(evidence)
    places = [(cohort, f"on {cohort.name}") for cohort in abroad[:MOST_ABROAD]]
    if home is not None:
        places = [(cohort, "abroad") for cohort in abroad] if len(abroad) == 1 else places
        places = [(home, "at home"), *places]
    found = [standing(evidence, rows, trained, *place) for place in places]
    return [item for item in found if item is not None]


def standing(
    evidence: Evidence, rows: Rows, trained: tuple[Who, ...], cohort: CohortRecord, place: str
) -> Standing | None:
    """Find who leads on a cohort among trained encoders; None if none has a value there."""
    leader = leader_of(evidence, rows, cohort, among=trained)
    if leader is None:
        return None
    pairs = [from_leader(pair, leader) for pair in pairs_of(evidence, rows, cohort)]
    known = {(row.arm, row.encoder): row for row in pairs if row is not None}
    undecided = tuple(
        name
        for name in trained
        if name != leader and _may_be_best(evidence, name, leader, cohort, known.get(name))
    )
    beaten = [turned(known[name]) for name in trained if _shown(known.get(name))]
    floors = [who(maker) for maker in evidence.makers if is_floor(maker)]
    return Standing(
        cohort=cohort,
        place=place,
        leader=leader,
        row=rows[(*leader, cohort.name, PRIMARY, "", "")],
        undecided=undecided,
        next=min(beaten, key=lambda row: row.value or 0.0, default=None),
        floor=next((turned(known[name]) for name in floors if name in known), None),
    )


def _may_be_best(
    evidence: Evidence, name: Who, leader: Who, cohort: CohortRecord, pair: ComparisonRow | None
) -> bool:
    """Whether an encoder may be best: by its rank in the leader's arm, else by their pair alone."""
    rank = rank_of(evidence, name, cohort) if name[0] == leader[0] else None
    return not _shown(pair) if rank is None else rank.may_be_best is True


def _shown(row: ComparisonRow | None) -> bool:
    p = None if row is None else adjusted_p(row)
    return p is not None and p < LEVEL


def _alone(names: dict[Who, str], standings: list[Standing]) -> str:
    parts = [
        f"{points(found.row.value)} ({interval(found.row)}) {found.place}{_against_floor(found)}"
        for found in standings
    ]
    return f"{names[standings[0].leader]} reaches {title(PRIMARY)} {', and '.join(parts)}"


def _clause(names: dict[Who, str], found: Standing, candidates: int) -> str:
    leader, below = names[found.leader], _below_floor(found)
    if len(found.undecided) == candidates - 1:
        patients = count(found.cohort.patients, "patient")
        return f"{found.place}, no encoder can be told from the best with these {patients}{below}"
    if found.undecided:
        rest = joined([names[name] for name in found.undecided])
        return f"{found.place}, {leader} scores highest but cannot be told from {rest}{below}"
    lead = ""
    if found.next is not None:
        second = names[(found.next.other_arm, found.next.other)]
        lead = f" by {_difference(found.next)} over {second}"
    return f"{found.place}, {leader} leads{lead}{below}"


def _against_floor(found: Standing) -> str:
    row = found.floor
    if row is None or row.value is None or not _shown(row) or row.value < 0:
        return _below_floor(found)
    return f", {points(row.value)} points above the pixels floor"


def _below_floor(found: Standing) -> str:
    row = found.floor
    if row is None or row.value is None:
        return ""
    if not _shown(row):
        return ", and cannot be told from the pixels floor"
    return f", {points(-row.value)} points below the pixels floor" if row.value < 0 else ""


def _difference(row: ComparisonRow) -> str:
    if row.low is None or row.high is None:
        return f"{points(row.value)} points"
    return f"{points(row.value)} points ({points(row.low)} to {points(row.high)})"


def _moved(evidence: Evidence, trained: tuple[Who, ...]) -> str:
    _, abroad = home_and_abroad(evidence)
    changes = [
        (found.value, name, cohort, found)
        for cohort in abroad
        for name in trained
        if (found := change_of(evidence, name, cohort)) is not None and found.value is not None
    ]
    if not changes:
        return ""
    change, name, cohort, row = min(changes, key=lambda item: item[0])
    where = "abroad" if len(abroad) == 1 else f"to {cohort.name}"
    if change >= 0 and len(trained) > 1:
        return f"moved {where} none loses; {called(evidence)[name]} gains least, {signed(change)}"
    size = _difference(row if change >= 0 else opposite(row))
    if len(trained) == 1:
        return f"moved {where} it {'loses' if change < 0 else 'gains'} {size}"
    return f"moved {where}, {called(evidence)[name]} loses most, {size}"


def _weakest(names: dict[Who, str], rows: Rows, found: Standing) -> str:
    site = worst_site(rows, found.leader, found.cohort)
    if site is None:
        return ""
    name = site.stratum.partition("=")[2]
    return f"weakest site of {names[found.leader]}: {name}, {points(site.value)} ({interval(site)})"


def _sentence(text: str) -> str:
    return (text[0].upper() + text[1:] if text.startswith(OPENINGS) else text) + "."
