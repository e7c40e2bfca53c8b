"""The strip of checks: what was looked at, what was found, and what nobody looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from embedcache.contract import NO_WEIGHTS
from embedcache.evaluation.gather import RANDOM_WEIGHTS, SYNTHETIC
from embedcache.evaluation.intervals import POINT
from embedcache.evaluation.rows import WITHIN_FOLDS
from embedcache.protocol.audit import LEAKS
from embedcache.protocol.protocol import how_tested
from embedcache.reporting.evidence import Evidence, Rows, called, is_random, who
from embedcache.reporting.numbers import count, joined
from embedcache.results.record import CohortRecord, Maker

State = Literal["pass", "look", "stop", "unknown"]

#: Notes that the page says elsewhere, in a band across it.
MARKS = {"", RANDOM_WEIGHTS, SYNTHETIC}
#: How `CohortRecord.left_out` starts for images that could not be read or encoded.
FAILED = ("unreadable", "failed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """One chip.

    Attributes:
        state: icon and word follow from it, never colour alone.
        subject: what was checked.
        finding: in a few words.
        link: anchor of the part of the page that says more.
    """

    state: State
    subject: str
    finding: str
    link: str


def checks(evidence: Evidence, rows: Rows) -> tuple[Check, ...]:
    """Collect what the record, the makers and the predictions themselves show."""
    return (
        _patients(evidence),
        _copies(evidence),
        _weights(evidence),
        _protocol(evidence),
        _failures(evidence),
        _intervals(rows),
    )


def failures(cohort: CohortRecord) -> dict[str, int]:
    """Pick the images that failed, by reason, from all that was left out."""
    return {
        reason: number
        for reason, number in sorted(cohort.left_out.items())
        if reason.startswith(FAILED) and number > 0
    }


def _patients(evidence: Evidence) -> Check:
    split = evidence.audit.split_clusters
    if split:
        finding = f"{count(split, 'patient cluster')} in two folds: the numbers are too good"
        return Check(state="stop", subject="Patients", finding=finding, link="#cohorts")
    return Check(state="pass", subject="Patients", finding="each in one fold only", link="#cohorts")


def _copies(evidence: Evidence) -> Check:
    shared = sum(evidence.audit.shared_images.values())
    if shared:
        finding = f"{count(shared, 'external image')} also in training"
        return Check(state="stop", subject="Copies", finding=finding, link="#cohorts")
    if evidence.look_alike:
        finding = f"{count(evidence.look_alike, 'pair')} look alike across patients"
        return Check(state="look", subject="Copies", finding=finding, link="#cohorts")
    reasons = LEAKS[1:]
    cohorts = evidence.record.cohorts
    dropped = sum(cohort.left_out.get(reason, 0) for cohort in cohorts for reason in reasons)
    found = f"{dropped:,} left out abroad" if dropped else "none abroad"
    protocol = evidence.record.protocol
    if protocol is None or not protocol.links:
        finding = f"{found}; no links of near-duplicates given"
        return Check(state="unknown", subject="Copies", finding=finding, link="#cohorts")
    finding = f"{found}; {count(len(protocol.links), 'near-duplicate pair')} kept together"
    return Check(state="pass", subject="Copies", finding=finding, link="#cohorts")


def _weights(evidence: Evidence) -> Check:
    link = "#provenance"
    names = called(evidence)
    untrained = [names[who(maker)] for maker in evidence.makers if is_random(maker)]
    if untrained:
        finding = f"RANDOM: {joined(untrained, most=2)}"
        return Check(state="look", subject="Weights", finding=finding, link=link)
    if any(maker.contract is None for maker in evidence.makers):
        return Check(state="unknown", subject="Weights", finding="not recorded", link=link)
    asked = [maker for maker in evidence.makers if _needs_weights(maker)]
    finding = f"trained, {len(asked)} of {len(asked)} by sha256" if asked else "none needed"
    return Check(state="pass", subject="Weights", finding=finding, link=link)


def _needs_weights(maker: Maker) -> bool:
    return maker.contract is not None and maker.contract.weights != NO_WEIGHTS


def _protocol(evidence: Evidence) -> Check:
    protocol = evidence.record.protocol
    if protocol is None:
        finding = "foreign predictions, taken as they are"
        return Check(state="unknown", subject="Protocol", finding=finding, link="#methods")
    finding = how_tested(protocol)
    return Check(state="pass", subject="Protocol", finding=finding, link="#methods")


def _failures(evidence: Evidence) -> Check:
    if evidence.left_out:
        finding = f"{count(len(evidence.left_out), 'encoder')} incomplete, left out"
        return Check(state="look", subject="Failures", finding=finding, link="#provenance")
    failed = sum(sum(failures(cohort).values()) for cohort in evidence.record.cohorts)
    if failed:
        finding = f"{count(failed, 'image')} failed"
        return Check(state="look", subject="Failures", finding=finding, link="#cohorts")
    if evidence.record.protocol is None:
        finding = "the table does not say"
        return Check(state="unknown", subject="Failures", finding=finding, link="#cohorts")
    return Check(state="pass", subject="Failures", finding="none", link="#cohorts")


def _intervals(rows: Rows) -> Check:
    overall = (row for key, row in rows.items() if not key[4] and not key[5])
    headline = [row for row in overall if row.method != POINT]
    missing = sum(row.low is None or row.high is None for row in headline)
    noted = sum(any(map(_warns, row.note.split("; "))) for row in headline)
    if missing:
        finding = f"{missing} of {len(headline)} not estimable"
        return Check(state="look", subject="Intervals", finding=finding, link="#metrics")
    if noted:
        return Check(state="look", subject="Intervals", finding="read the notes", link="#metrics")
    finding = f"{len(headline)} of {len(headline)} over patients"
    return Check(state="pass", subject="Intervals", finding=finding, link="#metrics")


def _warns(note: str) -> bool:
    return note not in MARKS and not note.startswith(WITHIN_FOLDS)
