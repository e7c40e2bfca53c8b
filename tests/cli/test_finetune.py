"""`embedcache finetune`: flags, dry runs, JSON, and nothing personal in what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.errors import BudgetTooSmallError, EmbedcacheError

PATIENT, FILE = "Zebediah-Quuxworth", "scan-of-mr-fnord"
QUICK = ("--epochs", "1", "--batch-size", "8", "--lr", "1e-3", "--device", "cpu")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight patients of two classes, with names that must not be seen again."""
    folder, rng = tmp_path_factory.mktemp("ward"), np.random.default_rng(0)
    lines = ["image,label,patient"]
    for k in range(16):
        pixels = rng.integers(0, 256, (40, 40), np.uint8)
        Image.fromarray(pixels).save(folder / f"{FILE}-{k}.png")
        lines.append(f"{FILE}-{k}.png,{('brain', 'femur')[k // 2 % 2]},{PATIENT}-{k // 2}")
    (folder / "planes.csv").write_text("\n".join([*lines, ""]))
    return f"home=table:{folder / 'planes.csv'}"


@pytest.fixture(scope="module")
def asked(cohort: str) -> tuple[object, ...]:
    words = ("finetune", "--cohort", cohort, "--encoder", "timm:test_resnet=random")
    return (*words, "--train", "home", "--folds", 2, *QUICK)


@pytest.fixture(scope="module")
def finished(asked, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("tuned") / "results"
    done = run(*asked, "--tune", "head", "--out", out)
    assert done.exit_code == 0, done.output
    return out, done


def test_it_says_what_is_judged_how_long_it_takes_and_how_it_went(finished) -> None:
    _, done = finished
    assert "home: 16 images of 8 patients judged" in done.stderr
    assert "h on cpu; there is no GPU" in done.stderr
    assert "tuning timm:test_resnet (tune-head, fold 1)" in done.stderr
    assert "RANDOM WEIGHTS" in done.stdout


def test_json_goes_alone_to_stdout_and_a_rerun_tunes_nothing(asked, finished) -> None:
    out, _ = finished
    done = run(*asked, "--tune", "head", "--out", out, "--json")
    assert {row["arm"] for row in json.loads(done.stdout)} == {"tune-head"}
    assert "2 models were there already; nothing is left to tune" in done.stderr


def test_nothing_that_it_leaves_says_who_or_which_file(finished) -> None:
    out, _ = finished
    for file in out.rglob("*"):
        if file.is_file():
            content = file.read_bytes()
            assert PATIENT.encode() not in content
            assert FILE.encode() not in content


def test_a_dry_run_prints_hours_by_encoder_and_fold_and_writes_nothing(asked, tmp_path) -> None:
    done = run(*asked, "--out", tmp_path / "r", "--dry-run", "--json")
    plan = json.loads(done.stdout)
    assert [one["training"] for one in plan["missing"]] == ["fold 0", "fold 1"]
    assert all(one["hours"] > 0 for one in plan["missing"])
    assert plan["hours"] == pytest.approx(sum(one["hours"] for one in plan["missing"]))
    assert not (tmp_path / "r").exists()


def test_a_budget_that_fits_nothing_is_said_before_any_training(asked, tmp_path) -> None:
    done = run(*asked, "--epochs", 100_000, "--budget", "1m", "--out", tmp_path / "r")
    assert isinstance(done.exception, BudgetTooSmallError)
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--tune", "all"), "full, head, lora", id="what is tuned"),
        pytest.param(("--lr", "fast"), "1e-4", id="rates"),
        pytest.param(("--lr", "2"), "between 0 and 1", id="a rate of 2"),
    ],
)
def test_a_flag_that_makes_no_sense_is_a_usage_error(asked, tmp_path, words, said) -> None:
    done = run(*asked, *words, "--out", tmp_path / "r")
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--budget", "soon"), "12h", id="a budget"),
        pytest.param(("--train", "spain"), "choose one of home", id="a cohort not given"),
        pytest.param(("--epochs", 0), "epochs", id="no epochs"),
        pytest.param(("--encoder", "pixels"), "no network", id="nothing to tune"),
    ],
)
def test_bad_input_is_said_before_anything_is_written(asked, tmp_path, words, said) -> None:
    done = run(*asked, *words, "--out", tmp_path / "r")
    assert isinstance(done.exception, EmbedcacheError)
    assert done.exception.exit_code == 2
    assert said in str(done.exception)
    assert not (tmp_path / "r").exists()


def test_a_misspelt_setting_of_the_recipe_is_named(asked, tmp_path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("epoch = 3\n")
    done = run(*asked, "--recipe", recipe, "--out", tmp_path / "r")
    assert "recipe.toml: epoch is unknown" in str(done.exception)
