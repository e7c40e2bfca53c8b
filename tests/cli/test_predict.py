"""`embedcache predict` writes a table, says what became of every row, and what comes next."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.errors import EmbedcacheError
from embedcache.probing.probe import probe
from embedcache.protocol.protocol import Protocol, Tuning
from embedcache.testing.stored_features import MadeCohort, put_cohort, put_features

CLASSES = ("brain", "femur")


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, words)])


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> tuple[Path, Path]:
    """A store with a training cohort and an unlabelled one, and results of the first."""
    folder = tmp_path_factory.mktemp("study")
    store, rng, vectors = folder / "store.zarr", np.random.default_rng(0), {}
    for name, patients in (("home", 12), ("ours", 3)):
        images = [f"{name}-{k}" for k in range(2 * patients)]
        label = [CLASSES[(k // 2) % 2] for k in range(2 * patients)]
        given = label if name == "home" else [None] * len(label)
        patient = [f"{name}-{k // 2}" for k in range(2 * patients)]
        put_cohort(
            store,
            MadeCohort(name=name, classes=CLASSES, image=images, label=given, patient=patient),
        )
        for image, word in zip(images, label, strict=True):
            vectors[image] = rng.standard_normal(3) + 3 * CLASSES.index(word)
    put_features(store, "pixels", vectors)
    protocol = Protocol(train="home", folds=3, tuning=Tuning(grid=(0.1, 1.0)))
    probe(store, protocol, out=folder / "results")
    return store, folder / "results"


def test_a_table_is_written_and_its_rows_accounted_for(study, tmp_path: Path) -> None:
    store, results = study
    out = tmp_path / "ours.csv"
    done = run(store, "--cohort", "ours", "--probe", results, "--encoder", "pixels", "-o", out)
    assert done.exit_code == 0, done.output
    assert out.read_text().count("\n") == 1 + 6
    assert "ours: 6 images predicted by pixels" in done.stderr
    assert "6 images have no label" in done.stderr
    assert done.stdout == f"{out}\n"


def test_json_tells_what_was_done(study, tmp_path: Path) -> None:
    store, results = study
    out = tmp_path / "ours.parquet"
    words = ("--cohort", "ours", "--probe", results, "--encoder", "pixels", "--out", out)
    told = json.loads(run(store, *words, "--json").stdout)
    assert (told["images"], told["labelled"], told["left_out"]) == (6, 0, {})


def test_a_missing_encoder_is_said_in_a_sentence(study, tmp_path: Path) -> None:
    store, results = study
    words = ("--cohort", "ours", "--probe", results, "--encoder", "best")
    done = run(store, *words, "--out", tmp_path / "x.csv")
    assert isinstance(done.exception, EmbedcacheError)
    assert "pixels" in str(done.exception)
