"""What an estimator is: it learns classes from features, for many training sets in one call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import NotConvergedError
from embedcache.protocol.protocol import Tuning


class Fitted(Protocol):
    """One fitted model.

    Attributes:
        settings: what was chosen, by name (`C`); stands beside the predictions.
        notes: what whoever reads the numbers should know, sentences without their subject.
    """

    settings: dict[str, float]
    notes: tuple[str, ...]

    def probabilities(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Class probabilities of features (k, d), (k, c) float64, rows sum to one."""

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Arrays that give the same probabilities again, by name."""


class Estimator(Protocol):
    """A way of learning from features; one file and one entry point (`embedcache.estimators`).

    Attributes:
        name: of the arm: `linear-probe`.
        version: of the code that decides the numbers; part of every unit's name.
    """

    name: str
    version: str

    def fit(
        self,
        x: NDArray[np.float32],
        label: NDArray[np.int16],
        cluster: NDArray[np.int64],
        train: NDArray[np.bool_],
        *,
        tuning: Tuning,
        seed: int,
    ) -> tuple[Fitted | NotConvergedError, ...]:
        """Fit one model a training set, settings chosen inside each.

        Where a fit does not reach its optimum by any means its error stands in its place, with
        encoder and training set still to be named: it costs the others nothing.

        Args:
            x: features, (n, d) float32.
            label: class of each row, (n,) int16; every class occurs in every training set.
            cluster: patient cluster of each row, numbered by smallest digest, (n,) int64.
            train: the training sets, (F, n) bool.
            tuning: how settings are chosen, by inner folds over patient clusters.
            seed: of the inner folds.
        """

    def restore(self, state: Mapping[str, NDArray[Any]]) -> Fitted:
        """The model that a `state` was taken of; its settings and notes stand elsewhere."""
