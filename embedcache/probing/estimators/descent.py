"""L-BFGS for a batch of problems at once, its steps measured by the features' correlation.

The estimate that pairs correct is (a R + penalty)^-1, R the correlation of the features and a the
mean of p(1 - p): the inverse Hessian if every row were equally uncertain. It changes how many steps
are taken and not where they end. Problems that have arrived leave the batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedcache.probing.estimators.design import Floats
from embedcache.probing.estimators.history import History
from embedcache.probing.estimators.objective import Objective, Rows, Theta, dots
from embedcache.probing.estimators.preconditioner import Preconditioner

#: A step must bring this part of what its slope promises, and leave no more than that part of the
#: slope (Nocedal and Wright, Numerical Optimization, 2006, section 3.1, give both).
_DECREASE, _SLOPE = 1e-4, 0.9
_TRIALS = 9
#: Margins are sums of steps; they are computed afresh after so many.
_REFRESH = 16
#: Iterations after which the curvature has changed so much that it is taken anew.
_LOOK_AGAIN = (0, 3, 9)
#: Bounds of the factor by which the newest pair corrects the estimate.
_FACTOR = (0.02, 50.0)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Solution:
    """Where a batch of problems has come to.

    Attributes:
        theta: (b, classes - 1, p + 1).
        margins: of its parts.
        history: its pairs.
        penalty: under which it was found, (b,) float64.
        value: of the objective, (b,) float64.
        iterations: taken, (b,) int64.
        converged: whether the tolerance was met, (b,) bool.
    """

    theta: Theta
    margins: Rows
    history: History
    penalty: Floats
    value: Floats
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]


@dataclass(kw_only=True, slots=True, eq=False)
class _Batch:
    """Problems under way."""

    objective: Objective
    theta: Theta
    margins: Rows
    history: History
    value: Floats
    gradient: Theta
    estimate: Preconditioner
    stuck: NDArray[np.bool_]

    def only(self, keep: NDArray[np.bool_]) -> _Batch:
        kept = [
            margin[keep[part.place]]
            for part, margin in zip(self.objective.parts, self.margins, strict=True)
        ]
        return _Batch(
            objective=self.objective.only(keep),
            theta=self.theta[keep],
            margins=kept,
            history=self.history.only(keep),
            value=self.value[keep],
            gradient=self.gradient[keep],
            estimate=self.estimate.only(keep),
            stuck=self.stuck[keep],
        )


def minimise(
    objective: Objective,
    theta: Theta,
    *,
    tolerance: float,
    iterations: int,
    margins: Rows | None = None,
    history: History | None = None,
) -> Solution:
    """Minimise each problem until half of gradient · step is `tolerance` of its value or less.

    A problem also leaves, not converged, when no step along its direction lowers its value.

    Args:
        objective: the problems.
        theta: where to start, (b, classes - 1, p + 1); not changed.
        tolerance: of the value, relative.
        iterations: at most.
        margins: of the start, where they are known; taken over.
        history: pairs found under the same penalty; taken over.
    """
    batch = _begin(objective, theta, margins, history)
    found = _room_for(objective, theta)
    place = np.arange(len(theta))
    for iteration in range(iterations + 1):
        direction = batch.history.direction(batch.gradient, batch.estimate.solve)
        promised = dots(batch.gradient, direction)
        arrived = promised / 2 <= tolerance * batch.value
        leaves = arrived | batch.stuck | (iteration == iterations)
        if leaves.any():
            _leave(found, batch, place, leaves, iteration)
            found.converged[place] = arrived
            if leaves.all():
                break
            batch, place = batch.only(~leaves), place[~leaves]
            direction, promised = direction[~leaves], promised[~leaves]
        _advance(batch, -direction, promised, iteration)
    return found


def _begin(
    objective: Objective, theta: Theta, margins: Rows | None, history: History | None
) -> _Batch:
    margins = objective.margins(theta) if margins is None else margins
    value, residual = objective.value(margins, dots(theta[..., :-1], theta[..., :-1]))
    estimate = Preconditioner.of(objective, objective.curvature(residual))
    batch = _Batch(
        objective=objective,
        theta=theta,
        margins=margins,
        history=History.empty(theta) if history is None else history,
        value=value,
        gradient=objective.gradient(residual, theta),
        estimate=estimate,
        stuck=np.zeros(len(theta), np.bool_),
    )
    _correct(batch)
    return batch


def _room_for(objective: Objective, theta: Theta) -> Solution:
    b, k = len(theta), objective.design.classes
    return Solution(
        theta=np.empty_like(theta),
        margins=[
            np.empty((len(part.place), k, len(part.true)), theta.dtype) for part in objective.parts
        ],
        history=History.empty(theta),
        penalty=objective.penalty,
        value=np.empty(b),
        iterations=np.zeros(b, np.int64),
        converged=np.zeros(b, np.bool_),
    )


def _leave(
    found: Solution,
    batch: _Batch,
    place: NDArray[np.int64],
    leaves: NDArray[np.bool_],
    iteration: int,
) -> None:
    to = place[leaves]
    found.theta[to] = batch.theta[leaves]
    found.value[to] = batch.value[leaves]
    found.iterations[to] = iteration
    found.history.put(to, batch.history, leaves)
    for kept, part, margin in zip(found.margins, batch.objective.parts, batch.margins, strict=True):
        which = leaves[part.place]
        kept[part.origin[which]] = margin[which]


def _advance(batch: _Batch, direction: Theta, promised: Floats, iteration: int) -> None:
    """Go one step along a direction, and learn from it."""
    objective = batch.objective
    along = objective.margins(direction)
    size, residual, margins, value = _search(batch, direction, along, promised)
    if iteration in _LOOK_AGAIN:
        batch.estimate = batch.estimate.anew(objective, objective.curvature(residual))
    step = size.astype(direction.dtype)[:, np.newaxis, np.newaxis] * direction
    batch.theta = batch.theta + step
    batch.margins, batch.value, batch.stuck = margins, value, size == 0
    if iteration % _REFRESH == _REFRESH - 1:
        batch.margins = objective.margins(batch.theta)
    gradient = objective.gradient(residual, batch.theta)
    batch.history.add(step, gradient - batch.gradient)
    batch.gradient = gradient
    _correct(batch)


def _correct(batch: _Batch) -> None:
    """Scale the estimate as the newest pair says."""
    step, change = batch.history.newest
    plain = replace(batch.estimate, factor=np.ones(len(step)))
    expected = dots(change, plain.solve(change.reshape(batch.theta.shape)))
    known = expected > 0
    factor = dots(step, change) / np.where(known, expected, 1)
    batch.estimate = replace(plain, factor=np.where(known, np.clip(factor, *_FACTOR), 1.0))


def _search(
    batch: _Batch, direction: Theta, along: Rows, promised: Floats
) -> tuple[Floats, Rows, Rows, Floats]:
    """Find how far to go: one, or where the slope's secant vanishes.

    Returns:
        Sizes (b,), residuals, margins and values there.
    """
    objective = batch.objective
    weight, course = batch.theta[..., :-1], direction[..., :-1]
    square, cross, norm = dots(course, course), dots(weight, course), dots(weight, weight)
    slack = 3 * np.finfo(direction.dtype).eps * np.abs(batch.value)
    size = np.ones(len(direction))
    for trial in range(_TRIALS):
        margins = _ahead(objective, batch.margins, along, size)
        value, residual = objective.value(margins, norm + 2 * size * cross + size**2 * square)
        slope = objective.slope(residual, along) + objective.penalty * (cross + size * square)
        enough = value <= batch.value - _DECREASE * size * promised + slack
        good = (enough & (np.abs(slope) <= _SLOPE * promised)) | (size == 0)
        # The last trials take what is lower at all, and the very last stays where it is.
        if good.all() or (trial >= _TRIALS - 2 and enough.all()):
            break
        secant = size * promised / np.maximum(promised + slope, 1e-3 * promised)
        other = np.clip(secant, 0.1 * size, 4 * size)
        if trial == _TRIALS - 2:
            good, other = enough, np.zeros_like(size)
        size = np.where(good, size, other)
    return size, residual, margins, value


def _ahead(objective: Objective, margins: Rows, along: Rows, size: Floats) -> Rows:
    if (size == 1).all():
        return [at + step for at, step in zip(margins, along, strict=True)]
    far = size.astype(margins[0].dtype)[:, np.newaxis, np.newaxis]
    return [
        at + far[part.place] * step
        for part, at, step in zip(objective.parts, margins, along, strict=True)
    ]
