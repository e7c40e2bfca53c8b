"""`embedcache probe` fits, evaluates and prints; its flags win over a protocol file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.cli.protocol_flags import asked_protocol
from embedcache.errors import EmbedcacheError, SchemaError
from embedcache.protocol.protocol import Protocol, Tuning
from embedcache.testing.stored_features import MadeCohort, digest_of, put_cohort, put_features

CLASSES = ("brain", "femur")
ARGUMENTS = ("--train", "home", "--external", "abroad", "--folds", "3")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["probe", *map(str, words)])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Cohorts `home` (16 patients) and `abroad` (6), encoders `pixels` and `half`-finished."""
    path = tmp_path_factory.mktemp("study") / "store.zarr"
    rng = np.random.default_rng(0)
    vectors = {}
    for name, patients in (("home", 16), ("abroad", 6)):
        images = [f"{name}-{k}" for k in range(2 * patients)]
        label = [CLASSES[(k // 2) % 2] for k in range(2 * patients)]
        patient = [f"{name}-patient-{k // 2}" for k in range(2 * patients)]
        cohort = MadeCohort(name=name, classes=CLASSES, image=images, label=label, patient=patient)
        put_cohort(path, cohort)
        for image, word in zip(images, label, strict=True):
            vectors[image] = rng.standard_normal(3) + 1.5 * CLASSES.index(word)
    put_features(path, "pixels", vectors)
    put_features(path, "half", {image: vectors[image] for image in list(vectors)[:20]})
    return path


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Path:
    """A protocol file with two values of C, so that fits are quick."""
    file = tmp_path_factory.mktemp("protocol") / "protocol.toml"
    file.write_text('train = "home"\nexternal = ["abroad"]\n[tuning]\ngrid = [0.1, 1]\n')
    return file


@pytest.fixture(scope="module")
def finished(store: Path, quick: Path, tmp_path_factory) -> tuple[Path, Result]:
    out = tmp_path_factory.mktemp("results") / "results"
    return out, run(store, "--protocol", quick, "--folds", 3, "--out", out)


def test_one_command_ends_with_the_leaderboard(finished) -> None:
    out, done = finished
    assert done.exit_code == 0, done.output
    assert "Macro-F1" in done.stdout
    assert "pixels" in done.stdout
    assert (out / "metrics.csv").is_file()


def test_what_was_judged_and_left_out_stands_beside_the_bars(finished) -> None:
    _, done = finished
    assert "home: 32 images of 16 patients judged" in done.stderr
    assert "half is left out: it has no features yet of 24 images" in done.stderr


def test_a_rerun_says_that_nothing_was_left_to_do(store, quick, finished) -> None:
    out, first = finished
    again = run(store, "--protocol", quick, "--folds", 3, "--out", out)
    assert again.exit_code == 0, again.output
    assert "4 models were there already; nothing was left to fit" in again.stderr
    assert again.stdout == first.stdout


def test_json_goes_alone_to_stdout(store, quick, finished) -> None:
    out, _ = finished
    done = run(store, "--protocol", quick, "--folds", 3, "--out", out, "--json")
    rows = json.loads(done.stdout)
    assert {row["estimand"] for row in rows} >= {"oof", "external-folds", "external-refit"}


def test_a_dry_run_counts_what_is_missing_by_encoder_and_writes_nothing(store, tmp_path) -> None:
    out = tmp_path / "results"
    done = run(store, *ARGUMENTS, "--out", out, "--dry-run", "--json")
    assert json.loads(done.stdout) == {
        "missing": {"pixels": 4},
        "found": 0,
        "images": {"home": 32, "abroad": 12},
    }
    assert "4 to fit, 0 there already" in run(store, *ARGUMENTS, "--out", out, "--dry-run").stdout
    assert not out.exists()


def test_another_protocol_is_refused_in_a_sentence(store, quick, finished) -> None:
    out, _ = finished
    command = [sys.executable, "-m", "embedcache", "probe", str(store), "--out", str(out)]
    asked = ["--protocol", str(quick), "--folds", "3", "--seed", "7"]
    done = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "--out" in line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param((), "--train NAME", id="no training cohort"),
        pytest.param(("--train", "home", "--workers", "none"), "--workers", id="workers"),
    ],
)
def test_a_flag_that_makes_no_sense_is_a_usage_error(store, tmp_path, words, said) -> None:
    done = run(store, "--out", tmp_path / "results", *words)
    assert done.exit_code == 2
    assert said in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--train", "hom"), "home", id="an unknown cohort lists those known"),
        pytest.param((*ARGUMENTS, "--encoder", "half"), "extract", id="an unfinished encoder"),
        pytest.param((*ARGUMENTS, "--classes", "brain,spine"), "spine", id="an unknown class"),
        pytest.param(("--train", "home", "--folds", "9"), "--folds 8", id="too few patients"),
    ],
)
def test_bad_input_is_said_before_anything_is_written(store, tmp_path, words, said) -> None:
    done = run(store, "--out", tmp_path / "results", *words)
    assert isinstance(done.exception, EmbedcacheError)
    assert done.exception.exit_code == 2
    assert said in str(done.exception)
    assert not (tmp_path / "results").exists()


