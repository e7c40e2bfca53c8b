"""`embedcache evaluate` prints a leaderboard that can be read and pasted."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from embedcache.cli import app
from embedcache.cli.leaderboard import print_results
from embedcache.errors import TableColumnError
from embedcache.results.tables import MetricRow


def write(file: Path, *, drop: str = "", patients: int = 20) -> Path:
    """Encoder `good` is right at home nine times in ten, `poor` six; both lose abroad."""
    random = np.random.default_rng(0)
    share = {"good": {"spain": 0.9, "africa": 0.8}, "poor": {"spain": 0.6, "africa": 0.5}}
    rows = []
    for encoder, places in share.items():
        for cohort, right in places.items():
            for image in range(100):
                for fold in [image % patients % 5] if cohort == "spain" else range(5):
                    label = image // patients % 2
                    predicted = label if random.random() < right else 1 - label
                    rows.append(
                        {
                            "image": f"{cohort}{image}",
                            "patient": image % patients,
                            "label": "ab"[label],
                            "predicted": "ab"[predicted],
                            "encoder": encoder,
                            "cohort": cohort,
                            "fold": fold,
                            "stratum:site": ["Ghana", "Malawi"][image % 2],
                        }
                    )
    for row in rows:
        row.pop(drop, None)
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_the_leaderboard_names_encoders_cohorts_intervals_and_files(tmp_path: Path) -> None:
    table = write(tmp_path / "predictions.csv")
    out = tmp_path / "results"
    done = CliRunner().invoke(app, ["evaluate", str(table), "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    header = next(line for line in lines if line.strip().startswith("encoder"))
    assert "spain, in-domain" in header
    assert "africa, external" in header
    first, second = (line for line in lines if re.search(r"\[0\.\d{3}, 0\.\d{3}\]", line))
    assert first.split()[0] == "good"  # best abroad stands first
    assert second.split()[0] == "poor"
    assert re.search(r"(Ghana|Malawi) 0\.\d{3} \(10 patients\)", first)
    assert str(out / "metrics.csv") in done.stdout
    assert (out / "metrics.csv").is_file()


def test_json_is_the_metrics_table(tmp_path: Path) -> None:
    table = write(tmp_path / "predictions.csv")
    done = CliRunner().invoke(app, ["evaluate", str(table), "-o", str(tmp_path / "r"), "--json"])
    found = json.loads(done.stdout)
    with (tmp_path / "r" / "metrics.csv").open(newline="") as text:
        kept = list(csv.DictReader(text))
    assert [row.keys() for row in found] == [row.keys() for row in kept]
    cells = [row["value"] for row in kept]
    assert [row["value"] for row in found] == [float(cell) if cell else None for cell in cells]


def test_a_results_folder_is_evaluated_where_it_is(tmp_path: Path) -> None:
    table, out = write(tmp_path / "predictions.csv"), tmp_path / "results"
    CliRunner().invoke(app, ["evaluate", str(table), "--out", str(out)])
    before = (out / "metrics.csv").read_bytes()
    (out / "metrics.csv").unlink()
    done = CliRunner().invoke(app, ["evaluate", str(out)])
    assert done.exit_code == 0, done.output
    assert (out / "metrics.csv").read_bytes() == before
    done = CliRunner().invoke(app, ["evaluate", str(out), "--out", str(tmp_path / "other")])
    assert done.exit_code == 2
    assert not (tmp_path / "other").exists()


def test_a_table_needs_a_place_for_its_results(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["evaluate", str(write(tmp_path / "predictions.csv"))])
    assert done.exit_code == 2
    assert "--out" in done.stderr


def test_a_missing_column_is_bad_input(tmp_path: Path) -> None:
    table = write(tmp_path / "predictions.csv", drop="label")
    done = CliRunner().invoke(app, ["evaluate", str(table), "--out", str(tmp_path / "results")])
    assert isinstance(done.exception, TableColumnError)
    assert done.exception.exit_code == 2
    assert not (tmp_path / "results").exists()


def test_what_has_no_interval_says_why(tmp_path: Path) -> None:
    table = write(tmp_path / "predictions.csv", patients=1)
    done = CliRunner().invoke(app, ["evaluate", str(table), "--out", str(tmp_path / "results")])
    assert "[no interval]" in done.stdout
    assert "no interval for good on spain: one patient cluster only" in done.stdout


def row(encoder: str, note: str) -> MetricRow:
    return MetricRow(
        arm="linear-probe",
        encoder=encoder,
        cohort="drawn",
        estimand="oof",
        class_rule="restricted",
        metric="macro-f1",
        value=0.5,
        low=0.4,
        high=0.6,
        images=10,
        clusters=5,
        note=note,
    )


def test_random_weights_and_synthetic_cohorts_are_named_in_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [row("pixels", "SYNTHETIC"), row("resnet", "RANDOM WEIGHTS; SYNTHETIC")]
    print_results(tmp_path, rows, as_json=False)
    printed = capsys.readouterr().out
    assert "resnet RANDOM WEIGHTS" in printed
    assert "pixels RANDOM WEIGHTS" not in printed
    assert "drawn, in-domain SYNTHETIC" in printed


def test_patients_on_both_sides_are_said_below_the_table(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    note = "too good: 3 patients have images in two folds, in training and in test"
    print_results(tmp_path, [row("pixels", note)], as_json=False)
    printed = capsys.readouterr().out
    assert f"in-domain: {note}" in printed
    assert "never on both sides" not in printed
