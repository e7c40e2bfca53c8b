"""metrics.csv says what scikit-learn says of the same rows, for every estimand and class rule."""

from __future__ import annotations

import dataclasses
import random as shuffling
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcache.contract import Contract, Preprocessing
from embedcache.errors import ClashingUnitsError, NothingToEvaluateError
from embedcache.evaluation.evaluate import evaluate
from embedcache.evaluation.foreign import evaluate_table
from embedcache.progress import Silent
from embedcache.protocol.folds import Folds
from embedcache.protocol.protocol import Protocol
from embedcache.provenance import provenance
from embedcache.results.folds_file import write_folds
from embedcache.results.layout import ResultsFolder, write_record
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import write_predictions
from embedcache.results.record import CohortRecord, Maker, Record
from embedcache.results.rows_file import read_metrics
from embedcache.results.tables import MetricRow

reference = pytest.importorskip("sklearn.metrics")

CLASSES = ("brain", "femur", "thorax")
Rows = list[dict[str, Any]]
Simulate = Callable[..., Rows]
Write = Callable[..., Path]


class Notes(Silent):
    """Keeps what a verb says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


def one(rows: tuple[MetricRow, ...], **wanted: object) -> MetricRow:
    wanted = {"class_": "", "stratum": "", "encoder": "a", "level": "image"} | wanted
    (found,) = [r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())]
    return found


def arrays(rows: Rows, **wanted: object) -> tuple[np.ndarray, np.ndarray]:
    chosen = [r for r in rows if all(r[k] == v for k, v in wanted.items())]
    label = np.array([CLASSES.index(r["label"]) for r in chosen])
    return label, np.array([[r[f"probability:{name}"] for name in CLASSES] for r in chosen])


def macro_f1(label: np.ndarray, predicted: np.ndarray) -> float:
    return float(reference.f1_score(label, predicted, labels=np.unique(label), average="macro"))


def test_out_of_fold_rows_are_pooled(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate()
    rows = evaluate_table(write_table(table), tmp_path / "results")
    label, probability = arrays(table, encoder="a")
    home = {"estimand": "oof", "class_rule": "restricted"}
    predicted = probability.argmax(axis=1)
    assert one(rows, metric="macro-f1", **home).value == pytest.approx(macro_f1(label, predicted))
    assert one(rows, metric="auroc", **home).value == pytest.approx(
        reference.roc_auc_score(label, probability, multi_class="ovr", average="macro")
    )
    assert one(rows, metric="log-loss", **home).value == pytest.approx(
        reference.log_loss(label, probability)
    )
    assert one(rows, metric="sensitivity", class_="femur", **home).value == pytest.approx(
        reference.recall_score(label, predicted, labels=[1], average="macro")
    )
    assert one(rows, metric="precision", class_="thorax", **home).value == pytest.approx(
        reference.precision_score(label, predicted, labels=[2], average="macro")
    )
    assert one(rows, metric="macro-f1", **home).clusters == 15
    assert one(rows, metric="macro-f1", **home).images == 45
    assert one(rows, metric="macro-f1", **home).df == 15 - 2  # patients minus sites


def test_metrics_csv_holds_what_is_returned(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    rows = evaluate_table(write_table(simulate()), tmp_path / "results")
    assert read_metrics(ResultsFolder(tmp_path / "results")) == rows
    assert evaluate(tmp_path / "results") == rows


def test_only_in_domain_rows_carry_training_variance(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate() + simulate(cohort="africa", folds=range(3), seed=1)
    rows = evaluate_table(write_table(table), tmp_path / "results")
    assert one(rows, estimand="oof", metric="macro-f1").low_train is not None
    assert all(row.low_train is None for row in rows if row.estimand != "oof")


def test_abroad_counts_are_summed_and_scores_averaged_over_the_fold_models(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(cohort="africa", folds=(0, 1, 2))
    rows = evaluate_table(write_table(table), tmp_path / "results")
    models = [arrays(table, encoder="a", fold=fold) for fold in range(3)]
    label = np.concatenate([part[0] for part in models])
    predicted = np.concatenate([part[1].argmax(axis=1) for part in models])
    abroad = {"estimand": "external-folds"}
    assert one(rows, metric="macro-f1", **abroad).value == pytest.approx(macro_f1(label, predicted))
    assert one(rows, metric="macro-f1", **abroad).images == 45
    assert one(rows, metric="auroc", **abroad).value == pytest.approx(
        np.mean([reference.roc_auc_score(y, p, multi_class="ovr") for y, p in models])
    )
    mean = np.mean([p for _, p in models], axis=0)
    ensemble = one(rows, metric="macro-f1", estimand="external-ensemble")
    assert ensemble.value == pytest.approx(macro_f1(models[0][0], mean.argmax(axis=1)))
    assert not any(row.estimand in {"oof", "external-refit"} for row in rows)


def test_without_fold_one_model_is_judged(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(cohort="africa", folds=(None,))
    rows = evaluate_table(write_table(table), tmp_path / "results")
    assert {row.estimand for row in rows} == {"external-refit"}
    label, probability = arrays(table, encoder="b")
    assert one(rows, encoder="b", metric="macro-f1").value == pytest.approx(
        macro_f1(label, probability.argmax(axis=1))
    )


def test_classes_that_a_cohort_lacks_are_taken_away_or_count_as_errors(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(cohort="africa", folds=(None,), true=2)
    rows = evaluate_table(write_table(table), tmp_path / "results")
    label, probability = arrays(table, encoder="a")
    assert (probability.argmax(axis=1) == 2).any()  # else both rules agree
    as_is = one(rows, metric="macro-f1", class_rule="as-is")
    assert as_is.value == pytest.approx(macro_f1(label, probability.argmax(axis=1)))
    kept = probability[:, :2] / probability[:, :2].sum(axis=1, keepdims=True)
    restricted = one(rows, metric="macro-f1", class_rule="restricted")
    assert restricted.value == pytest.approx(macro_f1(label, kept.argmax(axis=1)))
    assert one(rows, metric="log-loss", class_rule="restricted").value == pytest.approx(
        reference.log_loss(label, kept)
    )
    assert {row.class_ for row in rows} == {"", "brain", "femur"}


def test_where_every_class_occurs_there_is_one_rule(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    rows = evaluate_table(write_table(simulate()), tmp_path / "results")
    assert {row.class_rule for row in rows} == {"restricted"}


def test_a_site_has_its_own_class_set(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [
        row
        for row in simulate(encoders=("a",), patients=30, images=90)
        if row["stratum:site"] == "north" or row["label"] != "thorax"
    ]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    label, probability = arrays(table, **{"stratum:site": "south"})
    predicted = probability.argmax(axis=1)
    assert (predicted == 2).any()  # a stray prediction of a class that this site lacks
    south = one(rows, metric="macro-f1", stratum="site=south")
    assert south.value == pytest.approx(macro_f1(label, predicted))
    assert south.value != pytest.approx(reference.f1_score(label, predicted, average="macro"))
    assert {r.class_ for r in rows if r.stratum == "site=south"} == {"", "brain", "femur"}


def test_row_order_patient_names_and_encoder_order_change_nothing(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate() + simulate(cohort="africa", folds=range(2))
    first = evaluate_table(write_table(table), tmp_path / "first")
    renamed = [row | {"patient": str(row["patient"])[::-1]} for row in table]
    shuffling.Random(1).shuffle(renamed)
    # Cohorts stand in the order of the table: the home cohort first, as before.
    renamed.sort(key=lambda row: row["cohort"] != "spain")
    second = evaluate_table(write_table(renamed, name="shuffled.csv"), tmp_path / "second")
    assert second == first


def test_a_class_of_few_patients_is_warned_of_and_one_of_a_single_patient_has_no_interval(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(encoders=("a",), patients=40, images=120)
    rare = [r for r in table if r["label"] != "thorax" or r["patient"] in {"p2", "p5", "p8"}]
    rows = evaluate_table(write_table(rare), tmp_path / "few")
    assert "thorax: 3 patient clusters" in one(rows, metric="macro-f1").note
    assert one(rows, metric="sensitivity", class_="brain").note == ""
    # Three patients have the class: at most three of them decide its sensitivity.
    assert one(rows, metric="sensitivity", class_="thorax").clusters == 3
    assert (one(rows, metric="sensitivity", class_="thorax").df or 2) <= 2
    single = [r for r in table if r["label"] != "thorax" or r["patient"] == "p2"]
    rows = evaluate_table(write_table(single, name="single.csv"), tmp_path / "single")
    row = one(rows, metric="macro-f1")
    assert (row.low, row.high, row.method) == (None, None, "not estimable")
    assert "thorax: 1 patient cluster" in row.note
    assert row.value is not None


def test_patients_in_two_folds_are_said_to_flatter(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [row | {"fold": i % 5} for i, row in enumerate(simulate(encoders=("a",), patients=4))]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    assert all(row.note.startswith("too good: 4 patients have images in two folds") for row in rows)


def maker(encoder: str, weights: str = "none") -> Maker:
    contract = Contract(
        architecture=encoder,
        code="1",
        weights=weights,
        preprocessing=Preprocessing(height=2, width=2, mean=(0.5,), std=(0.5,)),
        pooling="mean",
        dim=4,
    )
    return Maker(encoder=encoder, arm="linear-probe", feature_id="0" * 16, contract=contract)


def part(
    name: str, encoder: str, rows: np.ndarray, fold: int, weights: str = "none"
) -> Predictions:
    image = np.zeros((30, 32), np.uint8)
    image[:, 0], image[:, 1] = np.arange(30), name == "africa"
    probability = np.random.default_rng(fold + 9).dirichlet([1, 1], 30)[rows]
    return Predictions(
        maker=maker(encoder, weights),
        cohort=name,
        classes=("brain", "femur"),
        image=image[rows],
        label=(np.arange(30) % 2).astype(np.int16)[rows],
        cluster=(np.arange(30) // 3)[rows],
        predicted=probability.argmax(axis=1).astype(np.int16),
        probability=probability,
        fold=np.full(len(rows), fold, np.int8),
        strata={},
    )


def results_of(path: Path, *, synthetic: bool = False) -> ResultsFolder:
    """A folder as probe begins it: protocol, and three folds over thirty images."""
    folder = ResultsFolder(path)
    cohort = CohortRecord(
        name="spain",
        reader="folder",
        citation="",
        licence="",
        synthetic=synthetic,
        rows=30,
        images=30,
        patients=10,
        clusters=10,
        strata=(),
        left_out={},
    )
    everyone = part("spain", "a", np.arange(30), 0)
    folds = Folds(
        image=everyone.image,
        label=everyone.label,
        cluster=everyone.cluster,
        fold=(everyone.cluster % 3).astype(np.int8)[:, None],
        strata={},
    )
    record = Record(
        protocol=Protocol(train="spain", external=("africa",), folds=3),
        classes=everyone.classes,
        folds_sha256=folds.sha256,
        cohorts=(cohort, dataclasses.replace(cohort, name="africa")),
        provenance=provenance(),
    )
    write_record(folder, record)
    write_folds(folder, folds)
    return folder


def add(folder: ResultsFolder, encoder: str, folds: tuple[int, ...], weights: str = "none") -> None:
    """Write the units of some folds; -1 is the refit, which predicts abroad only."""
    for fold in folds:
        parts = [part("africa", encoder, np.arange(30), fold, weights)]
        if fold >= 0:
            tested = np.flatnonzero((np.arange(30) // 3) % 3 == fold)
            parts.append(part("spain", encoder, tested, fold, weights))
        write_predictions(folder.predictions_of("linear-probe", encoder) / f"{fold}.parquet", parts)


def test_all_estimands_of_a_probe_are_found(tmp_path: Path) -> None:
    folder = results_of(tmp_path)
    add(folder, "a", (0, 1, 2, -1))
    rows = evaluate(tmp_path)
    assert {(row.cohort, row.estimand) for row in rows} == {
        ("spain", "oof"),
        ("africa", "external-folds"),
        ("africa", "external-refit"),
        ("africa", "external-ensemble"),
    }


def test_an_encoder_that_a_kill_left_short_is_left_out_and_named(tmp_path: Path) -> None:
    folder = results_of(tmp_path)
    add(folder, "a", (0, 1, 2, -1))
    add(folder, "b", (0, 2))
    notes = Notes()
    rows = evaluate(tmp_path, notes)
    assert {row.encoder for row in rows} == {"a"}
    (line,) = notes.lines
    assert line.startswith(
        "b (linear-probe) is left out, it lacks fold 1 of spain, fold 1 of africa, "
        "the refit on africa; run the command that made it again"
    )


def test_with_nothing_complete_there_is_nothing_to_evaluate(tmp_path: Path) -> None:
    folder = results_of(tmp_path)
    with pytest.raises(NothingToEvaluateError):
        evaluate(tmp_path)
    add(folder, "b", (0, 1, 2))
    with pytest.raises(NothingToEvaluateError, match="the refit on africa"):
        evaluate(tmp_path)


def test_two_units_of_one_fold_are_refused(tmp_path: Path) -> None:
    folder = results_of(tmp_path)
    add(folder, "a", (0, 1, 2, -1))
    again = part("spain", "a", np.flatnonzero((np.arange(30) // 3) % 3 == 1), 1)
    write_predictions(folder.predictions_of("linear-probe", "a") / "again.parquet", (again,))
    with pytest.raises(ClashingUnitsError, match="9 images of spain in fold 1"):
        evaluate(tmp_path)


def test_random_weights_and_synthetic_cohorts_are_marked_in_every_row(tmp_path: Path) -> None:
    folder = results_of(tmp_path, synthetic=True)
    add(folder, "a", (0, 1, 2, -1))
    add(folder, "r", (0, 1, 2, -1), weights="random:0")
    rows = evaluate(tmp_path)
    assert all("SYNTHETIC" in row.note for row in rows)
    assert all(("RANDOM WEIGHTS" in row.note) == (row.encoder == "r") for row in rows)


def test_a_class_that_is_always_right_is_bounded_by_its_own_patients(
    write_table: Write, tmp_path: Path
) -> None:
    # Of 60 patients three have the rare class, and all three are right. Counting all 60 would
    # bound its sensitivity at .025^(1/60) = .94; simulated, that covers .9 in half of all studies.
    table = [
        {
            "image": i,
            "patient": i,
            "label": "rare" if i < 3 else "common",
            "predicted": "rare" if i < 4 else "common",
        }
        for i in range(60)
    ]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    row = one(rows, encoder="predictions", metric="sensitivity", class_="rare")
    assert (row.value, row.method, row.images, row.clusters) == (1.0, "exact-cluster", 3, 3)
    assert row.low == pytest.approx(0.025 ** (1 / 3), rel=1e-12)
    precision = one(rows, encoder="predictions", metric="precision", class_="rare")
    assert (precision.value, precision.df) == (0.75, 3)  # four patients are predicted as it
