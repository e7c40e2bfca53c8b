"""A folder that a store is sent to: all of it lies beside the store until all of it has arrived.

Readers meanwhile see the store as it was. Then a journal is written, and every file is renamed into
place under the store's own locks. A kill before the journal leaves the old store; after it, the
next command that sends there completes the change, without asking where it came from.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from embedcache.durable import sync_folder
from embedcache.errors import (
    DamagedStoreError,
    PublishedMeanwhileError,
    SchemaError,
    StoreAccessError,
)
from embedcache.schema import canonical_json, from_json, plain
from embedcache.store.change import Change
from embedcache.store.elsewhere import StoreElsewhere, find_elsewhere
from embedcache.store.folder import Folder
from embedcache.store.layout import DOCUMENT, FEATURES, MANIFEST
from embedcache.store.locks import hold, lock_folder, table_lock
from embedcache.store.manifest import KEY, manifest_document, read_manifest
from embedcache.store.objects import (
    Proofs,
    clear_begun,
    proof_on_disk,
    read_object,
    reason_of,
    remove_object,
    write_object,
)
from embedcache.store.reader import check_format

_ROOT = f"{MANIFEST}/{DOCUMENT}"
_STAGE, _JOURNAL = "incoming", "incoming.json"


class IncomingFolder:
    """A folder as a target of `sync`; use it inside `opened`."""

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.path = path.resolve()  # its locks lie beside the store, not beside a link to it
        self._locks = lock_folder(self.path)
        self._stage = self._locks / _STAGE

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Keep others from sending here, and complete what a killed command had begun to change.

        Raises:
            StoreBusyError: if another process sends here.
            StoreAccessError: if the system refuses.
        """
        with hold(self.path, _STAGE, f"what {self.name} receives", 0) as self._held:
            self._complete()
            yield

    def current(self) -> StoreElsewhere | None:
        """The store that is there; None: nothing is.

        Raises:
            NotAStoreError, NewerFormatError, DamagedStoreError: as `open_store`.
            UnsealedElsewhereError: if its manifest does not cover all of it.
        """
        if not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir())):
            return None
        check_format(self.path)
        found = find_elsewhere(Folder(self.path))
        if found is None:
            raise DamagedStoreError(_ROOT, "it is missing")
        return found

    def holds(self, proofs: Proofs, read: Callable[[str], bytes]) -> frozenset[str]:  # noqa: ARG002  # a bucket needs the bytes, a folder knows
        """Keys of objects that have arrived, or are in place, as `proofs` say."""
        return frozenset(
            key
            for key, proof in proofs.items()
            if proof in (proof_on_disk(self._stage, key), proof_on_disk(self.path, key))
        )

    def strangers(self, known: Iterable[str]) -> tuple[str, ...]:  # noqa: ARG002  # as above
        """Nothing: a folder that is no store is refused before."""
        return ()

    def put(self, key: str, data: bytes) -> None:
        """Keep an object that has arrived; durable when this returns."""
        write_object(self._stage, key, data)
        self._held.beat()

    def publish(self, change: Change, before: StoreElsewhere | None) -> None:
        """Make a change, all of whose objects have arrived or are in place.

        Raises:
            PublishedMeanwhileError: if the store is not what it was.
            StoreBusyError: if another process writes what changes.
        """
        if before is None:
            self._appear(change)
            return
        with self._writing(change):
            if read_object(self.path, _ROOT) != before.document:
                raise PublishedMeanwhileError(self.name)
            write_object(self._locks, _JOURNAL, canonical_json(plain(change)))
            self._apply(change)

    def _appear(self, change: Change) -> None:
        """A new store is renamed into place whole, without what a killed command had begun."""
        clear_begun(self._stage, "")
        for key in set(Folder(self._stage).keys() or ()) - set(change.moved):
            remove_object(self._stage, key)  # of another store, which never arrived whole
        write_object(self._stage, _ROOT, change.document.encode())
        try:
            if self.path.is_dir():
                self.path.rmdir()
            self._stage.rename(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            raise StoreAccessError("create", self.name, reason_of(error)) from error

    def _complete(self) -> None:
        data = read_object(self._locks, _JOURNAL)
        if data is None:
            return
        try:
            change = from_json(Change, data, _JOURNAL)
        except SchemaError as error:
            raise DamagedStoreError(_JOURNAL, "it is no journal") from error
        # Whoever sends a store may send this with it: it must lead nowhere else.
        if not all(map(KEY.fullmatch, (*change.nodes, *change.moved, *change.removed))):
            raise DamagedStoreError(_JOURNAL, "it names what is no object of a store")
        with self._writing(change):
            if len(self.holds(change.moved, lambda _: b"")) == len(change.moved):
                self._apply(change)
            else:  # another writer mended the store since, to what it was: begin anew
                remove_object(self._locks, _JOURNAL)

    @contextmanager
    def _writing(self, change: Change) -> Iterator[None]:
        """Hold the store's own locks on all that changes."""
        with ExitStack() as stack:
            for node in change.nodes:
                if node.startswith(f"{FEATURES}/"):
                    name = node.replace("/", "-")
                    stack.enter_context(hold(self.path, name, node, 0))
            stack.enter_context(table_lock(self.path))
            yield

    def _apply(self, change: Change) -> None:
        clear_begun(self.path, MANIFEST)  # what a killed command of ours had begun to write there
        # Open nodes are read by their own checksums, as while any other writer changes them.
        manifest = read_manifest(self.path)
        opened = tuple(sorted({*manifest.open, *change.nodes}))
        write_object(
            self.path, _ROOT, manifest_document(dataclasses.replace(manifest, open=opened))
        )
        for key in change.moved:
            self._move(key)
        for key in change.removed:
            remove_object(self.path, key)
        write_object(self.path, _ROOT, change.document.encode())
        remove_object(self._locks, _JOURNAL)
        shutil.rmtree(self._stage, ignore_errors=True)  # empty folders, and what never got whole

    def _move(self, key: str) -> None:
        staged, place = self._stage / key, self.path / key
        try:
            if not staged.is_file():
                return  # it was in place, or has been moved before a kill
            place.parent.mkdir(parents=True, exist_ok=True)
            staged.rename(place)
            sync_folder(place.parent)
        except OSError as error:
            raise StoreAccessError("write", key, reason_of(error)) from error
