"""The batched solver's parts against arithmetic: gradients, contrasts, curvature, recursion."""

from __future__ import annotations

import numpy as np
import pytest

from embedcache.probing.estimators.design import Matrix
from embedcache.probing.estimators.history import PAIRS, History
from embedcache.probing.estimators.objective import Objective, dots


@pytest.fixture
def objective(features) -> Objective:
    """Six problems in float64: the training sets of three folds, each with and without a third."""
    x, label, cluster = features(60, 4, 3)
    train = np.stack([cluster % 3 != k for k in range(3)])
    matrix = Matrix.of(x, label, train, dtype=np.float64)
    outer = np.repeat(np.arange(3), 2)
    learns = matrix.train[outer] & (np.arange(60) % 4 != np.tile([0, 5], 3)[:, np.newaxis])
    design = matrix.design(learns, outer, 3)
    return Objective.of(design, np.arange(6), np.full(6, 0.7))


def value(objective: Objective, theta) -> np.ndarray:
    weights = theta[..., :-1]
    return objective.value(objective.margins(theta), dots(weights, weights))[0]


def test_a_gradient_is_what_differences_say(objective) -> None:
    rng = np.random.default_rng(0)
    theta = rng.standard_normal((6, 2, 5))
    weights = theta[..., :-1]
    _, residual = objective.value(objective.margins(theta), dots(weights, weights))
    gradient = objective.gradient(residual, theta)
    step = 1e-6 * rng.standard_normal(theta.shape)
    rise = (value(objective, theta + step) - value(objective, theta - step)) / 2
    assert np.allclose(rise, dots(gradient, step), rtol=1e-7, atol=1e-15)


def test_a_value_is_scikit_learn_s_objective_over_c_and_rows(objective) -> None:
    """C times summed log loss plus half the squared weights, which the contrasts keep."""
    theta = np.random.default_rng(1).standard_normal((6, 2, 5))
    found, design = value(objective, theta), objective.design
    weight = design.contrast @ theta
    for problem in range(6):
        total = rows = 0.0
        for block in design.blocks:
            place = np.flatnonzero(block.problem == problem)
            if len(place) == 0:
                continue
            learns = block.weight[place[0]] > 0
            z = (block.x[learns] - design.shift[problem]) * design.scale[problem]
            logit = z @ weight[problem, :, :-1].T + weight[problem, :, -1]
            own = logit[np.arange(learns.sum()), block.label[learns]]
            total += (np.log(np.exp(logit).sum(axis=1)) - own).sum()
            rows += learns.sum()
        whole = 0.7 * total + (weight[problem, :, :-1] ** 2).sum() / 2
        assert found[problem] == pytest.approx(whole / (0.7 * rows), rel=1e-12)


def test_each_problem_sees_its_own_standardised_features(objective) -> None:
    design = objective.design
    for problem in range(6):
        mean, square = np.zeros(4), np.zeros(4)
        for block in design.blocks:
            for place in np.flatnonzero(block.problem == problem):
                z = (block.x - design.shift[problem]) * design.scale[problem]
                mean += block.weight[place] @ z
                square += block.weight[place] @ z**2
        assert np.allclose(mean, 0, atol=1e-12)
        assert np.allclose(square, 1, atol=1e-9)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_contrasts_are_orthonormal_and_sum_to_nothing(classes, features) -> None:
    x, label, _ = features(60, 4, classes)
    train = np.ones((1, 60), np.bool_)
    design = Matrix.of(x, label, train, dtype=np.float64).design(train, np.array([0]), classes)
    contrast = design.contrast
    assert contrast.shape == (classes, classes - 1)
    assert np.allclose(contrast.T @ contrast, np.eye(classes - 1), atol=1e-15)
    assert np.allclose(contrast.sum(axis=0), 0, atol=1e-15)


def test_curvature_is_the_mean_of_p_times_one_less_p(objective) -> None:
    """Without weights and bias every class has a third: the sum is 2/3, over two contrasts."""
    theta = np.zeros((6, 2, 5))
    _, residual = objective.value(objective.margins(theta), np.zeros(6))
    assert np.allclose(objective.curvature(residual), 1 / 3, atol=1e-12)


def test_margins_hundreds_out_stay_finite(objective) -> None:
    theta = 1e4 * np.random.default_rng(2).standard_normal((6, 2, 5))
    found, residual = objective.value(objective.margins(theta), np.zeros(6))
    assert np.isfinite(found).all()
    assert all(np.isfinite(rows).all() for rows in residual)


@pytest.mark.parametrize("pairs", [1, 4, PAIRS + 3], ids=["one", "some", "more than are kept"])
def test_the_recursion_on_products_is_the_two_loops_of_nocedal_and_wright(pairs) -> None:
    """Algorithm 7.4 (Numerical Optimization, 2006), on the pairs that are left."""
    rng = np.random.default_rng(4)
    hessian = np.diag(rng.uniform(0.5, 2, 6))
    history = History.empty(np.zeros((1, 2, 3)))
    kept = []
    for _ in range(pairs):
        step = rng.standard_normal(6)
        history.add(step.reshape(1, 2, 3), (hessian @ step).reshape(1, 2, 3))
        kept = [*kept, (step, hessian @ step)][-PAIRS:]
    gradient = rng.standard_normal(6)
    rest, factors = gradient.copy(), []
    for step, change in reversed(kept):
        factors.append((step @ rest) / (step @ change))
        rest = rest - factors[-1] * change
    found = 0.5 * rest
    for (step, change), factor in zip(kept, reversed(factors), strict=True):
        found = found + (factor - (change @ found) / (step @ change)) * step
    direction = history.direction(gradient.reshape(1, 2, 3), lambda given: 0.5 * given)
    assert np.allclose(direction.reshape(-1), found, rtol=1e-10)


def test_a_change_of_penalty_changes_the_pairs_of_a_quadratic_as_if_measured_anew() -> None:
    """The bias, last of each row, is not penalised."""
    rng = np.random.default_rng(5)
    step, change = rng.standard_normal((2, 1, 2, 3))
    change += 2 * step
    history = History.empty(np.zeros((1, 2, 3)))
    history.add(step, change)
    history.carry(np.array([0.3]), (1, 2, 3))
    moved = change.copy()
    moved[..., :-1] += 0.3 * step[..., :-1]
    assert np.allclose(history.newest[1], moved.reshape(1, -1))
    assert history.product[0, 0, 0] == pytest.approx((step * moved).sum())


def test_sparse_training_sets_share_a_block_and_few_patterns_do_not(features) -> None:
    x, label, cluster = features(240, 3, 2)
    folds = np.stack([cluster % 5 != k for k in range(5)])
    assert len(Matrix.of(x, label, folds, dtype=np.float32).edges) == 5 + 1
    drawn = np.random.default_rng(0).random((20, 240)) < 0.5
    assert len(Matrix.of(x, label, drawn, dtype=np.float32).edges) == 1 + 1
