"""`embedcache encoders` shows the registry to people and to programs."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.cli.encoders import list_encoders, show
from embedcache.encoders.paper import NOTE, SEVEN
from embedcache.errors import UnknownNameError
from embedcache.testing.stored_features import MadeCohort, put_cohort, put_features


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["encoders", *words])


def test_a_pipe_gets_every_column() -> None:
    done = run("list")
    assert done.exit_code == 0, done.output
    head = done.stdout.splitlines()[2].split()
    assert head == [
        *("encoder", "dim", "input", "params", "overlap", "weights"),
        *("licence", "domain", "citation"),
    ]
    usfm = next(line for line in done.stdout.splitlines() if line.split()[:1] == ["usfm"])
    assert "CC-BY-NC-4.0" in usfm
    assert "unknown" in usfm
    assert "unknown: which is no “no”" in done.stdout


@pytest.mark.parametrize("columns", [60, 80, 120, 250])
def test_a_terminal_gets_the_columns_that_fit(columns: int, monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    list_encoders()
    plain = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    table = plain.partition("overlap: ")[0].splitlines()
    assert max(len(line.rstrip()) for line in table) <= columns
    named = [line.split()[0] for line in table[4:] if line.strip()]
    assert set(SEVEN) <= set(named), "no row is folded into two"
    assert ("weights" in table[2]) == (columns >= 80)
    assert ("citation" in table[2]) == (columns == 250)


def test_the_list_says_what_the_paper_leaves_open() -> None:
    assert NOTE in run("list").stdout
    found = json.loads(run("list", "--json").stdout)
    assert found["paper"] == {"encoders": list(SEVEN), "note": NOTE}


def test_json_holds_all_that_the_table_leaves_out() -> None:
    found = json.loads(run("list", "--json").stdout)
    (mae,) = [one for one in found["encoders"] if one["name"] == "usf-mae"]
    assert mae["overlap"][0]["answer"] == "yes"
    assert mae["overlap"][0]["source"]
    assert mae["weights"]["state"] in {"here", "missing"}
    assert found["broken"] == []


def test_show_prints_contract_variants_overlap_and_source() -> None:
    done = run("show", "fetalclip")
    assert done.exit_code == 0, done.output
    for word in (
        "pad-square",
        "0.48145466, 0.4578275, 0.40821073",
        "@centre-crop",
        "numansaeed/fetalclip-model",
        "90916caa408baf9374ee3f8c1533463331a4ace37a13e61385e782905b35c310",
        "saw fetal-planes-db",
        "(read 2026-11-24)",
        "CC-BY-NC-4.0",
        "303,966,208",
    ):
        assert word in done.stdout, word


def test_show_on_a_terminal_cuts_nothing_short(monkeypatch, capsys) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")
    show("fetalclip")
    shown = capsys.readouterr().out
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert "…" not in shown
    joined = "".join(line.strip() for line in shown.splitlines())
    assert "90916caa408baf9374ee3f8c1533463331a4ace37a13e61385e782905b35c310" in joined


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("fetalclip", "yes: prompts of at most 117 tokens"),
        ("fetalclip@pre-proj", "no: prompts meet its images after cls-layer-norm-projected"),
        ("mobile-fetalclip", "no: "),
        ("usfm", "no: it is no image-text model"),
        ("pixels", "no: it is no image-text model"),
    ],
)
def test_show_says_whether_prompts_meet_an_encoder_and_if_not_why(name: str, said: str) -> None:
    assert json.loads(run("show", name, "--json").stdout)["zero_shot"].startswith(said)


def test_show_marks_weights_that_nobody_trained() -> None:
    assert "RANDOM WEIGHTS" in run("show", "usfm=random").stdout
    assert "RANDOM WEIGHTS" not in run("show", "usfm").stdout


def test_show_says_that_unknown_is_not_no() -> None:
    assert "unknown is not no" in run("show", "usfm").stdout.replace("\n", " ")


def test_show_as_json_is_the_contract_that_is_hashed() -> None:
    from embedcache.contract import Contract
    from embedcache.schema import from_plain

    found = json.loads(run("show", "efficientnet-lite0", "--json").stdout)
    assert from_plain(Contract, found["contract"], "show").feature_id == found["feature_id"]


def test_an_unknown_name_is_refused_with_close_ones() -> None:
    done = run("show", "fetal-clip")
    assert isinstance(done.exception, UnknownNameError)
    assert "fetalclip" in str(done.exception)


def test_a_probe_takes_the_paper_s_seven_for_their_names(tmp_path: Path) -> None:
    words = [f"i{k}" for k in range(24)]
    home = MadeCohort(
        name="home",
        classes=("a", "b"),
        image=words,
        label=["ab"[k % 2] for k in range(24)],
        patient=[f"p{k}" for k in range(24)],
    )
    put_cohort(tmp_path / "s.zarr", home)
    for name in (*SEVEN, "pixels"):
        vectors = {word: [float(k % 2), float(k)] for k, word in enumerate(words)}
        put_features(tmp_path / "s.zarr", name, {w: _array(v) for w, v in vectors.items()})
    arguments = ("--train", "home", "--folds", "3", "--encoder", "@paper", "--dry-run", "--json")
    out = str(tmp_path / "results")
    done = CliRunner().invoke(app, ["probe", str(tmp_path / "s.zarr"), *arguments, "--out", out])
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)["missing"]) == set(SEVEN)
    assert NOTE in done.stderr


def _array(values: list[float]):
    import numpy as np

    return np.array(values, np.float32)