NOTHING = dict.fromkeys(("train", "external", "links", "classes", "folds", "seed"))


def test_flags_win_over_the_protocol_file(tmp_path: Path) -> None:
    links = tmp_path / "links.csv"
    pair = tuple(sorted(digest_of(image).hex() for image in ("one", "other")))
    links.write_text(",".join(pair))
    file = tmp_path / "protocol.toml"
    file.write_text(
        'train = "spain"\nexternal = ["africa"]\nclasses = ["a", "b"]\nfolds = 3\nseed = 4\n'
        "[tuning]\ninner_folds = 2\ngrid = [0.1, 1.0]\n"
    )
    tuning = Tuning(inner_folds=2, grid=(0.1, 1.0))
    from_file = Protocol(
        train="spain", external=("africa",), classes=("a", "b"), folds=3, seed=4, tuning=tuning
    )
    assert asked_protocol(file, **NOTHING) == from_file
    flags = {
        "train": "home",
        "external": ["x,y", "z"],
        "links": links,
        "classes": "brain, femur",
        "folds": "10",
        "seed": 0,
    }
    assert asked_protocol(file, **flags) == Protocol(
        train="home",
        external=("x", "y", "z"),
        links=(pair,),
        classes=("brain", "femur"),
        folds=10,
        seed=0,
        tuning=tuning,
    )


@pytest.mark.parametrize("rule", ["shared", "all"])
def test_class_rules_are_words(rule: str) -> None:
    assert asked_protocol(None, **{**NOTHING, "train": "home", "classes": rule}).classes == rule


def test_a_misspelt_key_of_the_protocol_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "protocol.toml"
    file.write_text('train = "spain"\nfold = 3\n')
    with pytest.raises(SchemaError, match=r"protocol\.toml: fold is unknown"):
        asked_protocol(file, **NOTHING)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(("--scheduler", "local:2", "--workers", "2"), "--workers", id="both"),
        pytest.param(("--efficiency", "--estimator", "knn"), "linear probe", id="knn of few"),
    ],
)
def test_flags_that_contradict_are_a_usage_error(store, tmp_path, words, said) -> None:
    done = run(store, *ARGUMENTS, "--out", tmp_path / "results", *words)
    assert done.exit_code == 2
    assert said in done.output
    assert not (tmp_path / "results").exists()


def test_a_scheduler_that_is_none_is_said_in_a_sentence(store, tmp_path) -> None:
    done = run(store, *ARGUMENTS, "--out", tmp_path / "results", "--scheduler", "cluster")
    assert isinstance(done.exception, EmbedcacheError)
    assert "local:N" in str(done.exception)
    assert not (tmp_path / "results").exists()


def test_efficiency_adds_rows_of_few_patients_and_no_line_to_the_leaderboard(
    store, quick, finished, tmp_path
) -> None:
    file = tmp_path / "protocol.toml"
    file.write_text(quick.read_text() + "[efficiency]\npatients = [1, 2]\nrepeats = 2\n")
    out = tmp_path / "results"
    done = run(store, "--protocol", file, "--folds", 3, "--out", out, "--efficiency")
    assert done.exit_code == 0, done.output
    rows = run(store, "--protocol", file, "--folds", 3, "--out", out, "--efficiency", "--json")
    few = [row for row in json.loads(rows.stdout) if row["train_patients"] > 0]
    assert {row["train_patients"] for row in few} == {1, 2}
    assert {row["estimand"] for row in few} == {"oof", "external-folds"}
    table = done.stdout.split("every class")[0]
    assert table == finished[1].stdout.split("every class")[0]


@pytest.mark.parametrize(("word", "rule"), [("site", "site"), ("split", "split"), ("7", 7)])
def test_folds_are_a_number_or_a_rule(word: str, rule: object) -> None:
    assert asked_protocol(None, **{**NOTHING, "train": "home", "folds": word}).folds == rule


def test_an_unknown_rule_of_folds_lists_the_known_ones() -> None:
    with pytest.raises(SchemaError, match="'split', 'site'"):
        asked_protocol(None, **{**NOTHING, "train": "home", "folds": "sites"})


def test_a_dry_run_counts_draws_of_few_patients_too(store, tmp_path) -> None:
    words = (*ARGUMENTS, "--out", tmp_path / "results", "--dry-run", "--efficiency")
    assert json.loads(run(store, *words, "--json").stdout)["draws"] == {"missing": 10, "found": 0}
    assert "10 draws of 1, 2 patients a class" in run(store, *words).stdout
