"""A protocol reads from TOML, strictly, and says how it tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedcache.errors import SchemaError
from embedcache.protocol.protocol import (
    Efficiency,
    Protocol,
    Tuning,
    how_tested,
    read_protocol,
)
from embedcache.schema import from_plain, plain

WRITTEN = """
train = "spain"
external = ["africa"]
classes = "all"
folds = "site"
seed = 3
links = [["{a}", "{b}"]]

[merges]
"Fetal brain" = ["Trans-thalamic", "Trans-cerebellum"]

[tuning]
inner_folds = 4
grid = [0.01, 0.1]

[efficiency]
patients = [1, 4]
repeats = 5
"""


def test_every_field_can_be_written_in_toml_and_comes_back_from_json(tmp_path: Path) -> None:
    file = tmp_path / "protocol.toml"
    file.write_text(WRITTEN.format(a="a" * 64, b="b" * 64))
    expected = Protocol(
        train="spain",
        external=("africa",),
        classes="all",
        merges={"Fetal brain": ("Trans-thalamic", "Trans-cerebellum")},
        folds="site",
        seed=3,
        links=(("a" * 64, "b" * 64),),
        tuning=Tuning(inner_folds=4, grid=(0.01, 0.1)),
        efficiency=Efficiency(patients=(1, 4), repeats=5),
    )
    assert read_protocol(file, {}) == expected
    assert from_plain(Protocol, json.loads(json.dumps(plain(expected))), "x") == expected
    assert read_protocol(file, {"folds": 7, "seed": None}).folds == 7


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        pytest.param({"folds": 1}, "folds must lie between 2 and 127", id="one fold"),
        pytest.param({"folds": "sites"}, "folds is 'sites'", id="an unknown rule"),
        pytest.param({"external": ("home",)}, "external names a cohort twice", id="train abroad"),
        pytest.param({"seed": -1}, "seed must not be negative", id="seed"),
        pytest.param({"merges": {"a": []}}, "merges.a names no class", id="an empty merge"),
        pytest.param(
            {"merges": {"a": ["x"], "b": ["x"]}}, "merges.b takes 'x', as 'a' does", id="two merges"
        ),
        pytest.param(
            {"merges": {"a": ["b"], "b": ["c"]}}, "merges.b is itself merged into 'a'", id="a chain"
        ),
        pytest.param(
            {"efficiency": {"patients": [5, 2]}}, "efficiency.patients", id="falling numbers"
        ),
        pytest.param({"efficiency": {"repeats": 1}}, "efficiency.repeats", id="one draw"),
        pytest.param({"links": [["a", "b"]]}, r"links\[0\]", id="no digests"),
        pytest.param({"tuning": {"grid": [1, 0.1]}}, "tuning.grid", id="a falling grid"),
    ],
)
def test_what_makes_no_sense_is_named_with_its_path(fields: dict[str, object], said: str) -> None:
    with pytest.raises(SchemaError, match=said):
        read_protocol(None, {"train": "home", **fields})


def test_a_merge_may_take_in_a_class_of_its_own_name() -> None:
    assert Protocol(train="home", merges={"Other": ("Thorax", "Other")}).merges


@pytest.mark.parametrize(
    ("folds", "said"),
    [(5, "5-fold"), ("split", "publisher's split"), ("site", "one site at a time")],
)
def test_methods_can_say_how_images_were_tested(folds, said: str) -> None:
    assert said in how_tested(Protocol(train="home", folds=folds))
