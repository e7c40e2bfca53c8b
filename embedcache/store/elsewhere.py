"""A sealed store that is no folder here, read as its manifest was when it was opened.

Every byte is compared with the manifest before anything is made of it, so a server, a proxy or a
stick can withhold a store but not change it unnoticed. What the manifest does not name does not
exist, and costs no request; what it names is asked for once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Protocol

from embedcache.durable import write_file
from embedcache.errors import (
    ElsewhereDamagedError,
    NoStoreElsewhereError,
    ObjectTooLargeError,
    StoreChangedError,
    UnsealedElsewhereError,
)
from embedcache.store.layout import COHORTS, DOCUMENT, FEATURES, FIXED, IMAGES, MANIFEST
from embedcache.store.manifest import Manifest, list_key, proofs_of, read_manifest
from embedcache.store.objects import MOST_DOCUMENT, Proof, Proofs, proof_of

#: Largest object taken from elsewhere: a chunk of float32 vectors of 65,536 dimensions.
MOST_OBJECT = 1 << 28
#: Requests under way at once; on two cores more gained nothing over a loopback server.
PARALLEL = 8
_ROOT = f"{MANIFEST}/{DOCUMENT}"


class Transport(Protocol):
    """Fetches objects by key, without judging them."""

    @property
    def name(self) -> str:
        """What messages call the place."""

    def get(self, key: str, most: int) -> bytes | None:
        """An object of at most so many bytes; None where there is none.

        Raises:
            ObjectTooLargeError: if it is larger; nothing of it is then read.
            TransferFailedError: if the place does not answer, or refuses.
        """

    def keys(self) -> Iterable[str] | None:
        """Keys of everything at the place; None where nobody can list it."""


class StoreElsewhere:
    """The objects of a store behind a transport; an `objects.Elsewhere`.

    Attributes:
        transport: how its objects are fetched.
        document: the bytes of manifest/zarr.json that hold for all that is read.
        cache: a folder in which the processes of a command share what they fetched; None: none.
    """

    def __init__(self, transport: Transport, document: bytes, cache: Path | None = None) -> None:
        """Use `open_elsewhere`, which fetches and checks the manifest.

        Args:
            transport: how its objects are fetched.
            document: of the manifest.
            cache: see the class.
        """
        self.transport = transport
        self.document = document
        self.cache = cache
        self._proofs: dict[str, Proofs] = {}
        self._kept: dict[str, bytes] = {}
        self._ahead: dict[str, bytes] = {}
        self._guard = threading.Lock()

    def __reduce__(self) -> tuple[object, ...]:
        return StoreElsewhere, (self.transport, self.document, self.cache)

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.transport.name

    @cached_property
    def manifest(self) -> Manifest:
        """What its manifest says.

        Raises:
            DamagedStoreError: if it is no manifest.
        """
        return read_manifest(self)

    def size(self, key: str) -> int | None:
        """Bytes that an object must have; asks nobody."""
        proof = self.expected(key)
        return None if proof is None else proof.size

    def read(self, key: str) -> bytes:
        """The bytes of an object, as the manifest says they are.

        Raises:
            ElsewhereDamagedError: if they are not.
            StoreChangedError: if they are not because the store is another by now.
            TransferFailedError: if the place does not answer.
        """
        if key == _ROOT:
            return self.document
        if key in FIXED and self.expected(key) == proof_of(FIXED[key]):
            return FIXED[key]  # the same in every store: known without asking
        if key in self._kept:
            return self._kept[key]
        with self._guard:
            ahead = self._ahead.pop(key, None)
        data = self._fetched(key) if ahead is None else ahead
        if key.endswith(DOCUMENT):
            self._kept[key] = data
        return data

    def proof(self, key: str) -> Proof | None:
        """What an object is, whatever the manifest says."""
        data = self.document if key == _ROOT else self.transport.get(key, MOST_OBJECT)
        return None if data is None else proof_of(data)

    def children(self, node: str) -> tuple[str, ...]:
        """Names of the groups right below a group, sorted."""
        if node in (COHORTS, FEATURES):
            below = [name.split("/") for name in self.manifest.nodes]
            return tuple(sorted(name for kind, *names in below if kind == node for name in names))
        inside = (
            key[len(node) + 1 :]
            for key in self.node_proofs(_node_of(node))
            if key.startswith(f"{node}/")
        )
        groups = (key.split("/") for key in inside)
        return tuple(
            sorted(parts[0] for parts in groups if len(parts) == 2 and parts[1] == DOCUMENT)
        )

    def keys(self, node: str) -> Iterator[str]:
        """Keys of all objects at the place; of those that the manifest names, if it lists none."""
        there = self.transport.keys()
        if there is None:
            lists = (self.node_proofs(name) for name in self.manifest.nodes)
            there = [_ROOT, *self.manifest.objects, *(key for listed in lists for key in listed)]
        yield from (key for key in there if not node or key.startswith(f"{node}/"))

    def fetch(self, keys: Iterable[str]) -> None:
        """Fetch several objects side by side; `read` then hands them out, once each."""
        wanted = [key for key in keys if key not in self._kept and key not in self._ahead]
        if len(wanted) < 2:
            return
        pool = ThreadPoolExecutor(PARALLEL)
        try:
            for key, data in zip(wanted, pool.map(self._fetched, wanted), strict=True):
                with self._guard:
                    self._ahead[key] = data
        finally:
            pool.shutdown(cancel_futures=True)

    def node_proofs(self, node: str) -> Proofs:
        """What a node's objects must be, by key.

        Raises:
            DamagedStoreError: if its list is not what the manifest says.
        """
        if node not in self._proofs:
            self._proofs[node] = proofs_of(self, node, self.manifest) or {}
        return self._proofs[node]

    def expected(self, key: str) -> Proof | None:
        """What the manifest says that an object is; None: the store has no such object."""
        if key == _ROOT:
            return proof_of(self.document)
        if key in FIXED or key.startswith(f"{MANIFEST}/"):
            return self.manifest.objects.get(key)
        node = _node_of(key)
        if list_key(node) not in self.manifest.objects:
            return None
        return self.node_proofs(node).get(key)

    def _fetched(self, key: str) -> bytes:
        proof = self.expected(key)
        if proof is None:
            raise ElsewhereDamagedError(key, "its manifest does not know it", self.name)
        if proof.size > MOST_OBJECT:
            raise ObjectTooLargeError(self.name, key, proof.size, MOST_OBJECT)
        cached = None if self.cache is None else self.cache / proof.sha256
        if cached is not None and cached.is_file():
            data: bytes | None = cached.read_bytes()
            if data is not None and proof_of(data) == proof:
                return data
        data = self.transport.get(key, MOST_OBJECT)
        if data is None or proof_of(data) != proof:
            self._explain(key, "it is missing" if data is None else "other bytes came")
        assert data is not None, "explained"
        if cached is not None:
            write_file(cached, data)
        return data

    def _explain(self, key: str, problem: str) -> None:
        """Say whether the place holds another store by now, or this one with damage."""
        if self.transport.get(_ROOT, MOST_DOCUMENT) != self.document:
            raise StoreChangedError(self.name)
        raise ElsewhereDamagedError(key, problem, self.name)


def open_elsewhere(transport: Transport) -> StoreElsewhere:
    """Fetch the manifest of a store, by which all else is judged.

    Raises:
        NoStoreElsewhereError: if there is none.
        UnsealedElsewhereError: if it does not cover the whole store.
        DamagedStoreError: if it is no manifest.
        TransferFailedError: if the place does not answer.
    """
    store = find_elsewhere(transport)
    if store is None:
        raise NoStoreElsewhereError(transport.name)
    return store


def find_elsewhere(transport: Transport) -> StoreElsewhere | None:
    """The same; None if there is none."""
    document = transport.get(_ROOT, MOST_DOCUMENT)
    return None if document is None else pinned(transport, document)


def pinned(transport: Transport, document: bytes) -> StoreElsewhere:
    """A store by the bytes of its manifest, which hold for all that is read.

    Raises:
        UnsealedElsewhereError, DamagedStoreError: as `open_elsewhere`.
    """
    store = StoreElsewhere(transport, document)
    if store.manifest.open:
        raise UnsealedElsewhereError(transport.name, store.manifest.open)
    return store


def all_proofs(store: StoreElsewhere) -> dict[str, Proof]:
    """What every object must be, by key, but for the manifest itself."""
    nodes = [store.node_proofs(node) for node in store.manifest.nodes]
    return {key: one for part in (store.manifest.objects, *nodes) for key, one in part.items()}


def _node_of(key: str) -> str:
    """The node of the manifest that an object belongs to."""
    first, *rest = key.split("/")
    return first if first == IMAGES or not rest else f"{first}/{rest[0]}"
