"""Cohorts from columns, and with other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache.cohorts.classes import choose_classes, leave_out, merge_classes
from embedcache.cohorts.cohort import Cohort
from embedcache.errors import (
    ColumnLengthError,
    EmptyCellsError,
    EmptyCohortError,
    SchemaError,
    UnknownLabelError,
)
from embedcache.images.source import ImageFile

IMAGES = [ImageFile(Path(f"{name}.png")) for name in "abcd"]


def cohort(**other: Any) -> Cohort:
    columns: dict[str, Any] = {
        "classes": ("x", "y", "z"),
        "images": IMAGES,
        "label": ["y", " x", "y ", "z"],
        "patient": ["1", " 1", "2 ", "3"],
        "strata": {"site": ["n", "", " s", "s"]},
    }
    return Cohort.from_columns(**{**columns, **other})


def test_labels_become_codes_and_space_does_not_count() -> None:
    made = cohort()
    assert made.label.tolist() == [1, 0, 1, 2]
    assert made.label.dtype == np.int16
    assert made.patient.tolist() == ["1", "1", "2", "3"]
    assert made.strata["site"].tolist() == ["n", "not given", "s", "s"]


BAD = [
    ({"label": ["y", "q", "y", "q"]}, UnknownLabelError, "2 rows are labelled q"),
    ({"label": ["y", "", "y", " "]}, EmptyCellsError, r"2 rows have no label \(rows 2, 4"),
    ({"patient": ["1", "", "NaN", "3"]}, EmptyCellsError, r"2 rows have no patient \(rows 2, 3"),
    ({"patient": ["1", "NA", "2", "3"]}, EmptyCellsError, r"1 rows have no patient \(rows 2"),
    ({"patient": ["1"]}, ColumnLengthError, "images 4, label 4, patient 1, site 4"),
    ({"strata": {"site": ["n"]}}, ColumnLengthError, "site 1"),
    ({"classes": ("x", "y", "z", "x")}, SchemaError, "names 'x' twice"),
    ({"classes": ()}, SchemaError, "classes is empty"),
    ({"classes": ("x", "y", "z", " ")}, SchemaError, "an empty name"),
    ({"classes": [str(k) for k in range(40_000)]}, SchemaError, "40,000 names"),
    ({"strata": {"a/b": ["n"] * 4}}, SchemaError, "no name for a stratum"),
    ({"strata": {"label": ["n"] * 4}}, SchemaError, "no name for a stratum"),
    ({"images": [], "label": [], "patient": [], "strata": {}}, EmptyCohortError, "no images"),
]


@pytest.mark.parametrize(("other", "error", "message"), BAD)
def test_columns_that_make_no_cohort_are_errors(
    other: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        cohort(**other)


def named(made: Cohort) -> list[str]:
    return [made.classes[code] for code in made.label]


def test_merged_classes_take_the_place_of_the_first() -> None:
    made = merge_classes(cohort(), {"yz": ("z", "y")}, "here")
    assert made.classes == ("x", "yz")
    assert named(made) == ["yz", "x", "yz", "yz"]
    kept = merge_classes(cohort(), {"y": ("y", "x")}, "here")
    assert (kept.classes, named(kept)) == (("y", "z"), ["y", "y", "y", "z"])


MERGES = [
    ({"n": ("q",)}, r"merges\.n names 'q', which is no label \(labels: x, y, z\)"),
    ({"n": ("x",), "m": ("x", "y")}, "merges 'x' a second time"),
    ({"z": ("x", "y")}, "is a class already"),
]


@pytest.mark.parametrize(("merges", "message"), MERGES)
def test_a_merge_that_cannot_be_meant_is_an_error(merges: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        merge_classes(cohort(), merges, "here")


def test_a_class_list_reorders_and_may_hold_more() -> None:
    made = choose_classes(cohort(), ("z", "w", "y", "x"), "here")
    assert (made.classes, named(made)) == (("z", "w", "y", "x"), named(cohort()))
    with pytest.raises(UnknownLabelError, match="2 rows are labelled x, z"):
        choose_classes(cohort(), ("y",), "here")


def test_rows_left_out_take_their_class_along() -> None:
    made = leave_out(cohort(), ("y",), "here")
    assert (made.classes, named(made)) == (("x", "z"), ["x", "z"])
    assert made.images == (IMAGES[1], IMAGES[3])
    assert made.patient.tolist() == ["1", "3"]
    assert made.strata["site"].tolist() == ["not given", "s"]
    with pytest.raises(SchemaError, match="names 'q'"):
        leave_out(cohort(), ("q",), "here")
    with pytest.raises(EmptyCohortError):
        leave_out(cohort(), ("x", "y", "z"), "here")


@given(st.lists(st.sampled_from("xyz"), min_size=4, max_size=4), st.permutations("xyz"))
def test_a_reordered_class_list_renames_nobody(label: list[str], order: list[str]) -> None:
    assert named(choose_classes(cohort(label=label), order, "here")) == label
