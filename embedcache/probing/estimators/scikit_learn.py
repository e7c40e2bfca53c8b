"""scikit-learn's lbfgs, used with care: the reference of the batched solver, and its fallback.

Features are standardised by the training set's own moments, taken in float64 because real encoders
have nearly dead channels. Where rows are fewer than dimensions the fit runs in the row space: the
L2 penalty makes the optimum a combination of rows, so nothing is lost. The path over C is
warm-started and ends once the inner loss has risen twice.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import NotConvergedError
from embedcache.probing.estimators.chosen import RISES, Chosen, Floats, summed_loss

#: Largest gradient of the mean loss at the end of a fit. scikit-learn's own 1e-4 stops a warm start
#: before it has moved where classes are well apart; a tenth of it costs an eighth more time.
_PATH_TOL = 1e-5
#: Of what is reported: leaves the objective some 1e-7 above its minimum, relatively.
_REFIT_TOL = 1e-6
#: lbfgs passes scikit-learn's default of 100 at 1,280 dimensions.
_ITERATIONS = 1_000


def fit_one(
    x: NDArray[np.float32],
    label: NDArray[np.int16],
    inner: NDArray[np.int64],
    grid: tuple[float, ...],
) -> Chosen | NotConvergedError:
    """Choose C on the inner folds (n,) of one training set (n, d), then fit all of it."""
    try:
        loss = inner_loss(x, label, inner, grid)
        return refit(x, label, grid[int(np.argmin(loss))], loss)
    except NotConvergedError as error:
        return error


def refit(
    x: NDArray[np.float32],
    label: NDArray[np.int16] | NDArray[np.int64],
    c: float,
    loss: Floats,
    *,
    dtype: type[np.floating] = np.float32,
) -> Chosen:
    """Fit one training set (n, d) at one C, computing in `dtype`.

    Raises:
        NotConvergedError: see `Problem.solve`.
    """
    problem = Problem.of(x, label, dtype=dtype)
    weight, bias = problem.solve(c, tol=_REFIT_TOL)
    return Chosen(
        c=c, inner_loss=loss, mean=problem.mean, scale=problem.scale, weight=weight, bias=bias
    )


def held_out_loss(
    x: NDArray[np.float32],
    label: NDArray[np.int16] | NDArray[np.int64],
    held_out: NDArray[np.bool_],
    c: float,
    *,
    dtype: type[np.floating] = np.float32,
) -> float:
    """Summed log loss of the rows held out (n,), from a fit of the others at one C in `dtype`.

    Raises:
        NotConvergedError: see `Problem.solve`.
    """
    return next(_path(x, label, held_out, (c,), dtype))


def inner_loss(
    x: NDArray[np.float32],
    label: NDArray[np.int16],
    inner: NDArray[np.int64],
    grid: tuple[float, ...],
) -> Floats:
    """Log loss of each C pooled over the rows of all inner folds, (len(grid),) float64.

    What lies beyond the end of the path is infinite.
    """
    folds = range(int(inner.max()) + 1)
    paths = [_path(x, label, inner == fold, grid) for fold in folds]
    loss = np.full(len(grid), np.inf)
    for index, parts in enumerate(zip(*paths, strict=True)):
        loss[index] = sum(parts) / len(label)
        if index - int(np.argmin(loss)) >= RISES:
            break
    return loss


def _path(
    x: NDArray[np.float32],
    label: NDArray[np.int16] | NDArray[np.int64],
    held_out: NDArray[np.bool_],
    grid: tuple[float, ...],
    dtype: type[np.floating] = np.float32,
) -> Iterator[float]:
    """Summed log loss of the held-out rows at each C in turn, each fit started from the last."""
    problem = Problem.of(x[~held_out], label[~held_out], dtype=dtype)
    z = (x[held_out] - problem.mean) / problem.scale
    for c in grid:
        weight, bias = problem.solve(c, tol=_PATH_TOL)
        yield summed_loss(z @ weight.T + bias, label[held_out])


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One training set, standardised and turned into as few columns as it has directions.

    Attributes:
        mean: see `FittedLinearProbe`.
        scale: likewise.
        z: standardised rows, or their coordinates in the row space, (n, min(n, d)).
        basis: orthonormal directions of the row space, (d, n) float64; None where n >= d.
        label: class of each row, (n,).
        model: scikit-learn's, which keeps its last solution as the next start.
    """

    mean: Floats
    scale: Floats
    z: NDArray[np.floating]
    basis: Floats | None
    label: NDArray[np.int16] | NDArray[np.int64]
    model: Any

    @classmethod
    def of(
        cls,
        x: NDArray[np.float32],
        label: NDArray[np.int16] | NDArray[np.int64],
        *,
        dtype: type[np.floating] = np.float32,
    ) -> Problem:
        """Standardise features (n, d), to be fitted in `dtype`."""
        from sklearn.linear_model import LogisticRegression

        mean, scale = moments(x)
        z = x - mean
        z /= scale  # in place: a float64 copy of x is enough
        basis = None
        if len(z) < z.shape[1]:
            basis, coordinates = np.linalg.qr(z.T)
            z = coordinates.T
        model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)
        return cls(mean, scale, z.astype(dtype), basis, label, model)

    def solve(self, c: float, *, tol: float) -> tuple[Floats, Floats]:
        """Weights (c, d) and biases (c,) of the standardised features at one C, float64.

        Raises:
            NotConvergedError: if float64 and ten times the iterations do not get there either.
        """
        if not self._fit(self.z, c, tol=tol, iterations=_ITERATIONS):
            more = 10 * _ITERATIONS
            if not self._fit(self.z.astype(np.float64), c, tol=tol, iterations=more):
                raise NotConvergedError(encoder="", training="", c=c, iterations=more)
        weight, bias = self.model.coef_.astype(np.float64), self.model.intercept_
        if len(weight) == 1:  # two classes: scikit-learn keeps the second's log-odds alone
            weight, bias = np.vstack([0 * weight, weight]), np.array([0.0, bias[0]])
        if self.basis is not None:
            weight = weight @ self.basis.T
        return weight, bias.astype(np.float64)

    def _fit(self, z: NDArray[Any], c: float, *, tol: float, iterations: int) -> bool:
        from sklearn.exceptions import ConvergenceWarning

        self.model.set_params(C=c, tol=tol, max_iter=iterations)
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            try:
                self.model.fit(z, self.label)
            except ConvergenceWarning:
                return False
        return True


def moments(x: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """Mean and standard deviation of each column, (d,) float64 each.

    A column that float32 cannot tell from a constant has deviation 1: its centred values are zero.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    # Blocks of columns: a float64 copy of all of x would double the memory of a fit.
    blocks = [slice(start, start + 256) for start in range(0, x.shape[1], 256)]
    variance = np.concatenate([((x[:, b] - mean[b]) ** 2).mean(axis=0) for b in blocks])
    deviation = np.sqrt(variance)
    constant = deviation <= np.finfo(np.float32).eps * np.abs(mean)
    return mean, np.where(constant | (deviation == 0), 1.0, deviation)
