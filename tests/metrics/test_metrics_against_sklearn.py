"""Every metric agrees with scikit-learn, which is told the class set, to 1e-12."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedcache import registry
from embedcache.evaluation.sample import leave_counts_out
from embedcache.metrics import f1, precision, sensitivity
from embedcache.metrics.metric import CountMetric, ScoreMetric
from embedcache.metrics.score_order import cumulate

reference = pytest.importorskip("sklearn.metrics")

seeds = st.integers(0, 2**32 - 1)


def labels_and_predictions(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """60 images of up to 4 classes of 6; predictions stray into all six."""
    random = np.random.default_rng(seed)
    label = random.choice(random.permutation(6)[: random.integers(1, 5)], 60)
    stray = random.integers(0, 6, 60)
    return label, np.where(random.random(60) < 0.6, label, stray)


def table(label: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows: classes that occur; columns: these, then what lies outside them."""
    present = np.unique(label)
    rest = np.setdiff1d(np.arange(6), present)
    counts = reference.confusion_matrix(label, predicted, labels=np.arange(6))
    return counts[np.ix_(present, np.concatenate([present, rest]))].astype(float)


def probabilities(seed: int, label: NDArray[np.int64], decimals: int) -> NDArray[np.float64]:
    """Rounded, so that ties occur within and across classes."""
    random = np.random.default_rng(seed)
    score = random.gamma(0.7, size=(len(label), 6)) + 0.4 * np.eye(6)[label]
    rounded = np.round(score / score.sum(axis=1, keepdims=True), decimals)
    return rounded / rounded.sum(axis=1, keepdims=True)


def count_metric(name: str) -> CountMetric:
    metric = registry.load("metrics", name)
    assert isinstance(metric, CountMetric)
    return metric


def score_metric(name: str) -> ScoreMetric:
    metric = registry.load("metrics", name)
    assert isinstance(metric, ScoreMetric)
    return metric


def test_ours_enter_through_the_registry_under_their_own_names() -> None:
    found = [registry.load("metrics", name).name for name in registry.names("metrics")]
    assert found == list(registry.names("metrics"))
    assert {"macro-f1", "balanced-accuracy", "accuracy", "auroc", "log-loss"} <= set(found)


@given(seeds)
def test_macro_f1_is_scikit_learns_over_the_classes_that_occur(seed: int) -> None:
    label, predicted = labels_and_predictions(seed)
    ours = count_metric("macro-f1").from_confusion(table(label, predicted))
    theirs = reference.f1_score(label, predicted, labels=np.unique(label), average="macro")
    assert ours == pytest.approx(theirs, abs=1e-12)


@given(seeds)
def test_balanced_accuracy_is_scikit_learns_macro_recall(seed: int) -> None:
    label, predicted = labels_and_predictions(seed)
    ours = count_metric("balanced-accuracy").from_confusion(table(label, predicted))
    theirs = reference.recall_score(label, predicted, labels=np.unique(label), average="macro")
    assert ours == pytest.approx(theirs, abs=1e-12)


@given(seeds)
def test_accuracy_is_scikit_learns(seed: int) -> None:
    label, predicted = labels_and_predictions(seed)
    ours = count_metric("accuracy").from_confusion(table(label, predicted))
    assert ours == pytest.approx(reference.accuracy_score(label, predicted), abs=1e-12)


@given(seeds)
def test_class_metrics_are_scikit_learns(seed: int) -> None:
    label, predicted = labels_and_predictions(seed)
    counts, present = table(label, predicted), np.unique(label)
    theirs = reference.precision_recall_fscore_support(
        label, predicted, labels=present, zero_division=np.nan
    )
    ours = [metric.METRIC.from_confusion(counts) for metric in (precision, sensitivity, f1)]
    np.testing.assert_allclose(ours[0], theirs[0], atol=1e-12)
    np.testing.assert_allclose(ours[1], theirs[1], atol=1e-12)
    # scikit-learn's F1 is 0 where precision is undefined, as ours is.
    np.testing.assert_allclose(ours[2], theirs[2], atol=1e-12)


@given(seeds, st.sampled_from([1, 2, 12]))
def test_auroc_is_the_mean_of_scikit_learns_one_against_rest(seed: int, decimals: int) -> None:
    label, _ = labels_and_predictions(seed)
    label[:2] = 0, 1  # at least two classes
    probability = probabilities(seed, label, decimals)
    ours = score_metric("auroc").from_scores(probability, label.astype(np.int16), np.ones((1, 60)))
    theirs = [reference.roc_auc_score(label == k, probability[:, k]) for k in np.unique(label)]
    assert ours[0] == pytest.approx(np.mean(theirs), abs=1e-12)


