"""The default interval is that of statistics.md section 3, by hand and by naive loops."""

from __future__ import annotations

import math
import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache import registry
from embedcache.evaluation.evaluand import Evaluand
from embedcache.evaluation.intervals import Clusters, Interval, jackknife
from embedcache.evaluation.sample import LeftOut, leave_counts_out, leave_one_out, sample
from embedcache.metrics import accuracy
from embedcache.metrics.metric import Metric, Scale

reference = pytest.importorskip("sklearn.metrics")

PROTOTYPE = Path(__file__).parents[3] / "shared" / "prototypes" / "jackknife_interval.py"
SCALES: dict[str, Scale] = {"logit": "logit", "log": "log", "identity": "identity"}
seeds = st.integers(0, 2**32 - 1)
#: t_.975 of 3 and 7 degrees of freedom, from printed tables.
T3, T7 = 3.182446, 2.364624


def one_site(without: list[float], value: float) -> tuple[LeftOut, Clusters]:
    left = LeftOut(value=value, without=np.array(without))
    return left, Clusters(site=np.zeros(len(without), np.int64), sites=("",))


def evaluand(seed: int, *, models: int = 1, sites: int = 3, clusters: int = 24) -> Evaluand:
    """Some 80 images of `clusters` patients in `sites`, four classes, one of them never true."""
    random = np.random.default_rng(seed)
    cluster = np.concatenate([np.arange(clusters), random.integers(0, clusters, 80 - clusters)])
    label = random.permutation(np.concatenate([np.arange(3).repeat(9), random.integers(0, 3, 53)]))
    score = random.gamma(0.6, size=(models, 80, 4)) + 0.6 * np.eye(4)[label]
    probability = score / score.sum(axis=-1, keepdims=True)
    return Evaluand(
        arm="knn",
        encoder="a",
        cohort="spain",
        estimand="external-folds",
        class_rule="as-is",
        classes=("w", "x", "y", "z"),
        image=np.zeros((80, 32), np.uint8),
        label=label.astype(np.int16),
        cluster=cluster,
        site=np.array([f"s{c % sites}" for c in range(clusters)]),
        predicted=probability.argmax(axis=-1).astype(np.int16),
        probability=probability,
        folds=models,
        strata={},
    )


def naive(metric: str, given_: Evaluand, rows: np.ndarray) -> float:
    """Scikit-learn, one model after the other or on their counts together."""
    label, classes = given_.label[rows], np.unique(given_.label)
    predicted = given_.predicted[:, rows].ravel()
    truth = np.tile(label, len(given_.predicted))
    macro = {"labels": classes, "average": "macro"}
    counted = {
        "macro-f1": lambda: reference.f1_score(truth, predicted, **macro),
        "balanced-accuracy": lambda: reference.recall_score(truth, predicted, **macro),
        "accuracy": lambda: reference.accuracy_score(truth, predicted),
        "mcc": lambda: reference.matthews_corrcoef(truth, predicted),
    }
    if metric in counted:
        return float(counted[metric]())
    assert given_.probability is not None
    return float(np.mean([scored(metric, label, p[rows], classes) for p in given_.probability]))


def scored(metric: str, label: np.ndarray, p: np.ndarray, classes: np.ndarray) -> float:
    if metric == "log-loss":
        return float(reference.log_loss(label, p, labels=np.arange(4)))
    if metric == "brier":
        return float(((p - np.eye(4)[label]) ** 2).sum(axis=1).mean())
    score = reference.roc_auc_score if metric == "auroc" else reference.average_precision_score
    return float(np.mean([score(label == k, p[:, k]) for k in classes]))


