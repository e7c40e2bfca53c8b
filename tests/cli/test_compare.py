"""`embedcache compare` says in words what differs, and never that encoders are equal."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedcache.cli import app
from embedcache.cli.differences import print_comparisons
from embedcache.results.tables import ComparisonRow


def results(tmp_path: Path, encoders: dict[str, int]) -> Path:
    """Each encoder errs on so many of 60 images, one a patient."""
    with (tmp_path / "predictions.csv").open("w", newline="") as text:
        writer = csv.writer(text)
        writer.writerow(["image", "patient", "label", "predicted", "encoder"])
        for encoder, wrong in encoders.items():
            for image in range(60):
                label = "ab"[image % 2]
                other = "ba"[image % 2]
                writer.writerow([image, image, label, other if image < wrong else label, encoder])
    out = tmp_path / "results"
    done = CliRunner().invoke(
        app, ["evaluate", str(tmp_path / "predictions.csv"), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    return out


def test_the_better_encoder_stands_first_with_points_and_words(tmp_path: Path) -> None:
    out = results(tmp_path, {"bad": 30, "close": 7, "good": 6})
    done = CliRunner().invoke(app, ["compare", str(out), "--metric", "accuracy"])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.stdout.splitlines()]
    told = {(line[0], line[1]): " ".join(line[2:]) for line in lines if "points" in line}
    assert set(told) == {("close", "bad"), ("good", "bad"), ("good", "close")}
    # 24 of 60 and 1 of 60 images.
    assert told["good", "bad"].startswith("+40.0 points [")
    assert told["good", "bad"].endswith("differ")
    assert told["good", "close"].startswith("+1.7 points [")
    assert told["good", "close"].endswith("cannot be told apart")
    assert "equal" not in done.stdout
    assert str(out / "comparisons.csv") in done.stdout


def test_json_is_the_comparisons_table(tmp_path: Path) -> None:
    out = results(tmp_path, {"bad": 30, "good": 6})
    done = CliRunner().invoke(app, ["compare", str(out), "--json"])
    every = json.loads(done.stdout)
    with (out / "comparisons.csv").open(newline="") as text:
        table = list(csv.DictReader(text))
    assert [list(row) for row in every] == [list(row) for row in table]
    assert [row["value"] for row in every] == [float(row["value"]) for row in table]
    assert [row["kind"] for row in every] == ["pair", "rank", "rank"]
    found = every[0]
    assert (found["encoder"], found["other"]) == ("bad", "good")  # in order of name


def test_one_encoder_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(results(tmp_path, {"only": 3}))])
    assert done.exit_code == 0
    assert "there is one encoder, and nothing to compare it with" in done.stdout


def comparison(**changed: object) -> ComparisonRow:
    plain: dict[str, object] = {
        "kind": "pair",
        "arm": "knn",
        "other_arm": "knn",
        "encoder": "a",
        "other": "b",
        "cohort": "africa",
        "estimand": "external-folds",
        "class_rule": "restricted",
        "metric": "log-loss",
        "value": -0.25,
        "low": -0.5,
        "high": 0.0,
        "clusters": 9,
        "p": 0.0123,
    }
    return ComparisonRow(**(plain | changed))  # type: ignore[arg-type]  # fields by name


def test_of_losses_the_lower_is_better(capsys: pytest.CaptureFixture[str]) -> None:
    print_comparisons([comparison()], better="lower", as_json=False)
    line = next(x for x in capsys.readouterr().out.splitlines() if "0.0123" in x)
    assert " ".join(line.split()) == "a b -0.250 [-0.500, 0.000] 0.0123 - - differ"


def test_turning_a_pair_turns_its_interval(capsys: pytest.CaptureFixture[str]) -> None:
    turned = comparison(
        metric="accuracy", value=-0.03, low=-0.05, high=0.01, p_max_t=0.19, p_holm=0.2
    )
    print_comparisons([turned], better="higher", as_json=False)
    line = next(x for x in capsys.readouterr().out.splitlines() if "points" in x)
    assert " ".join(line.split()) == (
        "b a +3.0 points [-1.0, 5.0] 0.0123 0.1900 0.2000 cannot be told apart"
    )
