"""The verdict claims what the comparisons show, and no more."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from embedcache.reporting.evidence import headline_rows
from embedcache.reporting.verdict import verdict

# In the fixture's study: first .93 at home and .71 abroad, second .92 and .65, third .85 and .66,
# pixels .60 and .41; every interval is +- .02; every p is .001 unless given; Malawi is 5 points
# below Ghana, and Togo (6 patients) 10 points below.


@dataclass(frozen=True)
class Case:
    id: str
    says: tuple[str, ...]
    study: dict[str, Any] = field(default_factory=dict)


CASES = [
    Case(
        "a clear leader, with the difference from the nearest",
        (
            "At home, first leads by 1.0 points (\N{MINUS SIGN}1.0 to 3.0) over second; abroad, ",
            "; abroad, first leads by 5.0 points (3.0 to 7.0) over third.",
            ". Moved abroad, second loses most, 27.0 points (25.0 to 29.0); weakest site of first",
            "; weakest site of first: Malawi, 66.0 (64.0 to 68.0).",
        ),
    ),
    Case(
        "p of .05 is not below .05",
        ("At home, first scores highest but cannot be told from second; abroad, first leads",),
        {"p": {frozenset({"first", "second", "home"}): 0.05}},
    ),
    Case(
        "p just below .05 is",
        ("At home, first leads by 1.0 points",),
        {"p": {frozenset({"first", "second", "home"}): 0.0499}},
    ),
    Case(
        "where nothing separates, the number of patients is the reason",
        ("abroad, no encoder can be told from the best with these 83 patients.",),
        {
            "p": {
                frozenset({"first", "second", "abroad"}): 0.5,
                frozenset({"first", "third", "abroad"}): 0.2,
                frozenset({"second", "third", "abroad"}): 0.4,
            }
        },
    ),
    Case(
        "an encoder that another beats cannot be best, however near the first",
        ("At home, first scores highest but cannot be told from second;",),
        {
            "p": {
                frozenset({"first", "second", "home"}): 0.3,
                frozenset({"first", "third", "home"}): 0.06,
            }
        },
    ),
    Case(
        "one encoder beside the floor",
        (
            "first reaches macro-F1 93.0 (91.0 to 95.0) at home, 33.0 points above the pixels",
            "floor, and 71.0 (69.0 to 73.0) abroad, and cannot be told from the pixels floor.",
            "Moved abroad it loses 22.0 points (20.0 to 24.0)",
        ),
        {
            "values": {"first": (0.93, 0.71), "pixels": (0.60, 0.41)},
            "p": {frozenset({"first", "pixels", "abroad"}): 0.3},
        },
    ),
    Case(
        "an encoder below the floor",
        ("first reaches macro-F1 50.0 (48.0 to 52.0) at home, 10.0 points below the pixels floor",),
        {"values": {"first": (0.5, 0.5), "pixels": (0.60, 0.41)}},
    ),
    Case(
        "a gain is no loss",
        ("Moved abroad it gains 2.0 points (0.0 to 4.0)",),
        {"values": {"first": (0.5, 0.52)}},
    ),
    Case(
        "no external cohort",
        ("At home, first leads",),
        {"abroad": ()},
    ),
    Case(
        "several external cohorts are named",
        ("on africa, first leads", "on brazil, first leads", "Moved to africa, second loses most"),
        {"abroad": ("africa", "brazil")},
    ),
    Case(
        "untrained encoders neither lead nor lose",
        ("At home, second leads by 7.0 points", "second loses most"),
        {"weights": {"first": "random:0"}},
    ),
    Case(
        "only untrained encoders",
        ("All encoders have RANDOM WEIGHTS: nobody trained them.", "they rank no encoder."),
        {"weights": {"first": "random:0"}, "values": {"first": (0.9, 0.8), "pixels": (0.6, 0.4)}},
    ),
    Case(
        "drawn pictures",
        ("The pictures are SYNTHETIC: drawn, not taken from patients.", "they rank no encoder."),
        {"changes": {"abroad": {"synthetic": True}}},
    ),
    Case(
        "only the floor", ("Only the pixels floor was judged",), {"values": {"pixels": (0.6, 0.4)}}
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_verdict_says(case: Case, study) -> None:
    evidence = study(**case.study)
    said = " ".join(verdict(evidence, headline_rows(evidence)))
    for sentence in case.says:
        assert sentence in said


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_verdict_never_calls_encoders_equal(case: Case, study) -> None:
    evidence = study(**case.study)
    said = " ".join(verdict(evidence, headline_rows(evidence))).lower()
    assert not any(word in said for word in ("equal", "equivalent", "same", "identical"))


def test_a_missing_comparison_is_no_proof(study) -> None:
    evidence = replace(study(), comparisons=())
    said = " ".join(verdict(evidence, headline_rows(evidence)))
    assert "At home, no encoder can be told from the best" in said


def test_a_site_of_six_patients_is_never_named(study) -> None:
    evidence = study()
    assert "Togo" not in " ".join(verdict(evidence, headline_rows(evidence)))


def test_the_row_order_of_comparisons_changes_nothing(study) -> None:
    evidence = study()
    turned = replace(evidence, comparisons=evidence.comparisons[::-1])
    assert verdict(turned, headline_rows(turned)) == verdict(evidence, headline_rows(evidence))


def test_max_t_outranks_holm_outranks_the_bare_p(study) -> None:
    evidence = study(values={"first": (0.93, 0.71), "second": (0.92, 0.65)})
    pairs = [row for row in evidence.comparisons if row.kind == "pair"]
    stricter = tuple(replace(row, p=0.01, p_holm=0.01, p_max_t=0.2) for row in pairs)
    strict = replace(evidence, comparisons=stricter)
    assert "no encoder can be told" in " ".join(verdict(strict, headline_rows(strict)))
