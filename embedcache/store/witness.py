"""A store read by its meaning and hashed in the same go: no chunk is read twice.

`verify` asks of every chunk what its rows are and what its sha256 is. The first is a reader's
question, and is asked through this; the second is answered on the side, by threads that hash while
the reader goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from embedcache.errors import DamagedStoreError
from embedcache.store.layout import DOCUMENT
from embedcache.store.objects import (
    Proof,
    Root,
    children,
    fetch,
    files_below,
    object_size,
    proof_of,
    proof_on_disk,
    read_object,
)

#: Bytes of chunks that may wait for each thread that has nothing else to do.
WAITING = 1 << 25


class Witness:
    """The objects of a store, and what its chunks were when they were read; an `Elsewhere`."""

    def __init__(
        self,
        root: Root,
        pool: ThreadPoolExecutor,
        *,
        idle: int = 0,
        on_chunk: Callable[[], None] = lambda: None,
    ) -> None:
        """See the class.

        Args:
            root: where the store is read.
            pool: hashes what its idle threads have time for; the rest whoever read it does.
            idle: how many of its threads read nothing.
            on_chunk: called when a chunk is read for the first time; by one thread at a time.
        """
        self._root = root
        self._pool = pool
        self._most_waiting = idle * WAITING
        self._on_chunk = on_chunk
        self._seen: dict[str, Future[Proof]] = {}
        self._size: dict[str, int | None] = {}
        self._waiting = 0
        self._guard = threading.Lock()

    def __contains__(self, key: object) -> bool:
        return key in self._seen

    @property
    def name(self) -> str:
        """What messages call the store."""
        return self._root.name

    def size(self, key: str) -> int | None:
        """Bytes of an object when it was first asked for; see `object_size`."""
        if key not in self._size:
            self._size[key] = object_size(self._root, key)
        return self._size[key]

    def read(self, key: str) -> bytes:
        """An object's bytes; a chunk's are hashed, the first time.

        Raises:
            DamagedStoreError: if it is not there, or is not what its size said.
        """
        document = key.endswith(DOCUMENT)
        data = read_object(self._root, key, size=None if document else self.size(key))
        if data is None:
            raise DamagedStoreError(key, "it is missing")
        # A document elsewhere may be known without asking (`layout.FIXED`): that is no look at it.
        if not document:
            self._note(key, data)
        return data

    def proof(self, key: str) -> Proof | None:
        """What an object is: as it was read, else as it lies there now."""
        seen = self._seen.get(key)
        return proof_on_disk(self._root, key) if seen is None else seen.result()

    def children(self, node: str) -> tuple[str, ...]:
        """See `objects.children`."""
        return children(self._root, node)

    def keys(self, node: str) -> Iterator[str]:
        """See `objects.files_below`."""
        return files_below(self._root, node)

    def fetch(self, keys: Iterable[str]) -> None:
        """See `objects.fetch`."""
        fetch(self._root, keys)

    def _note(self, key: str, data: bytes) -> None:
        with self._guard:
            if key in self._seen:
                return
            proof = self._seen[key] = Future[Proof]()
            here = self._waiting + len(data) > self._most_waiting
            self._waiting += 0 if here else len(data)
            self._on_chunk()
        if here:
            proof.set_result(proof_of(data))
        else:
            self._pool.submit(self._hash, proof, data)

    def _hash(self, proof: Future[Proof], data: bytes) -> None:
        proof.set_result(proof_of(data))
        with self._guard:
            self._waiting -= len(data)
