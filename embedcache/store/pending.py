"""Vectors that were handed over and are not durable yet, chunk by chunk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Contract
from embedcache.errors import VectorsUnusableError
from embedcache.store.chunks import Objects
from embedcache.store.layout import VECTOR_ROWS, ArrayLayout


@dataclass(kw_only=True, slots=True, eq=False)
class PendingChunk:
    """A chunk in memory: what is on disk, and what was put since.

    Attributes:
        vectors: (VECTOR_ROWS, dim) of the stored dtype; NaN where none is.
        done: where one is, (VECTOR_ROWS,) bool.
        changed: whether something was put that is not on disk.
    """

    vectors: NDArray[Any]
    done: NDArray[np.bool_]
    changed: bool = False

    def place(self, index: NDArray[np.int64], vectors: NDArray[Any]) -> bool:
        """Set vectors where none is; False if a row has another, to the bit."""
        fresh = ~self.done[index]
        self.vectors[index[fresh]] = vectors[fresh]
        self.done[index] = True
        self.changed |= bool(fresh.any())
        return self.vectors[index].tobytes() == vectors.tobytes()


def pending_chunk(
    objects: Objects, layout: ArrayLayout, number: int, done: NDArray[np.bool_]
) -> PendingChunk:
    """A chunk as it lies on disk.

    Args:
        objects: reads it.
        layout: of the vectors.
        number: of the chunk.
        done: which of its rows are, (k,) bool; fewer than a chunk at the end of the array.

    Raises:
        DamagedStoreError: if its checksum fails.
    """
    start, known = number * VECTOR_ROWS, np.zeros(VECTOR_ROWS, np.bool_)
    known[: len(done)] = done
    vectors = np.full((VECTOR_ROWS, *layout.shape[1:]), np.nan, layout.dtype)
    if known.any():
        old = objects.read(layout, start, start + VECTOR_ROWS)
        vectors[known] = old[known[: len(old)]]
    return PendingChunk(vectors=vectors, done=known)


def as_stored(
    name: str, contract: Contract, rows: NDArray[np.int64], vectors: NDArray[np.float32]
) -> NDArray[Any]:
    """Vectors (k, dim) in the dtype of the contract.

    Raises:
        VectorsUnusableError: if one is not finite there; names the rows, (k,) int64.
    """
    assert vectors.shape == (len(rows), contract.dim), "a vector a row"
    with np.errstate(over="ignore"):  # what overflows is refused below
        stored = vectors.astype(contract.dtype, copy=False)
    bad = ~np.isfinite(stored).all(axis=1)
    if bad.any():
        finite = np.isfinite(vectors[bad]).all()
        problem = f"too large for {contract.dtype}" if finite else "not finite"
        raise VectorsUnusableError(name, tuple(rows[bad].tolist()), problem)
    return stored
