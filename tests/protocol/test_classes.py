"""Which classes are judged."""

from __future__ import annotations

import numpy as np
import pytest

from embedcache.errors import ClassUnknownError, MergeUnknownError, TooFewClassesError
from embedcache.protocol.classes import (
    check_merges,
    class_list,
    label_map,
    merge_classes,
    present_classes,
)

SPAIN = ("abdomen", "brain", "femur", "thorax", "cervix", "other")
AFRICA = ("thorax", "femur", "brain", "abdomen")


@pytest.mark.parametrize(
    ("rule", "external", "chosen"),
    [
        pytest.param("all", {"africa": AFRICA}, SPAIN, id="all are the training classes"),
        pytest.param("shared", {}, SPAIN, id="shared with nobody is all"),
        pytest.param("shared", {"africa": AFRICA}, SPAIN[:4], id="shared keep training order"),
        pytest.param(
            "shared", {"africa": AFRICA, "ghana": AFRICA[1:]}, SPAIN[:3], id="shared with every one"
        ),
        pytest.param(("femur", "brain"), {}, ("brain", "femur"), id="a list keeps training order"),
    ],
)
def test_a_rule_chooses(rule, external, chosen) -> None:
    assert class_list(rule, SPAIN, external) == chosen


def test_an_unknown_class_lists_the_known_ones() -> None:
    with pytest.raises(ClassUnknownError, match=r"labelled Femur; choose among abdomen, brain"):
        class_list(("Femur", "brain"), SPAIN, {})


@pytest.mark.parametrize("rule", ["shared", ("brain",)])
def test_one_class_is_too_few_and_the_cohorts_say_what_they_have(rule) -> None:
    with pytest.raises(TooFewClassesError, match="africa has brain, spine"):
        class_list(rule, SPAIN, {"africa": ("brain", "spine")})


def test_labels_map_by_name_and_others_are_not_judged() -> None:
    assert label_map(("brain", "thorax"), AFRICA).tolist() == [1, -1, 0, -1]


def test_a_class_is_present_only_with_an_image() -> None:
    label = np.array([3, 0, -1, 3], np.int16)
    assert present_classes(AFRICA, label) == ("thorax", "abdomen")


def test_merged_classes_stand_where_their_first_old_class_stood() -> None:
    merges = {"brain": ("thalami", "cerebellum")}
    classes, place = merge_classes(["femur", "thalami", "thorax", "cerebellum"], merges)
    assert classes == ("femur", "brain", "thorax")
    assert place.tolist() == [0, 1, 2, 1]


def test_a_merge_takes_in_a_class_of_its_own_name_and_passes_by_cohorts_without_it() -> None:
    merges = {"other": ("thorax",)}
    assert merge_classes(["thorax", "other"], merges)[0] == ("other",)
    assert merge_classes(["a", "b"], merges)[0] == ("a", "b")


def test_a_merge_of_a_class_that_no_cohort_has_lists_those_known() -> None:
    cohorts = {"spain": ("brain", "femur"), "africa": ("head",)}
    check_merges({"brain": ("head",)}, cohorts)
    with pytest.raises(MergeUnknownError, match=r"names haed.*brain, femur, head"):
        check_merges({"brain": ("haed",)}, cohorts)
