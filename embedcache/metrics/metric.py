"""A metric: a number from confusion counts or from probabilities, for many draws at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
#: On which scale an interval is symmetric (statistics: logit in [0, 1], log for losses).
Scale = Literal["logit", "log", "atanh", "identity"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CountMetric:
    """A metric of the confusion counts alone.

    Attributes:
        name: as in tables and on the command line, `macro-f1`.
        title: as people write it, `Macro-F1`.
        scale: of its interval.
        better: whether more or less of it is better.
        from_confusion: (…, c, c) counts, rows true and columns predicted -> (…,) values; NaN where
            undefined. Callers have already reduced the classes to those that occur.
    """

    name: str
    title: str
    scale: Scale
    better: Literal["higher", "lower"]
    from_confusion: FromConfusion


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreMetric:
    """A metric of the class probabilities.

    Attributes:
        name, title, scale, better: as in `CountMetric`.
        from_scores: probability (n, c), label (n,), weight (draws, n) -> (draws,) values; NaN
            where undefined.
    """

    name: str
    title: str
    scale: Scale
    better: Literal["higher", "lower"]
    from_scores: FromScores


Metric = CountMetric | ScoreMetric


class FromConfusion(Protocol):
    """See `CountMetric.from_confusion`."""

    def __call__(self, confusion: Floats) -> Floats:
        """Value of each table of counts."""


class FromScores(Protocol):
    """See `ScoreMetric.from_scores`."""

    def __call__(self, probability: Floats, label: NDArray[np.int16], weight: Floats) -> Floats:
        """Value under each draw's weights."""
