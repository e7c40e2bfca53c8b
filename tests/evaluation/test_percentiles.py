"""Draws of whole patients: what a naive loop over copies of rows gives, ties and all."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import registry
from embedcache.evaluation.draws import cluster_weights
from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.foreign import evaluate_table
from embedcache.evaluation.percentile import (
    Percentiles,
    draw_values,
    percentiles,
    plan_counts,
    plan_scores,
)
from embedcache.evaluation.sample import product, sample
from embedcache.metrics import f1, macro_f1
from embedcache.metrics.metric import CountMetric, ScoreMetric

reference = pytest.importorskip("sklearn.metrics")

Rows = list[dict[str, Any]]
COUNTS = ("macro-f1", "balanced-accuracy", "accuracy", "mcc", "patient-weighted-macro-f1")
SCORES = ("auroc", "average-precision", "log-loss", "brier", "overconfidence")


def study(seed: int, *, models: int = 1, decimals: int = 1) -> Evaluand:
    """60 images of 14 patients in two sites; scores of one decimal, so that ties abound."""
    random = np.random.default_rng(seed)
    cluster = np.concatenate([np.arange(14), random.integers(0, 14, 46)])
    label = random.permutation(np.arange(60) % 3)
    score = random.gamma(0.6, size=(models, 60, 4)) + 0.6 * np.eye(4)[label]
    score = np.round(score / score.sum(axis=-1, keepdims=True), decimals) + 1e-9
    probability = score / score.sum(axis=-1, keepdims=True)
    return Evaluand(
        arm="knn",
        encoder="a",
        cohort="spain",
        estimand="external-folds",
        class_rule="as-is",
        classes=("w", "x", "y", "z"),
        image=np.zeros((60, 32), np.uint8),
        label=label.astype(np.int16),
        cluster=cluster,
        site=np.array([f"s{c % 2}" for c in range(14)]),
        predicted=probability.argmax(axis=-1).astype(np.int16),
        probability=probability,
        folds=models,
        strata={},
    )


def naive(name: str, data: Evaluand, rows: np.ndarray) -> float:
    """One draw: its rows as copies, each patient's copy a patient of its own."""
    label, classes = data.label[rows], np.arange(3)
    if len(np.unique(label)) < 3 and name not in {"accuracy", "mcc", *SCORES[2:]}:
        return np.nan
    if name in SCORES:
        assert data.probability is not None
        return float(np.mean([_score(name, label, model[rows]) for model in data.probability]))
    predicted = data.predicted[:, rows].ravel()
    truth = np.tile(label, len(data.predicted))
    size = np.bincount(data.cluster)[data.cluster[rows]]
    weight = np.tile(1 / size if name.startswith("patient") else np.ones(len(rows)), data.folds)
    if name == "accuracy":
        return float(reference.accuracy_score(truth, predicted))
    if name == "mcc":
        return float(reference.matthews_corrcoef(truth, predicted))
    if name == "balanced-accuracy":
        return float(reference.recall_score(truth, predicted, labels=classes, average="macro"))
    return float(
        reference.f1_score(
            truth, predicted, labels=classes, average="macro", sample_weight=weight, zero_division=0
        )
    )


def _score(name: str, label: np.ndarray, p: np.ndarray) -> float:
    if name == "auroc":
        return float(np.mean([reference.roc_auc_score(label == k, p[:, k]) for k in range(3)]))
    if name == "average-precision":
        parts = [reference.average_precision_score(label == k, p[:, k]) for k in range(3)]
        return float(np.mean(parts))
    if name == "log-loss":
        return float(reference.log_loss(label, p, labels=np.arange(4)))
    if name == "brier":
        return float(((p - np.eye(4)[label]) ** 2).sum(axis=1).mean())
    return float(p.max(axis=1).mean() - (p.argmax(axis=1) == label).mean())


@pytest.mark.parametrize("models", [1, 2])
@pytest.mark.parametrize("name", [*COUNTS, *SCORES])
def test_a_draw_is_its_patients_rows_over_again(name: str, models: int) -> None:
    data = study(5, models=models)
    drawn = sample(data)
    metric: CountMetric | ScoreMetric = registry.load("metrics", name)
    if isinstance(metric, CountMetric):
        plan = plan_counts([metric], drawn.counts)
    else:
        assert drawn.probability is not None
        plan = plan_scores(metric, drawn.probability, drawn.label, drawn.cluster)
    (values,) = draw_values([plan], drawn.site, draws=25)
    (weight,) = cluster_weights(drawn.site, draws=25)
    copies = [
        np.concatenate([np.flatnonzero(data.cluster == c) for c in np.repeat(np.arange(14), row)])
        for row in weight.astype(int)
    ]
    loop = [naive(name, data, rows) for rows in copies]
    np.testing.assert_allclose(values[:, 0], loop, atol=1e-12)


