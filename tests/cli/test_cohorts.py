"""`cohorts inspect` leads with what is wrong, and names nobody where text may be passed on."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.images.source import ImageFile


def run(*words: object) -> Result:
    return CliRunner().invoke(app, ["cohorts", "inspect", *map(str, words)])


def scene(seed: int) -> Image.Image:
    smooth = gaussian_filter(np.random.default_rng(seed).normal(size=(90, 120)), 3)
    return Image.fromarray(np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8))


@pytest.fixture
def clinic(tmp_path: Path) -> str:
    """A table cohort: Anna's image is Bert's too, Carl's is Bert's rescaled, one is missing."""
    scene(1).save(tmp_path / "anna.png")
    scene(1).save(tmp_path / "bert1.png")
    scene(2).save(tmp_path / "bert2.png")
    scene(2).resize((400, 200)).save(tmp_path / "carl.jpg")
    rows = [
        ("image", "label", "patient"),
        ("anna.png", "head", "Anna"),
        ("bert1.png", "head", "Bert"),
        ("bert2.png", "femur", "Bert"),
        ("carl.jpg", "femur", "Carl"),
        ("dora.png", "femur", "Dora"),
    ]
    with (tmp_path / "clinic.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return f"clinic=table:{tmp_path / 'clinic.csv'}"


def digest(folder: Path, name: str) -> str:
    return ImageFile(folder / name).read().digest.hex()


def test_what_is_wrong_comes_first_in_sentences(clinic: str) -> None:
    done = run(clinic)
    assert done.exit_code == 0, done.output
    said = done.stdout.splitlines()
    assert said[1] == "What to know before you go on"
    unusable, copies, near = said[2:5]
    assert unusable == (
        "  * clinic: 1 row has an image that cannot be used, of 5; its reasons stand below."
    )
    assert copies == (
        "  * clinic: 1 pair of byte-identical images lies under two patients: "
        "these patients will be one patient cluster."
    )
    assert near == (
        "  * clinic: 1 pair of near-duplicates lies under two patients; "
        "--links FILE and `probe --links FILE` make each pair one patient cluster."
    )
    assert done.stdout.index("What to know") < done.stdout.index("clinic: classes")


def test_clean_cohorts_are_called_clean(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("two", 2)):
        scene(seed).save(tmp_path / f"{name}.png")
    table = tmp_path / "clean.csv"
    table.write_text("image,label,patient\none.png,a,1\ntwo.png,b,2\n")
    done = run(f"table:{table}")
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines()[1] == "Nothing wrong was found."


def test_in_a_pipe_no_file_or_patient_is_named(clinic: str, tmp_path: Path) -> None:
    for words in ((clinic,), (clinic, "--json")):
        text = run(*words).output
        assert "clinic" in text
        for name in ("anna", "bert", "carl", "dora", str(tmp_path)):
            assert name not in text.casefold()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminal to look through")
def test_at_a_terminal_the_owner_sees_which_files(clinic: str) -> None:
    controller, terminal = os.openpty()
    words = [sys.executable, "-m", "embedcache", "cohorts", "inspect", clinic]
    # Wide enough for a pair on one line, whatever terminal the tests run in.
    wide = {**os.environ, "COLUMNS": "120", "TERM": "dumb"}
    text = b""
    with subprocess.Popen(words, stdout=terminal, stderr=subprocess.DEVNULL, env=wide) as command:
        os.close(terminal)
        # Linux ends a terminal that nobody writes to with EIO, macOS with nothing more to read.
        with contextlib.suppress(OSError):
            while part := os.read(controller, 1 << 16):
                text += part
    os.close(controller)
    assert command.returncode == 0
    lines = text.decode().splitlines()
    assert any("the file is missing" in line and "dora.png" in line for line in lines)
    pair = ("clinic: bert2.png", "clinic: carl.jpg", "femur")
    assert any(all(word in line for word in pair) for line in lines)


def test_json_is_the_inspection_alone(clinic: str, tmp_path: Path) -> None:
    content = json.loads(run(clinic, "--json").stdout)
    (near,) = content["near_pairs"]
    both = sorted(digest(tmp_path, name) for name in ("bert2.png", "carl.jpg"))
    assert [near["pair"]["first"], near["pair"]["second"]] == both
    assert content["cohorts"][0]["across_patients"] == {"groups": 1, "rows": 2}
    assert content["cohorts"][0]["unreadable"] == {"the file is missing": [4]}


def test_links_are_two_digests_a_row(clinic: str, tmp_path: Path) -> None:
    links = tmp_path / "links.csv"
    done = run(clinic, "--links", links)
    assert done.exit_code == 0, done.output
    both = sorted(digest(tmp_path, name) for name in ("bert2.png", "carl.jpg"))
    assert links.read_text().splitlines() == ["first,second", ",".join(both)]
    assert f"1 pair written; give it to a probe: --links {links}" in done.stderr


def test_a_file_of_links_is_not_overwritten(clinic: str, tmp_path: Path) -> None:
    links = tmp_path / "links.csv"
    links.write_text("mine")
    words = ["-m", "embedcache", "cohorts", "inspect", clinic, "--links", str(links)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the file of links ")
    assert "exists already; delete it or choose another name" in done.stderr
    assert links.read_text() == "mine"


def test_help_explains_itself() -> None:
    done = CliRunner().invoke(app, ["cohorts", "inspect", "--help"])
    assert done.exit_code == 0
    assert "Example: embedcache cohorts inspect" in " ".join(done.stdout.split())
