"""The one writer of a feature set: vectors durable, then `done`, then anything is reported."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedcache.provenance import Provenance


class FeatureLease:
    """The right to write one feature set, while its context is open.

    Attributes:
        feature_id: of the contract.
        name: of the feature set, as its first run wrote it.
        batch: images a batch, of the first run.
        done: which images have a sound vector, (n,) bool; follows `flush`.
        damaged: rows that were done and whose vectors are lost, (k,) int64; no longer in `done`.
    """

    feature_id: str
    name: str
    batch: int
    done: NDArray[np.bool_]
    damaged: NDArray[np.int64]

    def __enter__(self) -> Self:
        raise NotImplementedError

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Flush, seal the feature set and give the lease back, also after an error."""
        raise NotImplementedError

    def start_run(self, provenance: Provenance) -> str:
        """Record who computes from here on; returns the run id. Needed before `put` and `fail`."""
        raise NotImplementedError

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Hand over vectors, (k,) rows and (k, dim); written when a chunk is full or time is up.

        Raises:
            VectorsUnusableError: if a vector is not finite, in float32 or as stored.
            RowsDifferError: if a row is done with another vector.
            LeaseLostError: if another process has taken the lease over.
        """
        raise NotImplementedError

    def fail(self, row: int, reason: str) -> None:
        """Record that a row could not be encoded; `reason` is a short phrase without any path."""
        raise NotImplementedError

    def flush(self) -> None:
        """Make everything handed over durable: vectors, then `done`, then failures."""
        raise NotImplementedError

    def finish(self, rate: float) -> None:
        """Flush, and record the run's images a second."""
        raise NotImplementedError
