"""Patients in place of images, bins of confidence, and AUROC within folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcache.evaluation.foreign import evaluate_table
from embedcache.results.layout import ResultsFolder
from embedcache.results.rows_file import read_reliability
from embedcache.results.tables import MetricRow

reference = pytest.importorskip("sklearn.metrics")

CLASSES = ("brain", "femur", "thorax")
Rows = list[dict[str, Any]]
Simulate = Callable[..., Rows]
Write = Callable[..., Path]


def one_label_a_patient(simulate: Simulate, **settings: Any) -> Rows:
    rows = simulate(**settings)
    return [row | {"label": CLASSES[int(row["patient"][1:]) % 3]} for row in rows]


def averaged(rows: Rows) -> Rows:
    """One row a patient, encoder and fold model: the mean of its images' probabilities."""
    groups: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        groups.setdefault((row["encoder"], row["patient"], row["fold"]), []).append(row)
    return [
        members[0]
        | {
            f"probability:{name}": float(np.mean([m[f"probability:{name}"] for m in members]))
            for name in CLASSES
        }
        for members in groups.values()
    ]


@pytest.mark.parametrize("folds", [(), (0, 1, 2)], ids=["home", "abroad"])
def test_the_patient_level_is_a_table_of_averaged_patients(
    folds: tuple[int, ...], simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = one_label_a_patient(simulate, folds=folds)
    rows = evaluate_table(write_table(table), tmp_path / "images")
    patients = [dataclasses.replace(row, level="image") for row in rows if row.level == "patient"]
    other = evaluate_table(write_table(averaged(table), name="p.csv"), tmp_path / "patients")
    expected = [row for row in other if row.level == "image" and not row.stratum]
    assert len(patients) == len(expected)

    def numbers(row: MetricRow) -> tuple[float, ...]:
        cells = (row.value, row.low, row.high, row.df, row.images, row.clusters)
        return tuple(np.nan if cell is None else float(cell) for cell in cells)

    # Percentiles differ: clusters are numbered by their smallest digest, which averaging changes.
    for found, wanted in zip(patients, expected, strict=True):
        assert (found.metric, found.class_) == (wanted.metric, wanted.class_)
        np.testing.assert_allclose(numbers(found), numbers(wanted), atol=1e-9)


def test_where_patients_have_several_classes_a_row_says_so(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    rows = evaluate_table(write_table(simulate()), tmp_path / "results")
    (row,) = [r for r in rows if r.level == "patient" and r.encoder == "a"]
    assert (row.value, row.low, row.method) == (None, None, "not estimable")
    mixed = {
        p["patient"]
        for p in simulate()
        if len({q["label"] for q in simulate() if q["patient"] == p["patient"]}) > 1
    }
    assert row.note == f"{len(mixed)} of 15 patients have images of several classes"


def test_predictions_without_probabilities_have_no_patient_level(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [
        {k: v for k, v in row.items() if not k.startswith("prob")} | {"predicted": "brain"}
        for row in one_label_a_patient(simulate, encoders=("a",))
    ]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    (row,) = [r for r in rows if r.level == "patient"]
    assert "these predictions have none" in row.note


def test_bins_hold_every_prediction_once_and_average_to_the_accuracy(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(folds=(0, 1), encoders=("a",), patients=40, images=120)
    evaluate_table(write_table(table), tmp_path / "results")
    bins = [
        row
        for row in read_reliability(ResultsFolder(tmp_path / "results"))
        if row.estimand == "external-folds"
    ]
    assert [row.bin for row in bins] == list(range(15))
    assert sum(row.predictions for row in bins) == 240
    assert {row.predictions for row in bins} == {16}
    scores = np.array([[row[f"probability:{name}"] for name in CLASSES] for row in table])
    label = np.array([CLASSES.index(row["label"]) for row in table])
    order = np.argsort(scores.max(axis=1))
    right = (scores.argmax(axis=1) == label)[order].reshape(15, 16)
    assert [row.accuracy for row in bins] == pytest.approx(right.mean(axis=1))
    confidence = scores.max(axis=1)[order].reshape(15, 16)
    assert [row.confidence for row in bins] == pytest.approx(confidence.mean(axis=1))
    for row in bins:
        assert row.low is None or row.low <= row.accuracy <= (row.high or 0)


def test_few_patients_have_their_auroc_within_folds_beside_the_pooled(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(encoders=("a",), patients=30, images=150)
    rows = evaluate_table(write_table(table), tmp_path / "results")
    notes = {r.metric: r.note for r in rows if not (r.class_ or r.stratum) and r.level == "image"}
    values = []
    for fold in range(5):
        part = [row for row in table if row["fold"] == fold]
        scores = np.array([[row[f"probability:{name}"] for name in CLASSES] for row in part])
        label = [CLASSES.index(row["label"]) for row in part]
        values.append(reference.roc_auc_score(label, scores, multi_class="ovr"))
    assert notes["auroc"] == f"mean within folds {np.mean(values):.4f}"
    assert notes["average-precision"].startswith("mean within folds 0.")
    assert notes["log-loss"] == ""
