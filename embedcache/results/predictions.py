"""Predictions: class probabilities, a row per (image, encoder, arm, cohort, fold)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.results.record import Maker


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """What one encoder in one arm says of one cohort; all that evaluation reads.

    Attributes:
        encoder: reference without weights, with `#ID` where two feature ids share it.
        maker: encoder, arm and whatever else made them.
        cohort: name of the cohort whose images these are.
        classes: what `label`, `predicted` and the columns of `probability` index.
        image: digest of each row's image, (n, 32) uint8; for foreign tables sha256 of its name.
        label: true class, (n,) int16.
        cluster: patient cluster, (n,) int64, numbered by its smallest digest within the cohort.
        predicted: class predicted, (n,) int16.
        probability: (n, c) float64, rows sum to one; None where a table has labels only.
        fold: the outer fold whose model predicts, (n,) int8; -1: a model of all training data.
        strata: text value of each stratum by name, (n,) str.
    """

    maker: Maker
    cohort: str
    classes: tuple[str, ...]
    image: NDArray[np.uint8]
    label: NDArray[np.int16]
    cluster: NDArray[np.int64]
    predicted: NDArray[np.int16]
    probability: NDArray[np.float64] | None
    fold: NDArray[np.int8]
    strata: dict[str, NDArray[np.str_]]
