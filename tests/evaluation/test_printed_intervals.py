"""What unequal patients weigh, where exact bounds take over, and which intervals are withheld."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from embedcache.evaluation.compare import compare
from embedcache.evaluation.foreign import evaluate_table
from embedcache.evaluation.intervals import Clusters, jackknife
from embedcache.evaluation.sample import LeftOut, leave_counts_out
from embedcache.evaluation.unequal import expected_class_variance, expected_variance
from embedcache.metrics import accuracy, f1, precision, sensitivity
from embedcache.results.tables import ComparisonRow, MetricRow

Write = Callable[..., Path]
Rows = list[dict[str, Any]]


def one_class(right: Sequence[int], images: Sequence[int]) -> np.ndarray:
    """Counts of patients, (C, 1, 2): so many right, the others taken for something else."""
    wrong = np.subtract(images, right)
    return np.stack([np.array(right), wrong], axis=1)[:, None].astype(float)


def test_images_that_err_alone_weigh_a_patient_by_their_number() -> None:
    # Half of each patient's images are right: no more alike than chance, so v = n.
    expected = expected_variance(one_class([1, 1, 2], [2, 2, 4]), models=1)
    np.testing.assert_allclose(expected, [2, 2, 4])


def test_images_that_err_together_weigh_a_patient_by_its_square() -> None:
    # Every patient is all right or all wrong: correlation 1, so v = n^2.
    expected = expected_variance(one_class([2, 0, 4], [2, 2, 4]), models=1)
    np.testing.assert_allclose(expected, [4, 4, 16])


def test_the_correlation_is_that_of_one_way_analysis_of_variance() -> None:
    # Four patients of two images, right 2, 2, 1, 0. Mean 5/8; between: 2 (9 + 9 + 1 + 25) / 64 / 3
    # = 11/24; within: one patient of 1/2, of 4 degrees: 1/8. (11/24 - 3/24) / (11/24 + 3/24) = 4/7.
    # v = n^2 (4/7 + 3/7 / n) = 4 (4/7 + 3/14) = 22/7.
    expected = expected_variance(one_class([2, 2, 1, 0], [2, 2, 2, 2]), models=1)
    np.testing.assert_allclose(expected, 22 / 7)


def test_a_patient_who_counts_once_is_better_known_the_more_images_it_has() -> None:
    # v = 1 (0 + 1 / n) where images err alone.
    counts = one_class([1, 1, 2], [2, 2, 4])
    expected = expected_variance(counts, models=1, unit="cluster")
    np.testing.assert_allclose(expected, [1 / 2, 1 / 2, 1 / 4])


@given(st.integers(2, 7), st.integers(0, 2**32 - 1))
def test_models_that_judge_an_image_do_not_make_it_several(models: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    images = random.integers(1, 6, 12)
    counts = one_class(random.binomial(images, 0.8).tolist(), images.tolist())
    np.testing.assert_allclose(
        expected_variance(models * counts, models=models), expected_variance(counts, models=1)
    )


def test_a_class_is_weighed_by_its_own_images() -> None:
    # Patient 0: one of class a, right; one of b, taken for a. Patient 1: two of a, right.
    # Patient 2: one of b, right. Each metric counts true, predicted, or either; each patient
    # with images counts.
    counts = np.array([[[1, 0], [1, 0]], [[2, 0], [0, 0]], [[0, 0], [0, 1]]], float)
    images = {
        sensitivity.METRIC: [[1, 1], [2, 0], [0, 1]],
        precision.METRIC: [[2, 0], [2, 0], [0, 1]],
        f1.METRIC: [[2, 1], [2, 0], [0, 1]],
    }
    for metric, expected in images.items():
        found = expected_class_variance(counts, metric, models=1)
        assert ((found > 0) == (np.array(expected) > 0)).all(), metric.name


def test_unequal_patients_give_the_degrees_of_freedom_that_they_are_worth() -> None:
    # (1 + 1 + 1 + 3)^2 / (1 + 1 + 1 + 9) = 3 of four, less one site.
    left = LeftOut(value=0.5, without=np.array([0.4, 0.5, 0.6, 0.5]))
    clusters = Clusters(site=np.zeros(4, np.int64), sites=("",), expected=np.array([1.0, 1, 1, 3]))
    found = jackknife(left, clusters, scale="identity", degrees="clusters")
    assert found.df == pytest.approx(2)


def test_near_the_end_the_bound_is_the_exact_one_of_independent_images() -> None:
    # 2,000 patients of one image, two of them wrong: nothing is clustered.
    counts = one_class([1] * 1998 + [0] * 2, [1] * 2000)
    left = leave_counts_out(accuracy.METRIC, counts)
    clusters = Clusters(site=np.zeros(2000, np.int64), sites=("",))
    found = jackknife(left, clusters, scale="logit", degrees="clusters")
    exact = binomtest(1998, 2000).proportion_ci(0.95, "exact")
    assert found.low == pytest.approx(exact.low, abs=2e-5)
    # Without the bound: logit(.999) - 1.961 / sqrt(2000 x .999 x .001), 0.9960.
    assert found.low > 0.9962


def rare(right: Sequence[Sequence[bool]], *, own: int = 3, patients: int = 60, **more: Any) -> Rows:
    """A table of patients with one image: `own` of them rare; encoders whose rare images are right.

    One in ten of the others is taken for the other common class.
    """
    rows = []
    for encoder, of_rare in zip("ab", right, strict=False):
        for i in range(patients):
            label = "rare" if i < own else ("x", "y")[i % 2]
            other = {"rare": "x", "x": "y", "y": "x"}[label]
            fine = of_rare[i] if i < own else (i + ord(encoder)) % 10 > 0
            image = f"{more.get('cohort', '')}{i}"
            said = label if fine else other
            rows.append(
                {"image": image, "patient": image, "label": label, "predicted": said}
                | {"encoder": encoder}
                | more
            )
    return rows


def metrics(rows: tuple[MetricRow, ...], **wanted: object) -> dict[str, MetricRow]:
    wanted = {"class_": "", "stratum": "", "encoder": "a", "level": "image"} | wanted
    return {r.metric: r for r in rows if all(getattr(r, k) == v for k, v in wanted.items())}


REASON = "rare: no error in 3 patient clusters, too few to say how it varies"


def test_a_mean_over_classes_is_withheld_where_a_rare_class_shows_no_error(
    write_table: Write, tmp_path: Path
) -> None:
    rows = metrics(evaluate_table(write_table(rare([[True] * 3])), tmp_path / "results"))
    for name in ("macro-f1", "balanced-accuracy", "patient-weighted-macro-f1"):
        row = rows[name]
        assert row.value is not None
        assert row.value < 1
        assert (row.low, row.high, row.pct_low, row.pct_high) == (None, None, None, None)
        assert row.method == "not estimable"
        assert REASON in row.note
        assert (row.images, row.clusters) == (60, 60)
    assert rows["accuracy"].low is not None
    assert rows["mcc"].low is not None


def test_an_error_of_the_rare_class_gives_the_interval_back(
    write_table: Write, tmp_path: Path
) -> None:
    table = rare([[True, True, False]])
    row = metrics(evaluate_table(write_table(table), tmp_path / "results"))["macro-f1"]
    assert row.low is not None
    assert "rare: 3 patient clusters" in row.note


@pytest.mark.parametrize(
    ("metric", "own", "patients", "printed"),
    [
        ("macro-f1", 11, 60, False),
        ("macro-f1", 12, 60, True),
        ("macro-f1", 9, 30, False),
        ("macro-f1", 10, 30, True),
        ("macro-f1", 6, 20, False),
        ("macro-f1", 7, 20, True),
        ("balanced-accuracy", 19, 60, False),
        ("balanced-accuracy", 20, 60, True),
        ("balanced-accuracy", 19, 90, False),
        ("balanced-accuracy", 20, 90, True),
    ],
)
def test_a_class_is_rare_below_so_many_patients_and_a_third(
    metric: str, own: int, patients: int, printed: bool, write_table: Write, tmp_path: Path
) -> None:
    table = rare([[True] * own], own=own, patients=patients)
    row = metrics(evaluate_table(write_table(table), tmp_path / "results"))[metric]
    assert (row.low is not None) == printed


def test_few_patients_who_all_have_all_classes_keep_their_interval(
    write_table: Write, tmp_path: Path
) -> None:
    table = [
        {"image": f"{i}{k}", "patient": i, "label": k, "predicted": "x" if i == 0 else k}
        for i, k in itertools.product(range(6), "xyz")
    ]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    assert metrics(rows, encoder="predictions")["macro-f1"].low is not None


def pair(table: Rows, write_table: Write, folder: Path) -> ComparisonRow:
    evaluate_table(write_table(table), folder)
    (row,) = [row for row in compare([folder], "macro-f1") if row.kind == "pair"]
    return row


def test_a_difference_is_withheld_where_neither_encoder_errs_in_the_rare_class(
    write_table: Write, tmp_path: Path
) -> None:
    row = pair(rare([[True] * 3] * 2), write_table, tmp_path / "results")
    assert (row.low, row.high, row.method) == (None, None, "not estimable")
    assert REASON in row.note
    # That there is no difference is tested all the same: it supposes nothing of the variance.
    assert row.p is not None


def test_a_difference_is_printed_where_one_encoder_errs_in_the_rare_class(
    write_table: Write, tmp_path: Path
) -> None:
    row = pair(rare([[True] * 3, [True, False, True]]), write_table, tmp_path / "results")
    assert row.low is not None


def test_a_gap_is_withheld_by_the_cohort_that_hides_the_rare_class(
    write_table: Write, tmp_path: Path
) -> None:
    home = [row | {"fold": i % 5} for i, row in enumerate(rare([[False] * 3], cohort="spain"))]
    abroad = [
        row | {"fold": fold} for row in rare([[True] * 3], cohort="africa") for fold in range(5)
    ]
    evaluate_table(write_table(home + abroad), tmp_path / "results")
    gaps = {row.metric: row for row in compare([tmp_path / "results"]) if row.kind == "gap"}
    for name in ("balanced-accuracy", "macro-f1", "macro-f1-reweighted"):
        assert gaps[name].value is not None
        assert gaps[name].low is None
        assert f"abroad: {REASON}" in gaps[name].note


def test_patients_are_withheld_as_images_are(write_table: Write, tmp_path: Path) -> None:
    table = [
        row
        | {
            f"probability:{name}": 0.8 if name == row["predicted"] else 0.1
            for name in ("rare", "x", "y")
        }
        for row in rare([[True] * 3])
    ]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    found = metrics(rows, level="patient")
    assert found["macro-f1"].low is None
    assert REASON in found["macro-f1"].note


@pytest.mark.parametrize(("own", "printed"), [(7, False), (8, True)])
def test_ranks_are_withheld_for_fewer_patients_whatever_they_show(
    own: int, printed: bool, write_table: Write, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    table = []
    for row in rare([[False, *[True] * (own - 1)]], own=own):
        score = random.uniform(0.2, 1, 3) + [
            row["predicted"] == name for name in ("rare", "x", "y")
        ]
        share = (score / score.sum()).tolist()
        names = [f"probability:{name}" for name in ("rare", "x", "y")]
        table.append(row | dict(zip(names, share, strict=True)))
    rows = metrics(evaluate_table(write_table(table), tmp_path / "results"))
    for name in ("auroc", "average-precision"):
        assert (rows[name].low is not None) == printed
        note = f"rare: in {own} patient clusters, too few for a mean of ranks over classes"
        assert (note in rows[name].note) != printed
    assert rows["macro-f1"].low is not None
    assert rows["log-loss"].low is not None
