"""`embedcache shift` prints what it measured, and where all of it lies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.testing.stored_features import MadeCohort, put_cohort, put_features


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["shift", *map(str, words)])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Cohorts `home` and `abroad` of twelve patients, encoders `one` and `other`."""
    path = tmp_path_factory.mktemp("study") / "store.zarr"
    rng, images = np.random.default_rng(0), []
    for name in ("home", "abroad"):
        own = [f"{name}-{k}" for k in range(24)]
        patient = [f"{name}-{k // 2}" for k in range(24)]
        label = [("brain", "femur")[k // 2 % 2] for k in range(24)]
        put_cohort(
            path,
            MadeCohort(
                name=name, classes=("brain", "femur"), image=own, label=label, patient=patient
            ),
        )
        images += own
    for name in ("one", "other"):
        put_features(path, name, {image: rng.standard_normal(3) for image in images})
    return path


def test_both_tables_are_printed_and_the_file_named(store: Path, tmp_path: Path) -> None:
    done = run(store, "--out", tmp_path / "results")
    assert done.exit_code == 0, done.output
    assert "abroad, home" in done.stdout
    assert "Agreement of encoders" in done.stdout
    assert str(tmp_path / "results" / "shift" / "shift.json") in done.stdout


def test_json_is_the_file(store: Path, tmp_path: Path) -> None:
    done = run(store, "--out", tmp_path / "results", "--encoder", "one,other", "--json")
    file = tmp_path / "results" / "shift" / "shift.json"
    assert json.loads(done.stdout) == json.loads(file.read_text())
