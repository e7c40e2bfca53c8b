"""The linear probe is scikit-learn's pipeline with C searched on patient-grouped folds."""

from __future__ import annotations

import numpy as np
import pytest

from embedcache.errors import ClassAbsentError, NotConvergedError
from embedcache.probing.estimators.linear_probe import ESTIMATOR
from embedcache.protocol.folds import assign_inner_folds
from embedcache.protocol.protocol import Tuning

GRID = (1e-3, 1e-2, 1e-1, 1.0)
TUNING = Tuning(grid=GRID)
BOTH = pytest.mark.parametrize("solver", ["batched", "sklearn"])


@BOTH
@pytest.mark.parametrize(
    ("n", "d", "classes"),
    [
        pytest.param(180, 20, 3, id="more rows than dimensions"),
        pytest.param(90, 150, 4, id="fewer rows than dimensions"),
        pytest.param(120, 30, 2, id="two classes"),
    ],
)
def test_choice_loss_and_probabilities_are_scikit_learn_s(
    n: int, d: int, classes: int, solver, features, pipeline, searched
) -> None:
    x, label, cluster = features(n, d, classes)
    train = cluster % 5 != 0
    tuning = Tuning(grid=GRID, solver=solver)
    (fitted,) = ESTIMATOR.fit(x, label, cluster, train[np.newaxis], tuning=tuning, seed=0)

    x64 = x.astype(np.float64)
    inner = assign_inner_folds(label[train], cluster[train], folds=3, seed=0)
    loss = searched(x64[train], label[train], inner, GRID)
    best = int(np.argmin(loss))
    assert fitted.settings["C"] == GRID[best]
    assert fitted.settings["inner-log-loss"] == pytest.approx(loss[best], rel=1e-3)
    reference = pipeline(GRID[best]).fit(x64[train], label[train])
    expected = reference.predict_proba(x64[~train])
    assert np.allclose(fitted.probabilities(x[~train]), expected, atol=1e-3)


def test_all_training_sets_in_one_call_are_as_good_as_one_by_one(features) -> None:
    x, label, cluster = features(120, 25, 3)
    train = np.stack([*(cluster % 4 != k for k in range(4)), np.ones(120, np.bool_)])
    together = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    for rows, fitted in zip(train, together, strict=True):
        (alone,) = ESTIMATOR.fit(x, label, cluster, rows[np.newaxis], tuning=TUNING, seed=0)
        assert alone.settings["C"] == fitted.settings["C"]
        assert np.allclose(alone.probabilities(x), fitted.probabilities(x), atol=2e-3)


def test_training_sets_that_have_nothing_in_common_are_fitted_in_one_call(features) -> None:
    """Twenty subsets are more than blocks are made for; they share one block."""
    x, label, cluster = features(240, 8, 2)
    rng = np.random.default_rng(3)
    train = np.stack([np.isin(cluster, rng.choice(80, 40, replace=False)) for _ in range(20)])
    together = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    reference = ESTIMATOR.fit(
        x, label, cluster, train, tuning=Tuning(grid=GRID, solver="sklearn"), seed=0
    )
    for fitted, expected in zip(together, reference, strict=True):
        assert fitted.settings["C"] == expected.settings["C"]
        assert np.allclose(fitted.probabilities(x), expected.probabilities(x), atol=2e-3)


@BOTH
def test_what_is_held_out_changes_nothing(solver, features) -> None:
    x, label, cluster = features(120, 25, 3)
    train = (cluster % 4 != 0)[np.newaxis]
    tuning = Tuning(grid=GRID, solver=solver)
    (before,) = ESTIMATOR.fit(x, label, cluster, train, tuning=tuning, seed=0)
    other = np.where(train.T, x, 1e6).astype(np.float32)
    (after,) = ESTIMATOR.fit(other, label, cluster, train, tuning=tuning, seed=0)
    for name, array in before.state().items():
        assert np.array_equal(array, after.state()[name])


def test_what_other_training_sets_hold_changes_only_the_last_digits(features) -> None:
    """A row that is wild in every training set but this one, all fitted together."""
    x, label, cluster = features(120, 25, 3)
    train = np.stack([cluster % 4 != k for k in range(4)])
    before, *_ = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    x[np.flatnonzero(~train[0])[:2]] = 1e6
    after, *_ = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    assert before.settings["C"] == after.settings["C"]
    rows = train[0]
    assert np.allclose(after.probabilities(x[rows]), before.probabilities(x[rows]), atol=2e-3)


