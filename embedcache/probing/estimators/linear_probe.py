"""The linear probe: standardised features, multinomial logistic regression, C by inner folds.

Two solvers give the same probabilities: `batched` takes all training sets at once, `sklearn` one
after the other (`tuning.solver` in the protocol). docs/explanation/probe.md compares them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import ClassAbsentError, NotConvergedError
from embedcache.probing.estimators import scikit_learn
from embedcache.probing.estimators.chosen import Chosen, Floats, softmax
from embedcache.probing.estimators.path import fit_folds
from embedcache.protocol.folds import assign_inner_folds
from embedcache.protocol.protocol import Tuning


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FittedLinearProbe:
    """A fitted probe: softmax(weight · (x - mean) / scale + bias).

    Attributes:
        mean: of each feature over the training set, (d,) float64.
        scale: its standard deviation, 1 where it is constant, (d,) float64.
        weight: (c, d) float64.
        bias: (c,) float64.
        settings: the chosen `C` and its `inner-log-loss`.
        notes: whether C lies on the border of the grid.
    """

    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats
    settings: dict[str, float]
    notes: tuple[str, ...]

    def probabilities(self, x: NDArray[np.float32]) -> Floats:
        """Class probabilities of features (k, d), (k, c) float64, rows sum to one."""
        return softmax((x - self.mean) / self.scale @ self.weight.T + self.bias)

    def state(self) -> dict[str, Floats]:
        """Arrays that give the same probabilities again, by name."""
        return {"mean": self.mean, "scale": self.scale, "weight": self.weight, "bias": self.bias}


class LinearProbe:
    """Logistic regression on standardised features; see `Estimator`."""

    name = "linear-probe"
    version = "2"

    def fit(
        self,
        x: NDArray[np.float32],
        label: NDArray[np.int16],
        cluster: NDArray[np.int64],
        train: NDArray[np.bool_],
        *,
        tuning: Tuning,
        seed: int,
    ) -> tuple[FittedLinearProbe | NotConvergedError, ...]:
        """Fit one probe a training set; see `Estimator.fit`.

        Raises:
            ClassAbsentError: if an inner training set lacks a class.
        """
        inner = inner_folds(label, cluster, train, tuning=tuning, seed=seed)
        if tuning.solver == "sklearn":
            models = tuple(
                scikit_learn.fit_one(x[rows], label[rows], fold[rows], tuning.grid)
                for rows, fold in zip(train, inner, strict=True)
            )
        else:
            models = fit_folds(x, label, train, inner, tuning.grid)
        return tuple(_fitted(model, tuning.grid) for model in models)

    def restore(self, state: dict[str, Floats]) -> FittedLinearProbe:
        """The model that a `state` was taken of; see `Estimator.restore`."""
        return FittedLinearProbe(**state, settings={}, notes=())


ESTIMATOR = LinearProbe()


def inner_folds(
    label: NDArray[np.int16],
    cluster: NDArray[np.int64],
    train: NDArray[np.bool_],
    *,
    tuning: Tuning,
    seed: int,
) -> NDArray[np.int64]:
    """Inner fold of each row of each training set, (F, n) int64; -1 outside.

    Raises:
        ClassAbsentError: if the rows outside an inner fold lack a class: its probability could
            not be learnt there.
    """
    classes = int(label.max()) + 1
    inner = np.full(train.shape, -1)
    for number, rows in enumerate(train):
        fold = assign_inner_folds(label[rows], cluster[rows], folds=tuning.inner_folds, seed=seed)
        for held_out in range(tuning.inner_folds):
            count = np.bincount(label[rows][fold != held_out], minlength=classes)
            if (count == 0).any():
                raise ClassAbsentError(
                    class_=int(np.argmin(count)), training=number, inner_fold=held_out
                )
        inner[number, rows] = fold
    return inner


def _fitted(
    model: Chosen | NotConvergedError, grid: tuple[float, ...]
) -> FittedLinearProbe | NotConvergedError:
    if isinstance(model, NotConvergedError):
        return model
    return FittedLinearProbe(
        mean=model.mean,
        scale=model.scale,
        weight=model.weight,
        bias=model.bias,
        settings={"C": model.c, "inner-log-loss": float(model.inner_loss.min())},
        notes=border_note("C", model.c, grid),
    )


def border_note(name: str, value: float, grid: tuple[float, ...]) -> tuple[str, ...]:
    """Say that the best value of a setting lies on the grid's border, if it does."""
    if len(grid) > 1 and value in {grid[0], grid[-1]}:
        border = "smallest" if value == grid[0] else "largest"
        wider = "a wider tuning.grid may do better"
        return (f"the best {name} is the {border} of the grid ({value:g}); {wider}",)
    return ()
