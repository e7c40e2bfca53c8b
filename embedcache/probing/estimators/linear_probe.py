"""The linear probe: standardised features, multinomial logistic regression, C by inner folds.

Two solvers give the same probabilities: `batched` takes all training sets at once, `sklearn` one
after the other (`tuning.solver` in the protocol). docs/explanation/probe.md compares them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import NotConvergedError
from embedcache.probing.estimators import scikit_learn
from embedcache.probing.estimators.chosen import Chosen, Floats, softmax
from embedcache.probing.estimators.inner import inner_folds
from embedcache.probing.estimators.path import fit_folds
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

    def restore(self, state: Mapping[str, NDArray[Any]]) -> FittedLinearProbe:
        """The model that a `state` was taken of; see `Estimator.restore`."""
        return FittedLinearProbe(**state, settings={}, notes=())


ESTIMATOR = LinearProbe()


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
        notes=_border_note(model.c, grid),
    )


def _border_note(c: float, grid: tuple[float, ...]) -> tuple[str, ...]:
    if len(grid) > 1 and c in {grid[0], grid[-1]}:
        border = "smallest" if c == grid[0] else "largest"
        wider = "a wider tuning.grid may do better"
        return (f"the best C is the {border} of the grid ({c:g}); {wider}",)
    return ()
