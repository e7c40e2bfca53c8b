"""The batched solver behind scikit-learn's interface, for use outside a protocol.

It minimises what `sklearn.linear_model.LogisticRegression` minimises, with an L2 penalty and a free
intercept, and comes nearer to the minimum. Computed in float64.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: TID253  # the class needs its bases

from embedcache.errors import NotConvergedError
from embedcache.probing.estimators.chosen import Floats, softmax
from embedcache.probing.estimators.descent import minimise
from embedcache.probing.estimators.design import Block, Design
from embedcache.probing.estimators.objective import Objective

#: What float64 can still tell of a relative distance from the minimum.
_LEAST = 1e-14
#: Iterations of scikit-learn where ours do not suffice.
_MORE = 10_000


class ProbeLogisticRegression(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # untyped
    """Multinomial logistic regression with an L2 penalty; features are not standardised.

    A fit that has not converged after `max_iter` iterations is made again by scikit-learn.

    Args:
        C: inverse strength of the penalty, as scikit-learn's.
        tol: distance from the minimum, relative, as half of gradient · step estimates it.
        max_iter: of the batched solver.

    Attributes:
        classes_: the labels, (c,).
        coef_: weights, (c, d) float64; (1, d) for two classes.
        intercept_: (c,) or (1,) float64.
        n_iter_: iterations taken, (1,) int32.
        n_features_in_: d.
    """

    def __init__(self, C: float = 1.0, tol: float = 1e-12, max_iter: int = 500) -> None:  # noqa: N803  # scikit-learn's name
        self.C = C
        self.tol = tol
        self.max_iter = max_iter

    def fit(
        self,
        X: ArrayLike,  # noqa: N803  # scikit-learn's name
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> ProbeLogisticRegression:
        """Fit features (n, d) and labels (n,), with a weight for each row (n,) where given.

        Raises:
            ValueError: if the arrays are not finite, do not match or hold one class only, or C is
                not positive.
            NotConvergedError: if scikit-learn does not reach the minimum either.
        """
        from sklearn.utils.multiclass import check_classification_targets
        from sklearn.utils.validation import _check_sample_weight, validate_data

        if not self.C > 0:
            raise ValueError(f"C must be positive; it is {self.C!r}")
        x, label = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(label)
        weight = _check_sample_weight(sample_weight, x, dtype=np.float64, ensure_non_negative=True)
        counts = weight > 0
        self.classes_, number = np.unique(label[counts], return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                "this solver needs samples of at least 2 classes, and the data hold only one "
                f"class: {self.classes_!r}"
            )
        self._fit(x[counts], number, weight[counts])
        return self

    def decision_function(self, X: ArrayLike) -> Floats:  # noqa: N803  # scikit-learn's name
        """Logits of features (n, d), (n, c); for two classes the second's log-odds, (n,)."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        x = validate_data(self, X, dtype=np.float64, reset=False)
        logit: Floats = x @ self.coef_.T + self.intercept_
        return logit[:, 0] if len(self.classes_) == 2 else logit

    def predict_proba(self, X: ArrayLike) -> Floats:  # noqa: N803  # scikit-learn's name
        """Class probabilities of features (n, d), (n, c) float64."""
        logit = self.decision_function(X)
        return softmax(np.column_stack([-logit / 2, logit / 2]) if logit.ndim == 1 else logit)

    def predict(self, X: ArrayLike) -> NDArray[Any]:  # noqa: N803  # scikit-learn's name
        """The likeliest class of each row of features (n, d), (n,)."""
        probability = self.predict_proba(X)
        return np.asarray(self.classes_[probability.argmax(axis=1)])

    def _fit(self, x: Floats, number: NDArray[np.int64], weight: Floats) -> None:
        mean = np.average(x, axis=0, weights=weight)
        design = _design(x - mean, number, weight)
        theta = np.zeros((1, design.classes - 1, x.shape[1] + 1))
        share = np.bincount(number, weights=weight) / weight.sum()
        theta[..., -1] = np.log(share) @ design.contrast
        found = minimise(
            Objective.of(design, np.array([0]), np.array([float(self.C)])),
            theta,
            tolerance=max(self.tol, _LEAST),
            iterations=self.max_iter,
        )
        if found.converged[0]:
            logit = design.contrast @ found.theta[0]
            self.coef_, bias = logit[:, :-1], logit[:, -1]
            self.intercept_ = bias - self.coef_ @ mean
            self.n_iter_ = np.maximum(found.iterations, 1).astype(np.int32)
            if design.classes == 2:
                self.coef_ = self.coef_[1:] - self.coef_[:1]
                self.intercept_ = self.intercept_[1:] - self.intercept_[:1]
        else:
            self._fit_by_scikit_learn(x, number, weight)

    def _fit_by_scikit_learn(self, x: Floats, number: NDArray[np.int64], weight: Floats) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=self.C, tol=1e-8, max_iter=_MORE)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                model.fit(x, number, weight)
            except ConvergenceWarning as warning:
                raise NotConvergedError(
                    encoder="", training="the rows given", c=self.C, iterations=_MORE
                ) from warning
        self.coef_, self.intercept_, self.n_iter_ = model.coef_, model.intercept_, model.n_iter_


def _design(x: Floats, number: NDArray[np.int64], weight: Floats) -> Design:
    """One problem on unscaled features (n, d)."""
    share = weight / weight.sum()
    block = Block(x=x, label=number, problem=np.array([0]), weight=share[np.newaxis])
    return Design(
        blocks=(block,),
        scale=np.ones((1, x.shape[1])),
        shift=np.zeros((1, x.shape[1])),
        size=np.array([weight.sum()]),
        correlation=(x * share[:, np.newaxis]).T @ x,
        classes=int(number.max()) + 1,
    )
