"""Which classes are judged."""

from __future__ import annotations

import numpy as np
import pytest

from embedcache.errors import ClassUnknownError, TooFewClassesError
from embedcache.protocol.classes import class_list, label_map, present_classes

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
