"""Reading vectors: chunk by chunk, checked, never a row that is not finite."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Contract
from embedcache.errors import DamagedRowsError, DamagedStoreError, ElsewhereDamagedError
from embedcache.store.chunks import Objects
from embedcache.store.layout import VECTOR_ROWS, ArrayLayout, vectors_array
from embedcache.store.objects import Proofs, Root, object_size

#: Bytes of vectors that a content digest holds in memory at once.
DIGEST_MEMORY = 1 << 29


class Vectors:
    """The vectors array of one feature set."""

    def __init__(
        self, root: Root, contract: Contract, rows: int, *, name: str, proofs: Proofs | None = None
    ) -> None:
        """See the class.

        Args:
            root: folder of the store.
            contract: of the feature set.
            rows: that the array spans.
            name: of the feature set, for messages.
            proofs: what chunks must be; without it their own checksums decide.
        """
        self.layout: ArrayLayout = vectors_array(contract, rows)
        self._root = root
        self._name = name
        self._objects = Objects(root, proofs=proofs)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Vectors in the order asked, (k, dim) of the stored dtype.

        Raises:
            DamagedRowsError: if one is gone, not finite, or its chunk's checksum fails.
        """
        self._check_there(rows)
        if _in_a_row(rows):
            with self._naming(rows):  # the common case, without a copy
                out = self._objects.read(self.layout, int(rows[0]), int(rows[-1]) + 1)
            self._check_finite(out, rows)
        else:
            out = np.empty((len(rows), self.layout.width or 1), self.layout.dtype)
            self._gather(rows, out)
        return out

    def read_into(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """The same, into an array (k, dim) that need not be contiguous."""
        self._check_there(rows)
        self._gather(rows, out)

    def _gather(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        finite = True
        order = np.argsort(rows, kind="stable")
        chunks, begin = np.unique(rows[order] // VECTOR_ROWS, return_index=True)
        places = iter(np.split(order, begin[1:]))
        with self._naming(rows):
            for chunk, whole in self._objects.each(self.layout, chunks.tolist()):
                place = next(places)
                index = rows[place] - chunk * VECTOR_ROWS
                # A slice is no copy, and whoever reads a whole set asks for whole chunks.
                wanted = slice(index[0], index[-1] + 1) if _in_a_row(index) else index
                part = whole[wanted]
                out[place] = part
                finite &= bool(np.isfinite(part).all())  # while it is in the processor's cache
        if not finite:
            self._check_finite(out, rows)

    def damaged(self, done: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Rows that are done and have no sound vector, ascending, (k,) int64."""
        bad = np.zeros(len(done), np.bool_)
        for chunk in np.unique(np.flatnonzero(done) // VECTOR_ROWS).tolist():
            part = slice(chunk * VECTOR_ROWS, min((chunk + 1) * VECTOR_ROWS, len(done)))
            try:
                block = self._objects.read(self.layout, part.start, part.stop)
                bad[part] = ~np.isfinite(block).all(axis=1)
            except DamagedStoreError:
                bad[part] = True
        return np.flatnonzero(bad & done)

    @contextmanager
    def _naming(self, rows: NDArray[np.int64]) -> Iterator[None]:
        """Turn damage to chunks into damage to those of the rows that it costs."""
        try:
            yield
        except ElsewhereDamagedError:
            raise  # encoding again mends nothing that lies elsewhere
        except DamagedStoreError as error:
            asked = np.zeros(self.layout.rows, np.bool_)
            asked[rows] = True
            raise self._damage(self.damaged(asked), error.problem) from error

    def _check_there(self, rows: NDArray[np.int64]) -> None:
        # Before anything is allocated: a stranger's store may claim any dimension.
        for chunk in np.unique(rows // VECTOR_ROWS).tolist():
            try:
                size = object_size(self._root, self.layout.key(chunk))
            except DamagedStoreError as error:
                lost = rows[rows // VECTOR_ROWS == chunk]
                raise self._damage(lost, error.problem) from error
            if size != self.layout.chunk_size:
                problem = "a chunk is missing" if size is None else "a chunk has the wrong size"
                raise self._damage(rows[rows // VECTOR_ROWS == chunk], problem)

    def _check_finite(self, vectors: NDArray[Any], rows: NDArray[np.int64]) -> None:
        if not np.isfinite(vectors).all():
            bad = ~np.isfinite(vectors).all(axis=1)
            raise self._damage(rows[bad], "the vector is gone or not finite")

    def _damage(self, rows: NDArray[np.int64], problem: str) -> DamagedRowsError:
        return DamagedRowsError(self._name, tuple(np.unique(rows).tolist()), problem)


def _in_a_row(rows: NDArray[np.int64]) -> bool:
    return bool(len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all())


def content_digest(vectors: Vectors, digest: NDArray[np.uint8], rows: NDArray[np.int64]) -> str:
    """Sha256 over rows in digest order: image digest, then vector bytes, little-endian.

    The same whatever the layout, the order of rows or the run that wrote them; for papers to cite.

    Args:
        vectors: of one feature set.
        digest: of all images, (n, 32) uint8.
        rows: done rows, (k,) int64.
    """
    # `S32` compares as the bytes do: what numpy strips from a fixed length, zeros, sorts first.
    order = rows[np.argsort(np.ascontiguousarray(digest[rows]).view("S32").ravel())]
    width = vectors.layout.width or 1
    dtype = np.dtype(vectors.layout.dtype).newbyteorder("<")
    row_size = 32 + width * dtype.itemsize
    most = max(DIGEST_MEMORY // row_size, 1)
    sha = hashlib.sha256()
    for start in range(0, len(order), most):
        part = order[start : start + most]
        text = np.empty((len(part), row_size), np.uint8)
        text[:, :32] = digest[part]
        vectors.read_into(part, text[:, 32:].view(dtype))
        sha.update(text.data)
    return sha.hexdigest()