@BOTH
@pytest.mark.parametrize("d", [12, 150], ids=["n > d", "n < d"])
def test_dead_and_nearly_dead_channels_do_no_harm(
    d: int, solver, features, pipeline, searched
) -> None:
    """Relative sd 1e-4, constant in training, and held-out values 300 sd out (probes.md, traps)."""
    x, label, cluster = features(120, d, 3)
    rng = np.random.default_rng(1)
    train = np.stack([cluster % 4 != k for k in range(4)])
    x[:, 0] = 50 * (1 + 1e-4 * rng.standard_normal(len(x)))
    x[:, 1] = np.where(train[0], 7.1, rng.standard_normal(len(x)))
    x[np.flatnonzero(~train[0])[0], 2] = 300 * x[:, 2].std()
    tuning = Tuning(grid=GRID, solver=solver)
    models = ESTIMATOR.fit(x, label, cluster, train, tuning=tuning, seed=0)

    x64 = x.astype(np.float64)
    for rows, fitted in zip(train, models, strict=True):
        inner = assign_inner_folds(label[rows], cluster[rows], folds=3, seed=0)
        loss = searched(x64[rows], label[rows], inner, GRID)
        assert fitted.settings["C"] == GRID[int(np.argmin(loss))]
        assert fitted.settings["inner-log-loss"] == pytest.approx(loss.min(), rel=1e-3)
        reference = pipeline(fitted.settings["C"]).fit(x64[rows], label[rows])
        found = fitted.probabilities(x[~rows])
        assert np.isfinite(found).all()
        assert np.allclose(found, reference.predict_proba(x64[~rows]), atol=1e-3)


@BOTH
@pytest.mark.parametrize(("grid", "said"), [((1e2, 1e3), "smallest"), ((1e-4, 1e-3), "largest")])
def test_an_optimum_on_the_border_is_said(grid, said, solver, features) -> None:
    x, label, cluster = features(90, 10, 3)
    train = np.ones((1, len(label)), np.bool_)
    tuning = Tuning(grid=grid, solver=solver)
    (fitted,) = ESTIMATOR.fit(x, label, cluster, train, tuning=tuning, seed=0)
    (note,) = fitted.notes
    assert f"the best C is the {said} of the grid ({fitted.settings['C']:g})" in note


def test_a_fit_that_stops_short_is_made_again_by_scikit_learn(features, monkeypatch) -> None:
    x, label, cluster = features(90, 10, 3)
    train = (cluster % 5 != 0)[np.newaxis]
    monkeypatch.setattr("embedcache.probing.estimators.path._ITERATIONS", 1)
    (mended,) = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    monkeypatch.undo()
    (expected,) = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    assert mended.settings["C"] == expected.settings["C"]
    assert mended.settings["inner-log-loss"] == pytest.approx(
        expected.settings["inner-log-loss"], rel=1e-3
    )
    assert np.allclose(mended.probabilities(x), expected.probabilities(x), atol=1e-3)


def test_a_fit_that_nothing_mends_stands_as_an_error_and_costs_the_others_nothing(
    features, monkeypatch
) -> None:
    x, label, cluster = features(120, 10, 3)
    train = np.stack([cluster % 4 != k for k in range(2)])
    monkeypatch.setattr("embedcache.probing.estimators.path._ITERATIONS", 1)
    calls = []

    def refuse_the_first(rows, *args, **kwargs):
        calls.append(len(rows))
        if len(calls) == 1:
            raise NotConvergedError(encoder="", training="", c=GRID[0], iterations=10)
        return held_out_loss(rows, *args, **kwargs)

    from embedcache.probing.estimators.scikit_learn import held_out_loss

    monkeypatch.setattr(
        "embedcache.probing.estimators.scikit_learn.held_out_loss", refuse_the_first
    )
    failed, fitted = ESTIMATOR.fit(x, label, cluster, train, tuning=TUNING, seed=0)
    assert isinstance(failed, NotConvergedError)
    assert np.allclose(fitted.probabilities(x).sum(axis=1), 1)


@BOTH
def test_a_class_that_an_inner_training_set_lacks_is_refused(solver) -> None:
    """Class 1 has one patient: no inner fold can both train and test it."""
    cluster = np.arange(40) // 2
    label = (cluster == 7).astype(np.int16)
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    train = np.ones((1, 40), np.bool_)
    tuning = Tuning(grid=GRID, solver=solver)
    with pytest.raises(ClassAbsentError, match="class number 1 has no image in training set 0"):
        ESTIMATOR.fit(x, label, cluster, train, tuning=tuning, seed=0)


def test_both_solvers_give_the_same_on_a_spectrum_like_an_encoder_s() -> None:
    """Rank^-0.86 variances, overlapping classes, all five folds and the refit."""
    rng = np.random.default_rng(5)
    cluster = np.arange(600) // 4
    label = (rng.permutation(150) % 4).astype(np.int16)[cluster]
    x = rng.standard_normal((600, 64)) + 0.25 * rng.standard_normal((4, 64))[label]
    x = np.logaddexp(0, x * (np.arange(64) + 1.5) ** -0.43).astype(np.float32)
    train = np.stack([*(cluster % 5 != k for k in range(5)), np.ones(600, np.bool_)])
    ours, theirs = (
        ESTIMATOR.fit(x, label, cluster, train, tuning=Tuning(solver=solver), seed=0)
        for solver in ("batched", "sklearn")
    )
    for one, other in zip(ours, theirs, strict=True):
        assert one.settings["C"] == other.settings["C"]
        assert one.settings["inner-log-loss"] == pytest.approx(
            other.settings["inner-log-loss"], rel=1e-3
        )
        assert np.allclose(one.probabilities(x), other.probabilities(x), atol=2e-3)
