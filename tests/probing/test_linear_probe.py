"""The linear probe is scikit-learn's pipeline with C searched on patient-grouped folds."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from embedcache.errors import NotConvergedError
from embedcache.probing.estimators.linear_probe import (
    ESTIMATOR,
    Problem,
    inner_loss,
    moments,
)
from embedcache.protocol.folds import assign_inner_folds
from embedcache.protocol.protocol import Tuning

GRID = (1e-3, 1e-2, 1e-1, 1.0)
TUNING = Tuning(grid=GRID)


def features(n: int, d: int, classes: int, seed: int = 0):
    """Overlapping classes, patients of three images, correlated positive features."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(n) // 3
    label = (cluster % classes).astype(np.int16)
    spread = (np.arange(d) + 1.5) ** -0.43
    centre = 0.3 * rng.standard_normal((classes, d))
    patient = 0.5 * rng.standard_normal((n, d))[cluster]
    x = (centre[label] + patient + rng.standard_normal((n, d))) * spread
    return np.exp(0.3 * x).astype(np.float32), label, cluster


def pipeline(c: float):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-10, max_iter=50_000))


def searched(x, label, inner) -> np.ndarray:
    """Pooled log loss of each C by plain scikit-learn in float64, every fit cold and tight."""
    from sklearn.metrics import log_loss
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    split = PredefinedSplit(inner)
    return np.array(
        [
            log_loss(
                label, cross_val_predict(pipeline(c), x, label, cv=split, method="predict_proba")
            )
            for c in GRID
        ]
    )


@pytest.mark.parametrize(
    ("n", "d", "classes"),
    [
        pytest.param(180, 20, 3, id="more rows than dimensions"),
        pytest.param(90, 150, 4, id="fewer rows than dimensions"),
        pytest.param(120, 30, 2, id="two classes"),
    ],
)
def test_choice_loss_and_probabilities_are_scikit_learn_s(n: int, d: int, classes: int) -> None:
    x, label, cluster = features(n, d, classes)
    train = cluster % 5 != 0
    (fitted,) = ESTIMATOR.fit(x, label, cluster, train[np.newaxis], tuning=TUNING, seed=0)

    x64 = x.astype(np.float64)
    inner = assign_inner_folds(label[train], cluster[train], folds=3, seed=0)
    loss = searched(x64[train], label[train], inner)
    best = int(np.argmin(loss))
    assert fitted.settings["C"] == GRID[best]
    assert fitted.settings["inner-log-loss"] == pytest.approx(loss[best], rel=1e-3)
    reference = pipeline(GRID[best]).fit(x64[train], label[train])
    expected = reference.predict_proba(x64[~train])
    assert np.allclose(fitted.probabilities(x[~train]), expected, atol=1e-3)


def test_all_training_sets_in_one_call_are_as_good_as_one_by_one() -> None:
    x, label, cluster = features(120, 25, 3)
    train = np.stack([cluster % 4 != k for k in range(4)])
    together = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    for rows, fitted in zip(train, together, strict=True):
        (alone,) = ESTIMATOR.fit(x, label, cluster, rows[np.newaxis], tuning=TUNING, seed=0)
        assert np.array_equal(alone.probabilities(x), fitted.probabilities(x))


def test_what_is_held_out_changes_nothing() -> None:
    x, label, cluster = features(120, 25, 3)
    train = (cluster % 4 != 0)[np.newaxis]
    (before,) = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    other = np.where(train.T, x, 1e6).astype(np.float32)
    (after,) = ESTIMATOR.fit(other, label, cluster, train, tuning=TUNING, seed=0)
    for name, array in before.state().items():
        assert np.array_equal(array, after.state()[name])


@pytest.mark.parametrize("d", [12, 150], ids=["n > d", "n < d"])
def test_dead_and_nearly_dead_channels_do_no_harm(d: int) -> None:
    """Relative sd 1e-4, constant in training, and held-out values 300 sd out (probes.md, traps)."""
    x, label, cluster = features(120, d, 3)
    rng = np.random.default_rng(1)
    train = cluster % 4 != 0
    x[:, 0] = 50 * (1 + 1e-4 * rng.standard_normal(len(x)))
    x[:, 1] = np.where(train, 7.1, rng.standard_normal(len(x)))
    x[np.flatnonzero(~train)[0], 2] = 300 * x[:, 2].std()
    (fitted,) = ESTIMATOR.fit(x, label, cluster, train[np.newaxis], tuning=TUNING, seed=0)

    x64 = x.astype(np.float64)
    inner = assign_inner_folds(label[train], cluster[train], folds=3, seed=0)
    loss = searched(x64[train], label[train], inner)
    assert fitted.settings["C"] == GRID[int(np.argmin(loss))]
    reference = pipeline(fitted.settings["C"]).fit(x64[train], label[train])
    found = fitted.probabilities(x[~train])
    assert np.isfinite(found).all()
    assert np.allclose(found, reference.predict_proba(x64[~train]), atol=1e-3)


def test_moments_survive_where_float32_sums_of_squares_cancel() -> None:
    rng = np.random.default_rng(0)
    column = (1000 + 0.1 * rng.standard_normal(5_000)).astype(np.float32)
    x = np.column_stack([column, np.full(5_000, 3.3, np.float32)])
    mean, scale = moments(x)
    exact = column.astype(np.float64)
    assert mean[0] == pytest.approx(exact.mean(), rel=1e-12)
    assert scale[0] == pytest.approx(exact.std(), rel=1e-9)
    assert scale[1] == 1.0


def test_the_path_ends_after_two_rises_and_what_lies_beyond_is_infinite() -> None:
    x, label, cluster = features(90, 10, 3)
    inner = assign_inner_folds(label, cluster, folds=3, seed=0)
    grid = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
    loss = inner_loss(x, label, inner, grid)
    best = int(np.argmin(loss))
    assert np.isfinite(loss[: best + 3]).all()
    assert np.isinf(loss[best + 3 :]).all()
    assert best + 3 < len(grid)


@pytest.mark.parametrize(("grid", "said"), [((1e2, 1e3), "smallest"), ((1e-4, 1e-3), "largest")])
def test_an_optimum_on_the_border_is_said(grid, said) -> None:
    x, label, cluster = features(90, 10, 3)
    train = np.ones((1, len(label)), np.bool_)
    (fitted,) = ESTIMATOR.fit(x, label, cluster, train, tuning=Tuning(grid=grid), seed=0)
    (note,) = fitted.notes
    assert f"the best C is the {said} of the grid ({fitted.settings['C']:g})" in note


def test_a_fit_that_does_not_converge_is_an_error_never_a_warning(monkeypatch) -> None:
    x, label, _ = features(90, 10, 3)
    monkeypatch.setattr("embedcache.probing.estimators.linear_probe._ITERATIONS", 0)
    problem = Problem.of(x, label)
    with warnings.catch_warnings(record=True) as seen, pytest.raises(NotConvergedError) as error:
        problem.solve(1.0, tol=1e-9)
    assert (error.value.c, seen) == (1.0, [])


def test_more_iterations_mend_a_fit_that_stopped_early(monkeypatch) -> None:
    x, label, _ = features(90, 10, 3)
    monkeypatch.setattr("embedcache.probing.estimators.linear_probe._ITERATIONS", 5)
    weight, _ = Problem.of(x, label).solve(10.0, tol=1e-6)
    reference = pipeline(10.0).fit(x.astype(np.float64), label)
    assert reference[-1].n_iter_[0] > 5
    assert np.allclose(weight, reference[-1].coef_, atol=0.01 * np.abs(weight).max())