@given(
    seeds,
    st.sampled_from(
        [
            "macro-f1",
            "balanced-accuracy",
            "accuracy",
            "mcc",
            "auroc",
            "average-precision",
            "log-loss",
            "brier",
        ]
    ),
    st.sampled_from([1, 3]),
)
@settings(max_examples=20)
def test_leaving_out_is_a_naive_loop_over_patients(seed: int, name: str, models: int) -> None:
    data = evaluand(seed, models=models)
    metric: Metric = registry.load("metrics", name)
    left = leave_one_out(metric, sample(data))
    assert left is not None
    assert left.value == pytest.approx(naive(name, data, np.ones(80, bool)), abs=1e-12)
    loop = [naive(name, data, data.cluster != c) for c in range(24)]
    np.testing.assert_allclose(left.without, loop, atol=1e-12)


def test_four_patients_by_hand() -> None:
    # Two images each, 2, 1, 1 and 2 of them right. Accuracy 6/8; without a patient 4/6 or 5/6,
    # mean 3/4, so x = -+1/12. SE^2 = (3/4)^2 * 4/3 * 4/144 = 1/48. nu = 4 - 1 = 3.
    # On the logit scale: ln 3 -+ T3 * sqrt(1/48) / (3/16).
    left, clusters = one_site([4 / 6, 5 / 6, 5 / 6, 4 / 6], 6 / 8)
    found = jackknife(left, clusters, scale="logit", degrees="clusters")
    half = T3 * math.sqrt(1 / 48) / (3 / 16)
    assert found.df == 3
    assert found.low == pytest.approx(1 / (1 + math.exp(half) / 3), abs=1e-7)
    assert found.high == pytest.approx(1 / (1 + math.exp(-half) / 3), abs=1e-7)


def test_two_sites_by_hand() -> None:
    # Deviations are taken within sites: (.1, -.1) around .5 and (.2, -.2) around .7.
    # SE^2 = (3/4)^2 (2/1 * .02 + 2/1 * .08) = .1125; nu = 4 - 2.
    left = LeftOut(value=0.6, without=np.array([0.6, 0.4, 0.9, 0.5]))
    clusters = Clusters(site=np.array([0, 0, 1, 1]), sites=("a", "b"))
    found = jackknife(left, clusters, scale="identity", degrees="clusters")
    t2 = math.sqrt(2) * 0.95 / math.sqrt(1 - 0.95**2)  # Student's t of 2 has a closed form
    assert found.df == 2
    assert found.low == pytest.approx(0.6 - t2 * math.sqrt(0.1125), abs=1e-12)
    assert found.high == pytest.approx(0.6 + t2 * math.sqrt(0.1125), abs=1e-12)


def test_kurtosis_counts_the_patients_that_carry_the_variance() -> None:
    # x = 7/8 once and -1/8 seven times: sum x^2 = 7/8, sum x^4 = (7^4 + 7) / 8^4 = 2408/4096;
    # 2 (7/8)^2 / (2408/4096 - 49/64/8) = 1.53125 / .4921875 = 28/9.
    left, clusters = one_site([1.5, *[0.5] * 7], 1.0)
    found = jackknife(left, clusters, scale="log", degrees="kurtosis")
    assert found.df == pytest.approx(28 / 9, rel=1e-12)
    assert jackknife(left, clusters, scale="log", degrees="clusters").df == 7


def test_training_variance_widens_the_interval_by_half_for_five_folds() -> None:
    left, clusters = one_site([0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.4, 0.2], 0.2)
    found = jackknife(left, clusters, scale="identity", degrees="clusters", folds=5)
    assert found.low is not None
    assert found.low_train is not None
    assert found.high_train is not None
    assert 0.2 - found.low_train == pytest.approx(1.5 * (0.2 - found.low), rel=1e-12)
    assert found.high_train - 0.2 == pytest.approx(0.2 - found.low_train, rel=1e-12)
    # x^2 around .225 sums to .075; SE = 7/8 sqrt(8/7 * .075).
    assert 0.2 - found.low == pytest.approx(T7 * 7 / 8 * math.sqrt(8 / 7 * 0.075), abs=1e-6)


