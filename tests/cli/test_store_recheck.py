"""`embedcache store verify` with the images at hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from embedcache.cli import app


@pytest.fixture
def cohort(tmp_path: Path) -> str:
    draw = np.random.default_rng(0)
    for row in range(12):
        folder = tmp_path / "images" / ("brain" if row % 2 else "femur")
        folder.mkdir(parents=True, exist_ok=True)
        pixels = draw.integers(1, 256, (20, 20), np.uint8)
        Image.fromarray(pixels).save(folder / f"p{row // 3}_{row}.png")
    file = tmp_path / "home.toml"
    file.write_text(
        f'kind = "folder"\nplace = "{tmp_path / "images"}"\npatterns.patient = "(p[0-9]+)_"\n'
    )
    return str(file)


@pytest.fixture
def store(cohort: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EMBEDCACHE_KEY", "5e" * 32)
    place = str(tmp_path / "a.zarr")
    command = ["extract", place, "--cohort", cohort, "--encoder", "pixels"]
    assert CliRunner().invoke(app, command).exit_code == 0
    return place


def verify(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["store", "verify", *words])
    return done.exit_code, done.stdout


def test_images_and_recomputed_rows_that_agree_are_said_to(store: str, cohort: str) -> None:
    code, said = verify(store, "--images", cohort, "--recompute", "5", "--seed", "1")
    assert code == 0
    assert "Complete, origin unproven" in said
    assert "images of home: 12 hashed again, 0 unreadable, 0 not in the store, 0 of" in said
    assert "features of pixels: 5 encoded again, all within" in said


def test_a_changed_image_ends_in_code_1_and_its_row(store: str, cohort: str, tmp_path) -> None:
    file = tmp_path / "images/brain/p0_1.png"
    Image.open(file).rotate(90).save(file)
    code, said = verify(store, "--images", cohort, "--json")
    assert code == 1
    (found,) = json.loads(said)["rechecked"]["cohorts"]
    assert len(found["strange"]) == len(found["gone"]) == 1


def test_recomputing_needs_images(store: str) -> None:
    done = CliRunner().invoke(app, ["store", "verify", store, "--recompute", "5"])
    assert done.exit_code != 0
    assert "--recompute needs --images COHORT" in str(done.exception) + done.output