@given(seeds)
@settings(max_examples=25)
def test_weighted_auroc_is_scikit_learns_with_sample_weights(seed: int) -> None:
    label, _ = labels_and_predictions(seed)
    label[:2] = 0, 1
    probability = probabilities(seed, label, 1)
    weight = np.random.default_rng(seed).integers(1, 4, (3, 60)).astype(float)
    ours = score_metric("auroc").from_scores(probability, label.astype(np.int16), weight)
    for draw in range(3):
        theirs = [
            reference.roc_auc_score(label == k, probability[:, k], sample_weight=weight[draw])
            for k in np.unique(label)
        ]
        assert ours[draw] == pytest.approx(np.mean(theirs), abs=1e-12)


@given(seeds)
def test_log_loss_is_scikit_learns(seed: int) -> None:
    label, _ = labels_and_predictions(seed)
    probability = np.clip(probabilities(seed, label, 12), 1e-9, None)
    probability /= probability.sum(axis=1, keepdims=True)
    weight = np.random.default_rng(seed).integers(1, 4, (1, 60)).astype(float)
    ours = score_metric("log-loss").from_scores(probability, label.astype(np.int16), weight)
    theirs = reference.log_loss(label, probability, labels=np.arange(6), sample_weight=weight[0])
    assert ours[0] == pytest.approx(theirs, rel=1e-12)


def test_log_loss_of_a_true_class_given_nothing_is_that_of_1e_15() -> None:
    value = score_metric("log-loss").from_scores(
        np.array([[1.0, 0.0]]), np.array([1], np.int16), np.ones((1, 1))
    )
    assert value[0] == pytest.approx(-np.log(1e-15), rel=1e-12)


@given(seeds)
def test_mcc_is_scikit_learns(seed: int) -> None:
    label, predicted = labels_and_predictions(seed)
    label[:2] = 0, 1  # with one true class there is none
    value = count_metric("mcc").from_confusion(table(label, predicted))
    assert value == pytest.approx(reference.matthews_corrcoef(label, predicted), abs=1e-12)


def test_mcc_of_one_predicted_class_is_zero_and_of_one_true_class_is_none() -> None:
    assert count_metric("mcc").from_confusion(np.array([[3.0, 0.0], [2.0, 0.0]])) == 0
    assert np.isnan(count_metric("mcc").from_confusion(np.array([[3.0, 1.0], [0.0, 0.0]])))


@given(seeds, st.sampled_from([1, 2, 12]))
def test_average_precision_is_the_mean_of_scikit_learns_one_against_rest(
    seed: int, decimals: int
) -> None:
    label, _ = labels_and_predictions(seed)
    probability = probabilities(seed, label, decimals)
    weight = np.random.default_rng(seed).integers(1, 4, (1, 60)).astype(float)
    ours = score_metric("average-precision").from_scores(
        probability, label.astype(np.int16), weight
    )
    theirs = [
        reference.average_precision_score(label == k, probability[:, k], sample_weight=weight[0])
        for k in np.unique(label)
    ]
    assert ours[0] == pytest.approx(np.mean(theirs), abs=1e-12)


@given(seeds)
def test_brier_is_the_sum_of_scikit_learns_one_against_rest(seed: int) -> None:
    label, _ = labels_and_predictions(seed)
    probability = probabilities(seed, label, 12)
    weight = np.random.default_rng(seed).integers(1, 4, (1, 60)).astype(float)
    ours = score_metric("brier").from_scores(probability, label.astype(np.int16), weight)
    # scikit-learn gives the mean of (p - y)^2 of one class.
    theirs = [
        reference.brier_score_loss(
            label == k, np.clip(probability[:, k], 0, 1), sample_weight=weight[0]
        )
        for k in range(6)
    ]
    assert ours[0] == pytest.approx(np.sum(theirs), abs=1e-12)


@given(seeds)
def test_overconfidence_is_mean_confidence_minus_accuracy(seed: int) -> None:
    label, _ = labels_and_predictions(seed)
    probability = probabilities(seed, label, 12)
    ours = score_metric("overconfidence").from_scores(
        probability, label.astype(np.int16), np.ones((1, 60))
    )
    accuracy = reference.accuracy_score(label, probability.argmax(axis=1))
    assert ours[0] == pytest.approx(probability.max(axis=1).mean() - accuracy, abs=1e-12)