def test_a_metric_without_a_fast_way_is_drawn_by_weights_of_images() -> None:
    drawn = sample(study(1))
    fast: ScoreMetric = registry.load("metrics", "brier")
    slow = ScoreMetric(
        name="x", title="x", scale="log", better="lower", from_scores=fast.from_scores
    )
    assert drawn.probability is not None
    plans = [
        plan_scores(metric, drawn.probability, drawn.label, drawn.cluster)
        for metric in (fast, slow)
    ]
    one, other = draw_values(plans, drawn.site, draws=600)
    np.testing.assert_allclose(one, other, atol=1e-12)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(0, 5))
@settings(max_examples=30)
def test_every_site_keeps_its_number_of_patients(site: list[int], seed: int) -> None:
    codes = np.array(site)
    for weight in cluster_weights(codes, seed=seed, draws=600):
        for code in set(site):
            assert (weight[:, codes == code].sum(axis=1) == site.count(code)).all()


def test_draws_do_not_depend_on_the_names_of_sites() -> None:
    site = np.array([1, 0, 1, 2, 0, 2, 1, 0])
    renamed = np.array([0, 2, 0, 1, 2, 1, 0, 2])
    one, other = (next(cluster_weights(codes, draws=50)) for codes in (site, renamed))
    np.testing.assert_array_equal(one, other)


def test_draws_are_the_same_however_many_are_asked_for() -> None:
    site = np.zeros(40, np.int64)
    many = np.concatenate(list(cluster_weights(site, draws=1500)))
    np.testing.assert_array_equal(many[:500], next(cluster_weights(site, draws=500)))


def test_patients_are_drawn_as_often_as_each_other() -> None:
    weight = np.concatenate(list(cluster_weights(np.zeros(20, np.int64), draws=5000)))
    # Of 100,000 picks 5,000 each, sd 69; Poisson-like: none of 20 in (19/20)^20 = .358.
    assert np.abs(weight.sum(axis=0) - 5000).max() < 5 * 69
    assert (weight == 0).mean() == pytest.approx(0.358, abs=0.01)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_products_of_whole_numbers_are_exact(seed: int) -> None:
    random = np.random.default_rng(seed)
    weight = random.integers(0, 9, (7, 30)).astype(np.float32)
    counts = random.integers(0, 5, (30, 2, 3)).astype(float)
    expected = np.tensordot(weight.astype(int), counts.astype(int), axes=1)
    np.testing.assert_array_equal(product(weight, counts), expected)


@pytest.mark.parametrize(("undefined", "given_"), [(100, True), (101, False)])
def test_above_one_percent_of_undefined_draws_there_is_no_interval(
    undefined: int, given_: bool
) -> None:
    value = np.arange(10_000.0)
    value[:undefined] = np.nan
    found = percentiles(value)
    assert found.undefined == undefined
    if given_:
        # 9,900 draws from 100 to 9,999: 2.5 % of 9,899 steps from either end.
        assert (found.low, found.high) == pytest.approx((100 + 247.475, 9999 - 247.475))
    else:
        assert (found.low, found.high) == (None, None)


def test_nothing_defined_is_no_interval() -> None:
    assert percentiles(np.full(50, np.nan)) == Percentiles(low=None, high=None, undefined=50)


def test_an_encoder_is_drawn_alike_whoever_stands_beside_it() -> None:
    parts = [sample(study(seed)) for seed in (1, 2, 3)]
    plans = [plan_counts([macro_f1.METRIC, f1.METRIC], part.counts) for part in parts]
    together = draw_values(plans, parts[0].site, draws=700)
    alone = [draw_values([plan], parts[0].site, draws=700)[0] for plan in plans]
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_array_equal(one, other)


def test_percentiles_stand_beside_the_rows_over_all(
    simulate: Callable[..., Rows], write_table: Callable[..., Path], tmp_path: Path
) -> None:
    rows = evaluate_table(write_table(simulate(patients=40, images=120)), tmp_path / "results")
    whole = [row for row in rows if not row.stratum and row.method != "point"]
    drawn = [row for row in whole if row.level == "image"]
    assert drawn
    assert all(row.n_undefined == 0 for row in drawn)
    for row in drawn:
        assert row.pct_low is not None
        assert row.pct_high is not None
        assert row.value is not None
        assert row.pct_low <= row.value <= row.pct_high
    assert all(row.n_undefined is None for row in rows if row.stratum)


def test_a_class_that_draws_often_lack_leaves_no_percentiles_but_a_count(
    simulate: Callable[..., Rows], write_table: Callable[..., Path], tmp_path: Path
) -> None:
    table = simulate(encoders=("a",), patients=40, images=120)
    rare = [r for r in table if r["label"] != "thorax" or r["patient"] in {"p2", "p4", "p6"}]
    rows = evaluate_table(write_table(rare), tmp_path / "results")
    (row,) = [
        r for r in rows if (r.metric, r.class_, r.stratum, r.level) == ("macro-f1", "", "", "image")
    ]
    # The patients with a thorax are of one site of 20: none is drawn in (1 - k/20)^20 of draws.
    patients = {r["patient"] for r in rare if r["label"] == "thorax"}
    lacking = 10_000 * (1 - len(patients) / 20) ** 20
    assert row.low is not None
    assert (row.pct_low, row.pct_high) == (None, None)
    assert row.n_undefined == pytest.approx(lacking, abs=4 * math.sqrt(lacking))