@given(seeds, st.sampled_from(sorted(SCALES)), st.booleans())
@settings(max_examples=40)
def test_intervals_are_those_of_the_measured_prototype(
    seed: int, kind: str, kurtosis: bool
) -> None:
    if not PROTOTYPE.is_file():
        pytest.skip("../shared/prototypes (the measured code) is not beside this checkout")
    random = np.random.default_rng(seed)
    without, site = random.uniform(0.4, 0.6, 20), np.arange(20) % 3
    low, high, _ = runpy.run_path(str(PROTOTYPE))["interval"](
        0.55, without, site, kind, "df4" if kurtosis else "C-S"
    )
    found = jackknife(
        LeftOut(value=0.55, without=without),
        Clusters(site=site, sites=("a", "b", "c")),
        scale=SCALES[kind],
        degrees="kurtosis" if kurtosis else "clusters",
    )
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-12)


@pytest.mark.parametrize(("value", "low", "high"), [(1.0, 0.025 ** (1 / 5), 1.0), (0.0, 0.0, None)])
def test_the_ends_of_the_scale_have_an_exact_interval(
    value: float, low: float, high: float | None
) -> None:
    left, clusters = one_site([value] * 5, value)
    found = jackknife(left, clusters, scale="logit", degrees="clusters", folds=5)
    assert found.method == "exact-cluster"
    assert found.low == pytest.approx(low, abs=1e-15)
    # Five patients all right (or wrong) happen with probability .025 at this true value.
    assert found.high == pytest.approx(high or 1 - 0.025 ** (1 / 5), abs=1e-15)
    assert found.df is None


@pytest.mark.parametrize(
    ("left", "site", "scale", "reason"),
    [
        (LeftOut(value=0.5, without=np.array([np.nan])), [0], "logit", "one patient cluster only"),
        (
            LeftOut(value=np.nan, without=np.array([0.1, 0.2])),
            [0, 0],
            "logit",
            "the value does not exist",
        ),
        (
            LeftOut(value=0.5, without=np.array([0.4, 0.5, 0.6])),
            [0, 0, 1],
            "logit",
            "site Ghana has one patient cluster",
        ),
        (
            LeftOut(value=0.5, without=np.array([0.4, np.nan, 0.6])),
            [0, 0, 0],
            "logit",
            "without one patient cluster the value does not exist",
        ),
        (
            LeftOut(value=0.5, without=np.array([0.5, 0.5, 0.5])),
            [0, 0, 0],
            "logit",
            "the value is the same whichever patient is left out",
        ),
        (LeftOut(value=0.0, without=np.zeros(3)), [0, 0, 0], "log", "the loss is 0"),
        (LeftOut(value=1.0, without=np.ones(3)), [0, 0, 0], "atanh", "the value is at its limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_where_there_is_no_interval_the_reason_is_given(
    left: LeftOut, site: list[int], scale: Scale, reason: str
) -> None:
    clusters = Clusters(site=np.array(site), sites=("Malawi", "Ghana")[: max(site) + 1])
    found = jackknife(left, clusters, scale=scale, degrees="clusters")
    assert found == Interval(method="not estimable", note=reason)


def test_intervals_cover_the_truth_of_simulated_studies() -> None:
    # 50 patients of one to six images; a patient's share of right images is Beta(9, 1), mean .9.
    # Sizes are drawn apart from shares, so the true accuracy is .9.
    random = np.random.default_rng(7)
    clusters = Clusters(site=np.zeros(50, np.int64), sites=("",))
    covered = 0
    for _ in range(300):
        size = random.integers(1, 7, 50)
        right = random.binomial(size, random.beta(9, 1, 50))
        counts = np.zeros((50, 1, 2))
        counts[:, 0] = np.column_stack([right, size - right])
        left = leave_counts_out(accuracy.METRIC, counts)
        found = jackknife(left, clusters, scale="logit", degrees="clusters")
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0.9 <= found.high
    # Nominal: 285 of 300, sd 3.8.
    assert 273 <= covered <= 297