@given(seeds)
@settings(max_examples=12)
def test_patient_weighted_macro_f1_is_scikit_learns_with_a_weight_for_each_image(seed: int) -> None:
    label, predicted = labels_and_predictions(seed)
    cluster = np.unique(np.random.default_rng(seed).integers(0, 25, 60), return_inverse=True)[1]
    counts = np.stack(
        [table_of(label, predicted, cluster == c) for c in range(int(cluster.max()) + 1)]
    )
    left = leave_counts_out(count_metric("patient-weighted-macro-f1"), counts)
    weight = 1 / np.bincount(cluster)[cluster]

    def theirs(rows: NDArray[np.bool_]) -> float:
        return float(
            reference.f1_score(
                label[rows],
                predicted[rows],
                labels=np.unique(label),
                average="macro",
                sample_weight=weight[rows],
                zero_division=0,
            )
        )

    assert left.value == pytest.approx(theirs(np.ones(60, bool)), abs=1e-12)
    for c, without in enumerate(left.without):
        rest = cluster != c
        if set(label[rest]) == set(label):
            assert without == pytest.approx(theirs(rest), abs=1e-12)
        else:
            assert np.isnan(without)  # though parts of images never cancel in floating point


def table_of(
    label: NDArray[np.int64], predicted: NDArray[np.int64], rows: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """As `table`, of some rows, on the class set of all."""
    present = np.unique(label)
    rest = np.setdiff1d(np.arange(6), present)
    counts = reference.confusion_matrix(label[rows], predicted[rows], labels=np.arange(6))
    return counts[np.ix_(present, np.concatenate([present, rest]))].astype(float)


@given(
    seeds,
    st.sampled_from(["auroc", "average-precision", "log-loss", "brier", "overconfidence"]),
    st.sampled_from([1, 2, 12]),
)
def test_draws_of_clusters_are_weights_of_their_images(seed: int, name: str, decimals: int) -> None:
    label, _ = labels_and_predictions(seed)
    label[:2] = 0, 1
    random = np.random.default_rng(seed)
    cluster = np.unique(random.integers(0, 12, 60), return_inverse=True)[1]
    weight = random.multinomial(12, np.full(cluster.max() + 1, 1 / (cluster.max() + 1)), 40)
    metric, probability = score_metric(name), probabilities(seed, label, decimals)
    assert metric.by_cluster is not None
    fast = metric.by_cluster(probability, label.astype(np.int16), cluster)(
        weight.astype(np.float32)
    )
    slow = metric.from_scores(probability, label.astype(np.int16), weight[:, cluster].astype(float))
    np.testing.assert_allclose(fast, slow, atol=1e-12)  # NaN where NaN


@given(st.integers(1, 70), st.integers(1, 5))
def test_cumulating_is_numpys(runs: int, draws: int) -> None:
    sums = np.random.default_rng(runs).integers(0, 9, (runs, draws)).astype(np.float32)
    np.testing.assert_array_equal(cumulate(sums), np.cumsum(sums, axis=0))


@given(seeds, st.sampled_from(["auroc", "log-loss"]))
def test_leaving_a_cluster_out_is_a_weight_of_zero(seed: int, name: str) -> None:
    label, _ = labels_and_predictions(seed)
    label[:2] = 0, 1
    cluster = np.unique(np.random.default_rng(seed).integers(0, 25, 60), return_inverse=True)[1]
    probability, metric = probabilities(seed, label, 1), score_metric(name)
    weight = (cluster != np.arange(cluster.max() + 1)[:, None]).astype(float)
    assert metric.leave_one_out is not None
    fast = metric.leave_one_out(probability, label.astype(np.int16), cluster)
    slow = metric.from_scores(probability, label.astype(np.int16), weight)
    np.testing.assert_allclose(fast, slow, atol=1e-12)


def test_one_class_alone_has_no_auroc() -> None:
    value = score_metric("auroc").from_scores(
        np.array([[0.9, 0.1], [0.8, 0.2]]), np.array([0, 0], np.int16), np.ones((1, 2))
    )
    assert np.isnan(value).all()


def test_a_stray_prediction_outside_the_class_set_costs_its_own_image_only() -> None:
    # Two classes of four images; one image of the first is called a third class.
    counts = np.array([[3.0, 0.0, 1.0], [0.0, 4.0, 0.0]])
    value = count_metric("macro-f1").from_confusion(counts)
    assert value == pytest.approx((6 / 7 + 1) / 2, abs=1e-15)


def test_many_tables_at_once_give_what_each_gives_alone() -> None:
    tables = np.random.default_rng(0).integers(0, 9, (5, 2, 3, 4)).astype(float)
    for name in ("macro-f1", "balanced-accuracy", "accuracy"):
        together = count_metric(name).from_confusion(tables)
        alone = [[count_metric(name).from_confusion(one) for one in pair] for pair in tables]
        np.testing.assert_array_equal(together, np.array(alone))


def test_a_class_without_images_leaves_a_count_metric_undefined() -> None:
    counts = np.array([[3.0, 1.0], [0.0, 0.0]])
    assert np.isnan(count_metric("macro-f1").from_confusion(counts))
    assert np.isnan(count_metric("balanced-accuracy").from_confusion(counts))
    assert count_metric("accuracy").from_confusion(counts) == 0.75
