"""Tuning and refit of all training sets at once: `fit_folds`, the heart of the linear probe.

C goes from strong to weak penalty. Every inner problem starts from where its last two optima point
and keeps the pairs it has learnt; a training set leaves once its pooled held-out loss has had no
new minimum for two values of C, since weak penalties cost most and are then never chosen. The
refits start from the mean of their inner optima.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import NotConvergedError
from embedcache.probing.estimators import scikit_learn
from embedcache.probing.estimators.chosen import RISES, Chosen, Floats, summed_loss
from embedcache.probing.estimators.descent import Solution, minimise
from embedcache.probing.estimators.design import Design, Matrix
from embedcache.probing.estimators.history import History
from embedcache.probing.estimators.objective import Objective, Part, Rows, Theta


@dataclass(frozen=True, kw_only=True, slots=True)
class _Precision:
    """How near its minimum a fit must come, relatively, and what that is computed in.

    Half of gradient · step, which is compared with it, is up to ten times less than what is left.

    Attributes:
        dtype: float32 multiplies twice as fast, and cannot tell less than about 1e-7.
        inner: of fits that only choose C.
        refit: of what is reported.
    """

    dtype: type[np.floating]
    inner: float
    refit: float


#: Inner losses come out within some 0.3 % of exact ones, refits within 2e-6 of their minimum.
_MANY_ROWS = _Precision(dtype=np.float32, inner=3e-5, refit=1e-7)
#: Where rows are few each of them moves the fit, the same distance from the minimum changes more,
#: and mending that takes no time.
_FEW_ROWS = _Precision(dtype=np.float64, inner=1e-6, refit=1e-10)
_FEW = 500
_ITERATIONS = 500
#: How far an inner fit starts ahead of its last optimum, in steps from the one before.
_AHEAD = 0.7


def fit_folds(
    x: NDArray[np.float32],
    label: NDArray[np.int16],
    train: NDArray[np.bool_],
    inner: NDArray[np.int64],
    grid: tuple[float, ...],
) -> tuple[Chosen | NotConvergedError, ...]:
    """Choose C for each training set on its inner folds, and fit all of it at that C.

    A fit that stops short is made again by scikit-learn in float64.

    Args:
        x: features, (n, d) float32.
        label: class of each row, (n,) int16, from 0; each inner training set has every class.
        train: the training sets, (F, n) bool.
        inner: inner fold of each training row, (F, n) int64; -1 elsewhere.
        grid: values of C, rising.
    """
    precision = _FEW_ROWS if train.any(axis=0).sum() < _FEW else _MANY_ROWS
    matrix = Matrix.of(x, label, train, dtype=precision.dtype)
    tuning = _Tuning.of(matrix, inner[:, matrix.order], grid, precision)
    for index in range(len(grid)):
        if tuning.active.any():
            tuning.advance(index)
    return _refit(matrix, tuning)


@dataclass(kw_only=True, slots=True, eq=False)
class _Best:
    """Where the refit of a training set starts from: its inner optima at the best C so far."""

    at: int
    theta: Theta
    history: History
    penalty: float


@dataclass(kw_only=True, slots=True, eq=False)
class _Tuning:
    """Inner problems on their way along the grid; problem f * folds + k leaves out fold k of f."""

    matrix: Matrix
    design: Design
    grid: tuple[float, ...]
    precision: _Precision
    folds: int
    inner: NDArray[np.int64]
    loss: Floats
    active: NDArray[np.bool_]
    best: list[_Best | None]
    failed: dict[int, NotConvergedError] = field(default_factory=dict)
    last: Solution | None = None
    ahead: tuple[Theta, Rows] | None = None

    @classmethod
    def of(
        cls,
        matrix: Matrix,
        inner: NDArray[np.int64],
        grid: tuple[float, ...],
        precision: _Precision,
    ) -> _Tuning:
        sets, folds = len(inner), int(inner.max()) + 1
        outer = np.repeat(np.arange(sets), folds)
        fold = np.tile(np.arange(folds), sets)
        learns = matrix.train[outer] & (inner[outer] != fold[:, np.newaxis])
        return cls(
            matrix=matrix,
            design=matrix.design(learns, outer, int(matrix.label.max()) + 1),
            grid=grid,
            precision=precision,
            folds=folds,
            inner=inner,
            loss=np.full((sets, len(grid)), np.inf),
            active=np.ones(sets, np.bool_),
            best=[None] * sets,
        )

    def advance(self, index: int) -> None:
        """Solve every problem that is left at the next C, and see which training sets go on."""
        problem = np.flatnonzero(np.repeat(self.active, self.folds))
        c = np.full(len(problem), self.grid[index])
        objective = Objective.of(self.design, problem, c)
        theta, margins, history = self._start(objective)
        found = minimise(
            objective,
            theta,
            margins=margins,
            history=history,
            tolerance=self.precision.inner,
            iterations=_ITERATIONS,
        )
        self._judge(index, objective, found)
        before = self.last
        goes_on = index - self.loss.argmin(axis=1) < RISES
        goes_on[list(self.failed)] = False
        keep = np.repeat(goes_on[self.active], self.folds)
        self.active &= goes_on
        self.last = _only(found, objective.parts, keep)
        self.ahead = None
        if before is not None:
            old = _only(before, objective.parts, keep)
            self.ahead = _beyond(self.last, old)

    def _start(self, objective: Objective) -> tuple[Theta, Rows | None, History | None]:
        if self.last is None:
            return _prior(self.design), None, None
        history = self.last.history.only(np.arange(len(objective.problem)))
        history.carry(objective.penalty - self.last.penalty, self.last.theta.shape)
        theta, margins = self.ahead or (self.last.theta, self.last.margins)
        return theta, margins, history

    def _judge(self, index: int, objective: Objective, found: Solution) -> None:
        """Take the pooled held-out losses of one C, and keep what is best so far."""
        loss = _held_out_losses(self, objective, found)
        for place in np.flatnonzero(~found.converged):
            outer, fold = divmod(int(objective.problem[place]), self.folds)
            rows = self.matrix.train[outer]
            x, label = self.matrix.x[rows], self.matrix.label[rows]
            held_out = self.inner[outer, rows] == fold
            try:
                at = self.grid[index]
                loss[place] = scikit_learn.held_out_loss(x, label, held_out, at, dtype=np.float64)
            except NotConvergedError as error:
                self.failed[outer] = error
        pooled = loss.reshape(-1, self.folds).sum(axis=1)
        for row, number in enumerate(np.flatnonzero(self.active).tolist()):
            self.loss[number, index] = pooled[row] / self.matrix.train[number].sum()
            if self.loss[number].argmin() == index:
                inner = slice(row * self.folds, (row + 1) * self.folds)
                self.best[number] = _Best(
                    at=number,
                    theta=found.theta[inner].mean(axis=0),
                    history=found.history.only(np.array([inner.start])),
                    penalty=float(found.penalty[inner.start]),
                )


def _prior(design: Design) -> Theta:
    """No weights, and the logarithm of the class shares for bias."""
    problems, features = design.scale.shape
    theta = np.zeros((problems, design.classes - 1, features + 1), design.scale.dtype)
    share = np.zeros((problems, design.classes))
    for block in design.blocks:
        own = block.label[:, np.newaxis] == np.arange(design.classes)
        share[block.problem] += block.weight @ own
    theta[..., -1] = np.log(share) @ design.contrast
    return theta


def _held_out_losses(tuning: _Tuning, objective: Objective, found: Solution) -> Floats:
    """Summed log loss of the rows that each problem leaves out, (b,) float64."""
    loss = np.zeros(len(objective.problem))
    edges = tuning.matrix.edges
    for part, margins, start in zip(objective.parts, found.margins, edges, strict=False):
        rows = slice(int(start), int(start) + len(part.true))
        label = tuning.matrix.label[rows]
        for place, margin in zip(part.place, margins, strict=True):
            outer, fold = divmod(int(objective.problem[place]), tuning.folds)
            out = np.flatnonzero(tuning.inner[outer, rows] == fold)
            loss[place] += summed_loss(margin[:, out].T.astype(np.float64), label[out])
    return loss


def _only(found: Solution, parts: tuple[Part, ...], keep: NDArray[np.bool_]) -> Solution:
    """Without the problems that are not kept, (b,) bool."""
    return Solution(
        theta=found.theta[keep],
        margins=[
            margin[keep[part.place]] for part, margin in zip(parts, found.margins, strict=True)
        ],
        history=found.history.only(keep),
        penalty=found.penalty[keep],
        value=found.value[keep],
        iterations=found.iterations[keep],
        converged=found.converged[keep],
    )


def _beyond(last: Solution, before: Solution) -> tuple[Theta, Rows]:
    """Where two optima point to; margins are linear, so theirs follow."""
    ahead = last.theta.dtype.type(_AHEAD)
    margins: Rows = [
        new + ahead * (new - old) for new, old in zip(last.margins, before.margins, strict=True)
    ]
    return last.theta + ahead * (last.theta - before.theta), margins


def _refit(matrix: Matrix, tuning: _Tuning) -> tuple[Chosen | NotConvergedError, ...]:
    """Fit whole training sets at the C chosen for each."""
    models: dict[int, Chosen | NotConvergedError] = {**tuning.failed}
    number = np.array([k for k in range(len(matrix.train)) if k not in models], np.int64)
    if len(number):
        design = matrix.design(
            matrix.train,
            np.arange(len(matrix.train)),
            tuning.design.classes,
            correlation=tuning.design.correlation,
        )
        best = [start for start in tuning.best if start is not None and start.at not in models]
        c = np.array(tuning.grid)[tuning.loss[number].argmin(axis=1)]
        objective = Objective.of(design, number, c)
        theta = np.stack([start.theta for start in best])
        history = _joined([start.history for start in best])
        history.carry(objective.penalty - [start.penalty for start in best], theta.shape)
        found = minimise(
            objective,
            theta,
            history=history,
            tolerance=tuning.precision.refit,
            iterations=_ITERATIONS,
        )
        for place, at in enumerate(number.tolist()):
            if found.converged[place]:
                models[at] = _chosen(matrix, design, at, found.theta[place], c[place], tuning)
            else:
                models[at] = _exact(matrix, at, c[place], tuning)
    return tuple(models[at] for at in range(len(matrix.train)))


def _joined(histories: list[History]) -> History:
    return History(
        step=np.concatenate([history.step for history in histories]),
        change=np.concatenate([history.change for history in histories]),
        product=np.concatenate([history.product for history in histories]),
    )


def _chosen(
    matrix: Matrix, design: Design, at: int, theta: Theta, c: float, tuning: _Tuning
) -> Chosen:
    logit = design.contrast.astype(np.float64) @ theta.astype(np.float64)
    scale = design.scale[at].astype(np.float64)
    return Chosen(
        c=float(c),
        inner_loss=tuning.loss[at],
        mean=matrix.centre.astype(np.float64) + design.shift[at],
        scale=np.where(scale == 0, 1.0, 1 / np.where(scale == 0, 1.0, scale)),
        weight=logit[:, :-1],
        bias=logit[:, -1],
    )


def _exact(matrix: Matrix, at: int, c: float, tuning: _Tuning) -> Chosen | NotConvergedError:
    """Fit one training set by scikit-learn, in float64."""
    rows = matrix.train[at]
    try:
        model = scikit_learn.refit(
            matrix.x[rows], matrix.label[rows], float(c), tuning.loss[at], dtype=np.float64
        )
    except NotConvergedError as error:
        return error
    return replace(model, mean=model.mean + matrix.centre)
