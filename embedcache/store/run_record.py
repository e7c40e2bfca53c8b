"""The run under way: what is written of it, and what has come since."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedcache.store.feature_set import Run, Throughput


class RunRecord:
    """A run, and rows that failed since it was last written.

    Attributes:
        run: as it was written, or is about to be.
    """

    def __init__(self, run: Run) -> None:
        """See the class."""
        self.run = run
        self._failed = _sets(run.failed)

    @property
    def behind(self) -> bool:
        """Whether a row failed that is not in `run` yet."""
        return self._failed != _sets(self.run.failed)

    def fail(self, row: int, reason: str) -> None:
        """Note that a row could not be encoded."""
        self._failed.setdefault(reason, set()).add(row)

    def halve(self, rows: NDArray[np.int64], most: int) -> None:
        """Note rows, (k,) int64, that forward passes of `most` pictures encoded."""
        halved = dict(self.run.halved or {})
        halved[str(most)] = tuple(sorted({*halved.get(str(most), ()), *rows.tolist()}))
        self.run = replace(self.run, halved=halved)

    def finish(self, rate: float, throughput: Throughput | None) -> None:
        """Note images a second, and where the time went."""
        self.run = replace(self.run, rate=rate, throughput=throughput)

    def settle(self) -> Run:
        """The run with all that failed, to be written now."""
        failed = {reason: tuple(sorted(rows)) for reason, rows in sorted(self._failed.items())}
        self.run = replace(self.run, failed=failed)
        return self.run


def _sets(failed: dict[str, tuple[int, ...]]) -> dict[str, set[int]]:
    return {reason: set(rows) for reason, rows in failed.items()}
