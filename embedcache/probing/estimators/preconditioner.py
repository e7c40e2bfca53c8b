"""The inverse Hessian as it would be if all rows were equally uncertain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedcache.probing.estimators.design import Floats
from embedcache.probing.estimators.objective import Objective, Theta

#: A factorisation serves until the curvature has changed by this.
_STALE = 1.5


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Preconditioner:
    """(curvature · correlation + penalty)^-1, one factorisation for the whole batch.

    Problems differ little in curvature and penalty; `factor` makes up for what they differ.

    Attributes:
        triangle: Cholesky factor, (p, p).
        at: the curvature it was made for.
        curvature: of each problem, (b,) float64.
        factor: each problem's correction, (b,) float64.
    """

    triangle: NDArray[np.floating]
    at: float
    curvature: Floats
    factor: Floats

    @classmethod
    def of(cls, objective: Objective, curvature: Floats) -> Preconditioner:
        """For a batch at curvature (b,)."""
        from scipy.linalg import cholesky

        middle = float(np.median(curvature))
        matrix = objective.design.correlation * objective.design.correlation.dtype.type(middle)
        # Less than this is lost in the matrix's own rounding.
        least = np.finfo(matrix.dtype).eps * float(np.trace(matrix))
        np.einsum("jj->j", matrix)[...] += max(float(np.median(objective.penalty)), least)
        triangle = cholesky(matrix, lower=True, overwrite_a=True, check_finite=False)
        return cls(
            triangle=triangle, at=middle, curvature=curvature, factor=np.ones(len(curvature))
        )

    def anew(self, objective: Objective, curvature: Floats) -> Preconditioner:
        """For another curvature (b,), factorised again where that pays."""
        ratio = float(np.median(curvature)) / self.at
        if 1 / _STALE < ratio < _STALE:
            return replace(self, curvature=curvature)
        return Preconditioner.of(objective, curvature)

    def only(self, keep: NDArray[np.bool_]) -> Preconditioner:
        """For some problems of the batch."""
        return replace(self, curvature=self.curvature[keep], factor=self.factor[keep])

    def solve(self, gradient: Theta) -> Theta:
        """Apply it, as theta."""
        from scipy.linalg import cho_solve

        weights = np.array(gradient[..., :-1]).reshape(-1, gradient.shape[-1] - 1)
        solved = cho_solve((self.triangle, True), weights.T, overwrite_b=True, check_finite=False)
        out = np.empty_like(gradient)
        out[..., :-1] = solved.T.reshape(gradient[..., :-1].shape)
        out[..., -1] = gradient[..., -1] / self.curvature[:, np.newaxis]
        out *= self.factor.astype(out.dtype)[:, np.newaxis, np.newaxis]
        return out
