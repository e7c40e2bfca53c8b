"""What a solver gives for one training set, whichever solver it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: The path over C ends after so many values without a new minimum.
RISES = 2
#: Smallest probability in a log loss (statistics.md section 2).
CLIP = 1e-15


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chosen:
    """A model of softmax(weight · (x - mean) / scale + bias), its C chosen on inner folds.

    Attributes:
        c: the inverse penalty chosen.
        inner_loss: log loss of each C of the grid, pooled over the rows of all inner folds,
            (len(grid),) float64; infinite beyond the end of the path.
        mean: of each feature over the training set, (d,) float64.
        scale: its standard deviation, 1 where it is constant, (d,) float64.
        weight: (classes, d) float64.
        bias: (classes,) float64.
    """

    c: float
    inner_loss: Floats
    mean: Floats
    scale: Floats
    weight: Floats
    bias: Floats


def softmax(logit: Floats) -> Floats:
    """Probabilities of logits (n, classes)."""
    power = np.exp(logit - logit.max(axis=1, keepdims=True))
    return np.asarray(power / power.sum(axis=1, keepdims=True))


def summed_loss(logit: Floats, label: NDArray[np.int64] | NDArray[np.int16]) -> float:
    """Log loss of logits (n, classes), summed over rows; probabilities clipped."""
    true = softmax(logit)[np.arange(len(label)), label]
    return float(-np.log(np.maximum(true, CLIP)).sum())
