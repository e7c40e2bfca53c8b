"""Which rows of the image table an encoder lacks: a byte each, where a set of numbers takes 136."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of the image table.

    Attributes:
        there: a byte for each row up to the last one held, 1 where it is.
    """

    there: bytes

    @classmethod
    def of(cls, rows: NDArray[np.int64]) -> Self:
        """Hold rows, (k,) int64, in any order."""
        there = np.zeros(int(rows.max(initial=-1)) + 1, np.bool_)
        there[rows] = True
        return cls(there.tobytes())

    def __contains__(self, row: int) -> bool:
        return row < len(self.there) and self.there[row] == 1

    def __len__(self) -> int:
        return self.there.count(1)

    def holds(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows, (k,) int64, are there: (k,) bool."""
        there = np.frombuffer(self.there, np.bool_)
        held = np.zeros(len(rows), np.bool_)
        inside = rows < len(there)
        held[inside] = there[rows[inside]]
        return held


def in_any(every: Iterable[Rows], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of these rows, (k,) int64, some of the sets hold: (k,) bool."""
    held = np.zeros(len(rows), np.bool_)
    for one in every:
        held |= one.holds(rows)
    return held
