"""Pairs of steps and changes of gradient that L-BFGS knows a batch of problems by.

The recursion runs on inner products alone, kept as pairs come and go, so that a direction reads the
pairs four times in whole products (the "vector-free" form: Chen, Wang and Zhou, NeurIPS 2014).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.probing.estimators.design import Floats
from embedcache.probing.estimators.objective import Theta, dots

#: Pairs kept; more made paths no shorter (docs/explanation/probe.md).
PAIRS = 10


@dataclass(kw_only=True, slots=True, eq=False)
class History:
    """The last pairs of every problem of a batch.

    Attributes:
        step: (b, PAIRS, v), v numbers a problem.
        change: of the gradient along each step, (b, PAIRS, v).
        product: step · change for every two, (b, PAIRS, PAIRS) float64.
        oldest: place of the oldest pair.
    """

    step: NDArray[np.floating]
    change: NDArray[np.floating]
    product: Floats
    oldest: int = 0

    @classmethod
    def empty(cls, theta: Theta) -> History:
        """No pairs yet: zeros, which the recursion passes over."""
        size = (len(theta), PAIRS, theta[0].size)
        return cls(
            step=np.zeros(size, theta.dtype),
            change=np.zeros(size, theta.dtype),
            product=np.zeros((len(theta), PAIRS, PAIRS)),
        )

    def only(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> History:
        """Some problems', copied."""
        return History(
            step=self.step[which],
            change=self.change[which],
            product=self.product[which],
            oldest=self.oldest,
        )

    def put(self, place: NDArray[np.int64], other: History, which: NDArray[np.bool_]) -> None:
        """Take over the pairs of some of another's problems, oldest first."""
        order = other.order
        self.step[place] = other.step[which][:, order]
        self.change[place] = other.change[which][:, order]
        self.product[place] = other.product[which][:, order][:, :, order]

    @property
    def order(self) -> NDArray[np.int64]:
        """Places from the oldest pair to the newest, (PAIRS,)."""
        return (self.oldest + np.arange(PAIRS)) % PAIRS

    @property
    def newest(self) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """The newest pair, (b, v) each."""
        place = self.order[-1]
        return self.step[:, place], self.change[:, place]

    def add(self, step: Theta, change: Theta) -> None:
        """Put a pair in the oldest's place; one without positive curvature counts as none."""
        b, place = len(step), self.oldest
        good = (dots(step, change) > 0)[:, np.newaxis]
        self.step[:, place] = np.where(good, step.reshape(b, -1), 0)
        self.change[:, place] = np.where(good, change.reshape(b, -1), 0)
        self.product[:, :, place] = _times(self.step, self.change[:, place])
        self.product[:, place, :] = _times(self.change, self.step[:, place])
        self.oldest = (place + 1) % PAIRS

    def carry(self, difference: Floats, shape: tuple[int, ...]) -> None:
        """Follow a change of penalty (b,): the pairs of a quadratic change by a multiple of it.

        Args:
            difference: new penalty less old.
            shape: of theta, whose last column is not penalised.
        """
        size = (shape[0], PAIRS, *shape[1:])
        factor = difference.astype(self.step.dtype).reshape(-1, 1, 1, 1)
        self.change.reshape(size)[..., :-1] += factor * self.step.reshape(size)[..., :-1]
        self.product = np.matmul(self.step, self.change.transpose(0, 2, 1)).astype(np.float64)

    def direction(self, gradient: Theta, solve: Callable[[Theta], Theta]) -> Theta:
        """The inverse Hessian's estimate times a gradient.

        Args:
            gradient: as theta.
            solve: the estimate before any pair, as theta.
        """
        b = len(gradient)
        curvature = np.einsum("bjj->bj", self.product)
        rho = np.where(curvature > 0, 1 / np.where(curvature > 0, curvature, 1), 0)
        before = np.zeros((b, PAIRS))
        along = _times(self.step, gradient.reshape(b, -1))
        for j in self.order[::-1]:
            other = np.einsum("bk,bk->b", self.product[:, j], before)
            before[:, j] = rho[:, j] * (along[:, j] - other)
        rest = gradient.reshape(b, -1) - _sum(before, self.change)
        start = solve(rest.reshape(gradient.shape)).reshape(b, -1)
        after = np.zeros((b, PAIRS))
        along = _times(self.change, start)
        for j in self.order:
            other = np.einsum("bk,bk->b", self.product[:, :, j], after)
            known = before[:, j] - rho[:, j] * (along[:, j] + other)
            after[:, j] = np.where(rho[:, j] > 0, known, 0)
        return (start + _sum(after, self.step)).reshape(gradient.shape)


def _times(pairs: NDArray[np.floating], vector: NDArray[np.floating]) -> Floats:
    """Inner products of (b, PAIRS, v) with (b, v), (b, PAIRS) float64."""
    product: Floats = np.matmul(pairs, vector[:, :, np.newaxis])[:, :, 0].astype(np.float64)
    return product


def _sum(factor: Floats, pairs: NDArray[np.floating]) -> NDArray[np.floating]:
    """Pairs (b, PAIRS, v) summed with factors (b, PAIRS), (b, v)."""
    return np.asarray(np.matmul(factor.astype(pairs.dtype)[:, np.newaxis], pairs)[:, 0])
