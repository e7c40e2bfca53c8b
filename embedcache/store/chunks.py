"""Chunks of a store through zarr-python, which acts on our documents and on no file's.

A damaged or hostile `zarr.json` can ask for terabytes, other codecs or other fill values. So
`Objects`, the store that zarr sees, answers for array metadata itself, with documents that were
made by us or compared with what we would make; and it reads chunks of the one right size only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from embedcache.errors import DamagedStoreError
from embedcache.store.layout import DOCUMENT, ArrayLayout
from embedcache.store.objects import Proof, Proofs, proof_of, read_object, write_object


class Objects(Store):
    """Some arrays of a store as zarr-python sees them.

    Attributes:
        root: folder of the store.
        written: proof of every chunk written through it, by key.
    """

    def __init__(
        self,
        root: Path,
        arrays: Iterable[ArrayLayout],
        *,
        proofs: Proofs | None = None,
    ) -> None:
        """See the class.

        Args:
            root: folder of the store.
            arrays: the arrays that zarr may open, of checked or intended shape.
            proofs: what chunks must be, by key; without it their own checksums decide.
        """
        super().__init__(read_only=False)
        self.root = root
        self.written: dict[str, Proof] = {}
        self._arrays = {layout.path: layout for layout in arrays}
        self._proofs = proofs

    def read(self, layout: ArrayLayout, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Rows of an array; missing chunks come as fill values, which are never legal.

        Raises:
            DamagedStoreError: if a chunk has the wrong size, or fails its checksum or proof.
        """
        try:
            return self._array(layout)[start:stop]  # type: ignore[return-value]  # zarr's union
        except ValueError as error:  # zarr's own word for a checksum that does not hold
            raise DamagedStoreError(layout.path, "a checksum does not hold") from error

    def write(self, layout: ArrayLayout, start: int, values: NDArray[Any]) -> None:
        """Write whole chunks: `start` begins one, and `values` end one or the array."""
        self._array(layout)[start : start + len(values)] = values

    def _array(self, layout: ArrayLayout) -> zarr.Array[Any]:
        # An empty chunk is kept: looking for one costs a comparison of every chunk.
        config = {"write_empty_chunks": True}
        return zarr.open_array(store=self, path=layout.path, mode="r+", config=config)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Objects) and (self.root, self._arrays, self._proofs) == (
            other.root,
            other._arrays,
            other._proofs,
        )

    __hash__ = None  # type: ignore[assignment]  # it holds dicts

    def _get(self, key: str) -> bytes | None:
        path, _, name = key.rpartition("/")
        if name == DOCUMENT:
            return self._arrays[path].document() if path in self._arrays else None
        layout = self._arrays.get(key.rpartition("/c/")[0])
        if layout is None:
            return None
        data = read_object(self.root, key, size=layout.chunk_size)
        if (
            data is not None
            and self._proofs is not None
            and proof_of(data) != self._proofs.get(key)
        ):
            raise DamagedStoreError(key, "it is not what the manifest says")
        return data

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """A document of ours, or a chunk from disk."""
        assert byte_range is None, "chunks are read whole"
        data = await asyncio.to_thread(self._get, key)
        factory = prototype or default_buffer_prototype()
        return None if data is None else factory.buffer.from_bytes(data)

    async def set(self, key: str, value: Buffer) -> None:
        """Write a chunk; durable when this returns."""
        self.written[key] = await asyncio.to_thread(write_object, self.root, key, value.to_bytes())

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Whole objects only."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def exists(self, key: str) -> bool:
        """Whether `get` would find it."""
        return self._get(key) is not None

    async def delete(self, key: str) -> None:
        """Nothing is deleted through zarr."""
        raise NotImplementedError

    @property
    def supports_writes(self) -> bool:
        """Chunks can be written."""
        return True

    @property
    def supports_deletes(self) -> bool:
        """Nothing is deleted through zarr."""
        return False

    @property
    def supports_listing(self) -> bool:
        """Arrays are opened by name."""
        return False

    def list(self) -> AsyncIterator[str]:
        """Not offered."""
        raise NotImplementedError

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Not offered."""
        raise NotImplementedError(prefix)

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Not offered."""
        raise NotImplementedError(prefix)
