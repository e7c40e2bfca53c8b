"""The report says of each encoder whether its weights had seen the cohorts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from embedcache.provenance import Overlap
from embedcache.reporting.html import render
from embedcache.reporting.overlap import overlap_of, seen_before

from .conftest import cohort, maker


def seen(answer: str, kind: str = "fetal-planes-db") -> Overlap:
    return Overlap(cohort=kind, answer=answer, source="its README", checked="2026-11-24")  # type: ignore[arg-type]  # parametrised


SPAIN = cohort("spain", reader="fetal-planes-db")
GHANA = cohort("ghana", reader="folder")


@pytest.mark.parametrize(
    ("answer", "said", "marks"),
    [
        ("yes", "TRAINED ON spain", ("TRAINED ON spain",)),
        ("selection", "checkpoint chosen on spain", ("CHECKPOINT CHOSEN ON spain",)),
        ("not listed", "spain is not among its listed training sets", ()),
        ("unknown", "not known of spain, which is no “no”", ()),
    ],
)
def test_an_answer_is_told_with_its_source_and_marked_where_it_weighs(
    answer: str, said: str, marks: tuple[str, ...]
) -> None:
    one = replace(maker("usf-mae"), overlap=(seen(answer),))
    assert overlap_of(one, [SPAIN]) == (f"{said} (its README, 2026-11-24)",)
    assert seen_before(one, [None, SPAIN]) == marks


def test_a_cohort_that_nobody_asked_about_is_unknown() -> None:
    one = replace(maker("usf-mae"), overlap=(seen("not listed"),))
    assert overlap_of(one, [GHANA]) == ("not known of ghana, which is no “no” (nobody looked)",)
    assert seen_before(one, [GHANA]) == ()


def test_who_was_not_trained_has_seen_nothing() -> None:
    assert overlap_of(maker("pixels"), [SPAIN]) == ("nobody trained it",)
    assert overlap_of(maker("vit", weights="random:0"), [SPAIN]) == ("nobody trained it",)


def test_foreign_predictions_do_not_say() -> None:
    assert overlap_of(replace(maker("theirs"), contract=None), [SPAIN]) == ("not recorded",)


def test_the_page_marks_who_was_trained_on_what_it_is_judged_on(study) -> None:
    evidence = study()
    first, *others = evidence.makers
    told = replace(first, overlap=(seen("yes", kind="folder"),))
    page = render(replace(evidence, makers=(told, *others)))
    names = [one.name for one in evidence.record.cohorts]
    assert page.count('<span class="mark">TRAINED ON') == len(names)
    assert "its README, 2026-11-24" in page
    assert "TRAINED ON" not in render(evidence)
    assert "which is no “no”" in render(evidence)
