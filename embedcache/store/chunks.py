"""Chunks of a store: raw little-endian numbers, then their crc32c.

Any Zarr reader reads them; we need none to do so. This format has one layout of arrays, and a
reader of all layouts would act on what a damaged or hostile `zarr.json` asks for (decision 0050).
Here a chunk is a regular file of the one right size, or it is damage, before anything is allocated.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from embedcache.errors import DamagedStoreError
from embedcache.store.layout import CHECKSUM, ArrayLayout
from embedcache.store.objects import (
    Proof,
    Proofs,
    Root,
    check_size,
    fetch,
    object_size,
    read_object_into,
    write_object,
)

#: Chunks that are asked for at once where a store is not on this machine: 48 MB of 768 dimensions.
AHEAD = 16


class Objects:
    """The arrays of a store.

    Attributes:
        root: folder of the store.
        written: proof of every chunk written through it, by key.
    """

    def __init__(self, root: Root, *, proofs: Proofs | None = None) -> None:
        """See the class.

        Args:
            root: folder of the store.
            proofs: what chunks must be, by key; without it their own checksums decide.
        """
        self.root = root
        self.written: dict[str, Proof] = {}
        self._proofs = proofs

    def read(self, layout: ArrayLayout, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows of an array, (stop - start, …).

        A missing chunk is damage, save in `done`, whose fill value is legal: there nobody wrote.

        Raises:
            DamagedStoreError: if a chunk is no file of the right size, or fails checksum or proof.
        """
        stop = layout.rows if stop is None else min(stop, layout.rows)
        chunks = range(start // layout.chunk_rows, -(-stop // layout.chunk_rows))
        there = [chunk for chunk in chunks if self._is_there(layout, chunk)]
        rows = np.empty((max(stop - start, 0), *layout.shape[1:]), layout.stored)
        if len(there) < len(chunks):
            rows[:] = layout.fill  # of `done`: no other gets here
        for chunk, whole in self.each(layout, there):
            first = chunk * layout.chunk_rows
            low, high = max(start, first), min(stop, first + layout.chunk_rows)
            rows[low - start : high - start] = whole[low - first : high - first]
        return rows.astype(layout.dtype, copy=False)

    def each(
        self, layout: ArrayLayout, chunks: Sequence[int]
    ) -> Iterator[tuple[int, NDArray[Any]]]:
        """Chunks one by one, whole and checked: (chunk_rows, …), overwritten by the next.

        Raises:
            DamagedStoreError: if a chunk is no file of the right size, or fails checksum or proof.
        """
        # One buffer that stays in the processor's cache: checksum and copy are then nearly free.
        buffer = np.empty(layout.chunk_size if chunks else 0, np.uint8)
        for number, chunk in enumerate(chunks):
            if number % AHEAD == 0:
                fetch(self.root, map(layout.key, chunks[number : number + AHEAD]))
            data = self._read_chunk(layout, chunk, buffer)
            yield chunk, data[:-CHECKSUM].view(layout.stored).reshape(-1, *layout.shape[1:])

    def write(self, layout: ArrayLayout, start: int, values: NDArray[Any]) -> None:
        """Write whole chunks, durably: `start` begins one, and `values` end one or the array.

        Raises:
            StoreAccessError: if the system refuses; a chunk is then whole, the old one or the new.
        """
        assert start % layout.chunk_rows == 0, "a chunk is written whole"
        for first in range(0, len(values), layout.chunk_rows):
            part = values[first : first + layout.chunk_rows]
            key = layout.key((start + first) // layout.chunk_rows)
            assert isinstance(self.root, Path), "what lies elsewhere is only read"
            self.written[key] = write_object(self.root, key, _chunk_bytes(layout, part))

    def _is_there(self, layout: ArrayLayout, chunk: int) -> bool:
        key = layout.key(chunk)
        size = object_size(self.root, key)
        if size is None and layout.fill is False:
            return False
        check_size(key, size, layout.chunk_size)
        return True

    def _read_chunk(
        self, layout: ArrayLayout, chunk: int, buffer: NDArray[np.uint8]
    ) -> NDArray[np.uint8]:
        """A chunk's file, in the buffer where it is one of ours."""
        key = layout.key(chunk)
        check_size(key, object_size(self.root, key), len(buffer))
        if isinstance(self.root, Path):
            read_object_into(self.root, key, buffer.data)
            data = buffer
        else:
            data = np.frombuffer(self.root.read(key), np.uint8)
            check_size(key, len(data), len(buffer))
        if self._proofs is not None:
            proof = Proof(len(data), hashlib.sha256(data.data).hexdigest())
            if proof != self._proofs.get(key):
                raise DamagedStoreError(key, "it is not what the manifest says")
        if _crc32c(data[:-CHECKSUM]) != data[-CHECKSUM:].tobytes():
            raise DamagedStoreError(layout.path, "a checksum does not hold")
        return data


def _chunk_bytes(layout: ArrayLayout, values: NDArray[Any]) -> bytes:
    """A chunk's file: rows, fill values up to the full length, crc32c."""
    rows = np.ascontiguousarray(values, layout.stored)
    if len(rows) < layout.chunk_rows:
        missing = (layout.chunk_rows - len(rows), *layout.shape[1:])
        rows = np.concatenate([rows, np.full(missing, layout.fill, layout.stored)])
    data = rows.reshape(-1).view(np.uint8)
    return b"".join((data.data, _crc32c(data)))


def _crc32c(data: NDArray[np.uint8]) -> bytes:
    """As Zarr's codec stores it: little-endian."""
    return struct.pack("<I", google_crc32c.value(data))
