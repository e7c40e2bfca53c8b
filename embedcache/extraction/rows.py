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


def in_any(every: Iterable[Rows], row: int) -> bool:
    """Whether some of these hold a row."""
    return any(row in rows for rows in every)
