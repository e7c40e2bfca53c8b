"""The solver behind scikit-learn's interface keeps its contract and gives its probabilities."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression  # noqa: TID253  # the reference throughout
from sklearn.utils.estimator_checks import (  # noqa: TID253  # parametrizes a test
    estimator_checks_generator,
)

import embedcache
from embedcache.errors import NotConvergedError
from embedcache.probing.estimators.logistic import ProbeLogisticRegression

CHECKS = list(estimator_checks_generator(ProbeLogisticRegression()))


@pytest.mark.parametrize(
    "check", [check for _, check in CHECKS], ids=lambda check: check.func.__name__
)
def test_it_passes_scikit_learn_s_check_estimator(check) -> None:
    with warnings.catch_warnings():
        # A check tells us that it skips itself by a warning.
        warnings.simplefilter("ignore")
        check(ProbeLogisticRegression())


@pytest.mark.parametrize("c", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_probabilities_are_scikit_learn_s_to_3e_6(c, classes, features) -> None:
    x, label, _ = features(200, 30, classes)
    x = x.astype(np.float64)
    # lbfgs leaves 6e-6 at C = 100, whatever its tol.
    ours = ProbeLogisticRegression(C=c).fit(x, label)
    theirs = LogisticRegression(C=c, solver="newton-cg", tol=1e-10, max_iter=1_000).fit(x, label)
    assert np.abs(ours.predict_proba(x) - theirs.predict_proba(x)).max() < 3e-6
    assert ours.coef_.shape == theirs.coef_.shape
    assert np.allclose(ours.coef_, theirs.coef_, atol=1e-4 * np.abs(theirs.coef_).max())


def test_a_weight_of_three_is_three_rows(features) -> None:
    x, label, _ = features(60, 5, 3)
    weight = np.arange(60) % 4
    weighted = ProbeLogisticRegression().fit(x, label, weight)
    repeated = ProbeLogisticRegression().fit(np.repeat(x, weight, axis=0), np.repeat(label, weight))
    assert np.allclose(weighted.coef_, repeated.coef_, atol=1e-5)


def test_what_does_not_converge_is_fitted_by_scikit_learn(features) -> None:
    x, label, _ = features(200, 30, 3)
    short = ProbeLogisticRegression(max_iter=1).fit(x, label)
    full = ProbeLogisticRegression().fit(x, label)
    assert np.abs(short.predict_proba(x) - full.predict_proba(x)).max() < 1e-4


def test_what_scikit_learn_does_not_mend_either_is_an_error(features, monkeypatch) -> None:
    x, label, _ = features(200, 30, 3)
    monkeypatch.setattr("embedcache.probing.estimators.logistic._MORE", 1)
    with pytest.raises(NotConvergedError, match="C = 2"):
        ProbeLogisticRegression(C=2.0, max_iter=1).fit(x, label)


@pytest.mark.parametrize("c", [0, -1.0, float("nan")])
def test_a_penalty_that_is_none_is_refused(c, features) -> None:
    x, label, _ = features(60, 5, 3)
    with pytest.raises(ValueError, match="C must be positive"):
        ProbeLogisticRegression(C=c).fit(x, label)


def test_it_is_public() -> None:
    assert embedcache.ProbeLogisticRegression is ProbeLogisticRegression
