"""Paired differences: interval, cluster-swap p and Holm, against enumeration and by hand."""

from __future__ import annotations

import itertools
import math
import random as shuffling
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcache.errors import (
    DifferentFoldsError,
    DifferentImagesError,
    SameEncoderError,
    UnknownNameError,
)
from embedcache.evaluation.compare import compare
from embedcache.evaluation.evaluate import evaluate
from embedcache.evaluation.families import holm
from embedcache.evaluation.foreign import evaluate_table
from embedcache.progress import Silent
from embedcache.results.layout import ResultsFolder
from embedcache.results.rows_file import read_comparisons
from embedcache.results.tables import ComparisonRow

reference = pytest.importorskip("sklearn.metrics")


def pairs(*folders: Path, **options: Any) -> tuple[ComparisonRow, ...]:
    return tuple(row for row in compare(folders, **options) if row.kind == "pair")


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


def eight_patients(simulate: Simulate) -> Rows:
    return simulate(folds=(None,), patients=8, images=32, seed=0)


def columns(table: Rows, encoder: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chosen = [row for row in table if row["encoder"] == encoder]
    label = np.array([CLASSES.index(row["label"]) for row in chosen])
    patient = np.array([int(row["patient"][1:]) for row in chosen])
    scores = np.array([[row[f"probability:{name}"] for name in CLASSES] for row in chosen])
    return label, patient, scores


def macro_f1(label: np.ndarray, predicted: np.ndarray) -> float:
    """By definition, and faster than scikit-learn's for 256 exchanges."""
    hits = [np.sum((label == k) & (predicted == k)) for k in range(3)]
    sums = [np.sum(label == k) + np.sum(predicted == k) for k in range(3)]
    return float(np.mean([2 * hit / total for hit, total in zip(hits, sums, strict=True)]))


def monte_carlo(p: float) -> float:
    """Four standard deviations of a share of 10,000 draws."""
    return 4 * math.sqrt(p * (1 - p) / 10_000) + 1e-4


def mid_p(drawn: np.ndarray, observed: float) -> float:
    """Of all exchanges: those that change more, and half of those that change as much."""
    beyond = np.abs(drawn) > abs(observed) + 1e-12
    reached = np.abs(drawn) >= abs(observed) - 1e-12
    return float((beyond.mean() + reached.mean()) / 2)


def test_swap_p_is_that_of_all_exchanges_of_patients(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = eight_patients(simulate)
    evaluate_table(write_table(table), tmp_path / "results")
    (row,) = pairs(tmp_path / "results")
    label, patient, first = columns(table, "a")
    first, second = first.argmax(axis=1), columns(table, "b")[2].argmax(axis=1)
    observed = macro_f1(label, first) - macro_f1(label, second)
    assert row.value == pytest.approx(observed, abs=1e-12)
    drawn = []
    for signs in itertools.product([True, False], repeat=8):
        swapped = np.array(signs)[patient]
        one, other = np.where(swapped, second, first), np.where(swapped, first, second)
        drawn.append(macro_f1(label, one) - macro_f1(label, other))
    exact = mid_p(np.array(drawn), observed)
    assert 0.05 < exact < 0.95  # else the test shows little
    assert row.p == pytest.approx(exact, abs=monte_carlo(exact))


@pytest.mark.parametrize("metric", ["auroc", "log-loss"])
def test_score_p_is_that_of_all_signs_of_pseudo_values(
    metric: str, simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = eight_patients(simulate)
    evaluate_table(write_table(table), tmp_path / "results")
    (row,) = pairs(tmp_path / "results", metric=metric)
    label, patient, first = columns(table, "a")
    second = columns(table, "b")[2]

    def difference(rows: np.ndarray) -> float:
        if metric == "log-loss":
            values = [reference.log_loss(label[rows], p[rows]) for p in (first, second)]
        else:
            values = [
                reference.roc_auc_score(label[rows], p[rows], multi_class="ovr")
                for p in (first, second)
            ]
        return float(values[0] - values[1])

    delta = difference(np.ones(32, bool))
    without = np.array([difference(patient != c) for c in range(8)])
    z = delta / 8 + (without.mean() - without) * 7 / 8
    signs = np.array(list(itertools.product([1, -1], repeat=8)))
    exact = mid_p(signs @ z, delta)
    assert row.value == pytest.approx(delta, abs=1e-12)
    assert row.p == pytest.approx(exact, abs=monte_carlo(exact))


def test_the_interval_is_a_jackknife_of_the_difference(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = eight_patients(simulate)
    evaluate_table(write_table(table), tmp_path / "results")
    (row,) = pairs(tmp_path / "results", metric="accuracy")
    label, patient, first = columns(table, "a")
    right = (first.argmax(axis=1) == label).astype(float)
    right -= columns(table, "b")[2].argmax(axis=1) == label
    without = np.array([right[patient != c].mean() for c in range(8)])
    # Two sites of four patients each: (7/8)^2 * 4/3 * squares within sites; nu = 6.
    squares = sum(((w - w.mean()) ** 2).sum() for w in (without[0::2], without[1::2]))
    half = 2.446912 * 7 / 8 * math.sqrt(4 / 3 * squares)  # t_.975 of 6, printed tables
    assert row.df == 6
    assert row.low == pytest.approx(right.mean() - half, abs=1e-6)
    assert row.high == pytest.approx(right.mean() + half, abs=1e-6)


def test_an_encoder_is_not_told_apart_from_its_copy(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [row for row in simulate() if row["encoder"] == "a"]
    table += [row | {"encoder": "copy"} for row in table]
    evaluate_table(write_table(table), tmp_path / "results")
    for metric in ("macro-f1", "auroc"):
        (row,) = pairs(tmp_path / "results", metric=metric)
        assert (row.value, row.p, row.p_holm) == (0.0, 1.0, 1.0)
        assert (row.low, row.high, row.method) == (None, None, "not estimable")


def test_home_and_abroad_are_compared_by_their_headline(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(encoders="abc") + simulate(encoders="abc", cohort="africa", folds=range(3))
    table += simulate(encoders="abc", cohort="malawi", folds=(None,), seed=5)
    evaluate_table(write_table(table), tmp_path / "results")
    every = compare([tmp_path / "results"])
    rows = [row for row in every if row.kind == "pair"]
    names = [("a", "b"), ("a", "c"), ("b", "c")]
    assert [(r.cohort, r.estimand, r.encoder, r.other) for r in rows] == [
        (cohort, estimand, *pair)
        for cohort, estimand in (
            ("spain", "oof"),
            ("africa", "external-folds"),
            ("malawi", "external-refit"),
        )
        for pair in names
    ]
    assert read_comparisons(ResultsFolder(tmp_path / "results")) == every


def test_differences_are_those_of_the_metrics_table(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(cohort="africa", folds=range(3), true=2)
    evaluate_table(write_table(table), tmp_path / "results")
    values = {
        row.encoder: row.value
        for row in evaluate(tmp_path / "results")
        if (row.metric, row.class_, row.stratum, row.level) == ("macro-f1", "", "", "image")
        and (row.estimand, row.class_rule) == ("external-folds", "restricted")
    }
    (row,) = pairs(tmp_path / "results")
    assert row.class_rule == "restricted"
    assert row.value == pytest.approx((values["a"] or 0) - (values["b"] or 0), abs=1e-12)


def test_neither_row_order_nor_further_encoders_change_a_p(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate(encoders="abc")
    evaluate_table(write_table(table), tmp_path / "three")
    two = [row | {"patient": f"x{row['patient']}"} for row in table if row["encoder"] != "b"]
    shuffling.Random(0).shuffle(two)
    evaluate_table(write_table(two, name="two.csv"), tmp_path / "two")
    all_three = {(r.encoder, r.other): r for r in pairs(tmp_path / "three")}
    (row,) = pairs(tmp_path / "two")
    assert (row.value, row.low, row.p) == (
        all_three["a", "c"].value,
        all_three["a", "c"].low,
        all_three["a", "c"].p,
    )


def row_of(p: float | None, family: str = "f") -> ComparisonRow:
    return ComparisonRow(
        kind="pair",
        arm="knn",
        other_arm="knn",
        encoder="a",
        other="b",
        cohort="spain",
        estimand="oof",
        class_rule="restricted",
        metric="macro-f1",
        value=0.1,
        clusters=9,
        p=p,
        family=family,
    )


def test_holm_by_hand() -> None:
    # Sorted .01 .03 .04, times 3, 2, 1: .03, .06, .04; a running maximum makes the last .06.
    rows = [row_of(0.04), row_of(0.01), row_of(0.03), row_of(None), row_of(0.5, "other")]
    adjusted = [row.p_holm for row in holm([*rows, row_of(0.001, "")])]
    assert adjusted[:3] == pytest.approx([0.06, 0.03, 0.06])
    assert adjusted[3:] == [None, 0.5, None]


def test_holm_never_exceeds_one() -> None:
    assert [row.p_holm for row in holm([row_of(0.9), row_of(0.8)])] == [1.0, 1.0]


def test_pairs_across_arms_belong_to_no_family(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [row | {"arm": "knn"} for row in simulate()]
    table += [row | {"arm": "lora"} for row in simulate(encoders=("a",), seed=0)]
    evaluate_table(write_table(table), tmp_path / "results")
    rows = pairs(tmp_path / "results")
    families = {(r.arm, r.encoder, r.other_arm, r.other): r.family for r in rows}
    assert families == {
        ("knn", "a", "knn", "b"): "macro-f1 knn spain",
        ("knn", "a", "lora", "a"): "",
        ("knn", "b", "lora", "a"): "",
    }
    assert all((row.p_holm is None) == (row.family == "") for row in rows)


def test_one_encoder_has_no_pairs_and_that_is_said(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    evaluate_table(write_table(simulate(encoders=("a",))), tmp_path / "results")
    notes = Notes()
    assert compare([tmp_path / "results"], progress=notes) == ()
    assert notes.lines == ["there are no pairs: one encoder has nothing to be compared with"]
    assert read_comparisons(ResultsFolder(tmp_path / "results")) == ()


def test_encoders_without_probabilities_are_left_out_of_score_metrics_by_name(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = []
    for row in simulate():
        scores = {key: row.pop(key) for key in list(row) if key.startswith("probability:")}
        table.append(row | {"predicted": max(scores, key=scores.__getitem__).split(":")[1]})
    evaluate_table(write_table(table), tmp_path / "results")
    notes = Notes()
    assert compare([tmp_path / "results"], "auroc", notes) == ()
    assert notes.lines[0] == "a (imported) is left out: auroc needs probabilities"
    assert len(pairs(tmp_path / "results")) == 1


def test_several_folders_of_one_protocol_are_compared_and_left_as_they_are(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = simulate()
    evaluate_table(write_table(table), tmp_path / "both")
    for name in ("a", "b"):
        own = [row for row in table if row["encoder"] == name]
        evaluate_table(write_table(own, name=f"{name}.csv"), tmp_path / name)
    apart = compare([tmp_path / "a", tmp_path / "b"])
    assert apart == compare([tmp_path / "both"])
    assert not ResultsFolder(tmp_path / "a").comparisons_file.exists()


def test_folders_that_cannot_be_paired_are_refused(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    made = {
        "a": simulate(encoders=("a",)),
        "fewer": simulate(encoders=("b",))[:-1],
        "classes": simulate(encoders=("b",), classes=("brain", "cervix", "femur")),
    }
    for name, table in made.items():
        evaluate_table(write_table(table, name=f"{name}.csv"), tmp_path / name)
    with pytest.raises(DifferentImagesError):
        compare([tmp_path / "a", tmp_path / "fewer"])
    with pytest.raises(DifferentFoldsError, match="class lists"):
        compare([tmp_path / "a", tmp_path / "classes"])
    with pytest.raises(SameEncoderError, match=r"a \(imported\) lies in both"):
        compare([tmp_path / "a", tmp_path / "a"])


def test_folders_whose_folds_differ_are_refused(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        table = write_table(simulate(encoders=(name,)), name=f"{name}.csv")
        evaluate_table(table, tmp_path / name)
    record = tmp_path / "b" / "protocol.json"
    text = record.read_text()
    assert '"folds_sha256": ""' in text
    record.write_text(text.replace('"folds_sha256": ""', f'"folds_sha256": "{"0" * 64}"'))
    with pytest.raises(DifferentFoldsError, match="folds"):
        compare([tmp_path / "a", tmp_path / "b"])


def test_an_unknown_metric_is_refused_with_those_that_exist(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    evaluate_table(write_table(simulate()), tmp_path / "results")
    with pytest.raises(UnknownNameError, match="macro-f1"):
        compare([tmp_path / "results"], "f1-macro")
