"""scikit-learn's solver, used with care: its moments, its path, and what it does when it fails."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from embedcache.errors import NotConvergedError
from embedcache.probing.estimators.scikit_learn import Problem, inner_loss, moments
from embedcache.protocol.folds import assign_inner_folds


def test_moments_survive_where_float32_sums_of_squares_cancel() -> None:
    rng = np.random.default_rng(0)
    column = (1000 + 0.1 * rng.standard_normal(5_000)).astype(np.float32)
    x = np.column_stack([column, np.full(5_000, 3.3, np.float32)])
    mean, scale = moments(x)
    exact = column.astype(np.float64)
    assert mean[0] == pytest.approx(exact.mean(), rel=1e-12)
    assert scale[0] == pytest.approx(exact.std(), rel=1e-9)
    assert scale[1] == 1.0


def test_the_path_ends_after_two_rises_and_what_lies_beyond_is_infinite(features) -> None:
    x, label, cluster = features(90, 10, 3)
    inner = assign_inner_folds(label, cluster, folds=3, seed=0)
    grid = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)
    loss = inner_loss(x, label, inner, grid)
    best = int(np.argmin(loss))
    assert np.isfinite(loss[: best + 3]).all()
    assert np.isinf(loss[best + 3 :]).all()
    assert best + 3 < len(grid)


def test_a_fit_that_does_not_converge_is_an_error_never_a_warning(features, monkeypatch) -> None:
    x, label, _ = features(90, 10, 3)
    monkeypatch.setattr("embedcache.probing.estimators.scikit_learn._ITERATIONS", 0)
    problem = Problem.of(x, label)
    with warnings.catch_warnings(record=True) as seen, pytest.raises(NotConvergedError) as error:
        problem.solve(1.0, tol=1e-9)
    assert (error.value.c, seen) == (1.0, [])


def test_more_iterations_mend_a_fit_that_stopped_early(features, pipeline, monkeypatch) -> None:
    x, label, _ = features(90, 10, 3)
    monkeypatch.setattr("embedcache.probing.estimators.scikit_learn._ITERATIONS", 5)
    weight, _ = Problem.of(x, label).solve(10.0, tol=1e-6)
    reference = pipeline(10.0).fit(x.astype(np.float64), label)
    assert reference[-1].n_iter_[0] > 5
    assert np.allclose(weight, reference[-1].coef_, atol=0.01 * np.abs(weight).max())
