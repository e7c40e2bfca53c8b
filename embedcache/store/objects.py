"""The objects of a store: regular files only, of the size we expect, durable when written.

What only reads takes a `Root`: a folder, or an `Elsewhere`, whose objects are not files of ours.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Protocol

from embedcache.durable import clear_partial, sync_folder, write_file
from embedcache.errors import DamagedStoreError, DocumentTooLargeError, StoreAccessError
from embedcache.store.layout import DOCUMENT, is_name

#: Largest document: the list of a feature set of ten million images is 3 MB. Parsed, the worst JSON
#: of this size takes half a gigabyte.
MOST_DOCUMENT = 1 << 24


@dataclass(frozen=True, slots=True)
class Proof:
    """What an object must be.

    Attributes:
        size: bytes.
        sha256: 64 hex digits.
    """

    size: int
    sha256: str


#: What objects must be, by key.
Proofs = Mapping[str, Proof]


class Elsewhere(Protocol):
    """A sealed store that is no folder here: remote, or packed into one file. It is only read."""

    @property
    def name(self) -> str:
        """What messages call it."""

    def size(self, key: str) -> int | None:
        """Bytes that an object must have; None: the store has no such object."""

    def read(self, key: str) -> bytes:
        """The bytes of an object that the store has, as its manifest says they are."""

    def proof(self, key: str) -> Proof | None:
        """What an object is, whatever the manifest says; None: it is not there."""

    def children(self, node: str) -> tuple[str, ...]:
        """Names of the groups right below a group, sorted."""

    def keys(self, node: str) -> Iterator[str]:
        """Keys of all objects below a node; of those known, where nobody can list them."""

    def fetch(self, keys: Iterable[str]) -> None:
        """Have objects at hand before they are read one by one."""


#: Where a store is read.
Root = Path | Elsewhere


def proof_of(data: bytes) -> Proof:
    """Size and sha256 of an object's bytes."""
    return Proof(len(data), hashlib.sha256(data).hexdigest())


def proof_on_disk(root: Root, key: str) -> Proof | None:
    """Size and sha256 of an object as it lies there; None where there is none.

    Raises:
        DamagedStoreError: if it is no regular file.
        StoreAccessError: if the system refuses.
    """
    if not isinstance(root, Path):
        return root.proof(key)
    size = object_size(root, key)
    if size is None:
        return None
    try:
        with (root / key).open("rb") as file:
            return Proof(size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise StoreAccessError("read", key, reason_of(error)) from error


def object_size(root: Root, key: str) -> int | None:
    """Bytes of a regular file of the store; None where there is none.

    Raises:
        DamagedStoreError: if it, or a folder above it, is a link or anything but file and folders.
        StoreAccessError: if the system refuses.
    """
    if not isinstance(root, Path):
        return root.size(key)
    try:
        if not has_folder(root, key.rpartition("/")[0]):
            return None
        found = os.lstat(f"{root}{os.sep}{key}")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreAccessError("read", key, reason_of(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise DamagedStoreError(key, "it is a link or a folder, not a regular file")
    return found.st_size


def has_folder(root: Path, node: str) -> bool:
    """Whether a folder of the store is there; never through a link, which might lead out of it.

    Raises:
        DamagedStoreError: if it, or a folder above it, is a link or a file.
        OSError: if the system refuses.
    """
    path = str(root)
    for folder in node.split("/") if node else ():
        path = f"{path}{os.sep}{folder}"
        try:
            mode = os.lstat(path).st_mode  # pathlib takes as long again, for each chunk
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(mode):
            raise DamagedStoreError(node, "it, or a folder above it, is a link or a file")
    return True


def reason_of(error: OSError) -> str:
    """What the system said, without the path that it said it of."""
    return error.strerror or type(error).__name__


def read_object(root: Root, key: str, *, size: int | None = None) -> bytes | None:
    """Bytes of an object; None where there is none.

    Args:
        root: folder of the store.
        key: path in the store.
        size: what it must have; None for a document, which has a bound instead.

    Raises:
        DamagedStoreError: if it is no regular file of that size.
        StoreAccessError: if the system refuses.
    """
    found = object_size(root, key)
    if found is None:
        return None
    if size is not None:
        check_size(key, found, size)
    if size is None and found > MOST_DOCUMENT:
        raise DamagedStoreError(key, f"it has {found} bytes, a document at most {MOST_DOCUMENT}")
    if not isinstance(root, Path):
        return root.read(key)
    try:
        with open(f"{root}{os.sep}{key}", "rb") as file:  # noqa: PTH123  # as `has_folder`
            return file.read()
    except OSError as error:
        raise StoreAccessError("read", key, reason_of(error)) from error


def read_object_into(root: Path, key: str, view: memoryview) -> None:
    """Fill a buffer with an object's bytes; `object_size` came before.

    Raises:
        DamagedStoreError: if it ends before the buffer does.
        StoreAccessError: if the system refuses.
    """
    try:
        with (root / key).open("rb", buffering=0) as file:
            _fill(file, view, key)
    except OSError as error:
        raise StoreAccessError("read", key, reason_of(error)) from error


def _fill(file: FileIO, view: memoryview, key: str) -> None:
    while view.nbytes:
        count = file.readinto(view)
        if not count:
            raise DamagedStoreError(key, "it is shorter than it was a moment ago")
        view = view[count:]


def fetch(root: Root, keys: Iterable[str]) -> None:
    """Ask for many objects at once, where each would cost a round trip."""
    if not isinstance(root, Path):
        root.fetch(keys)


def check_size(key: str, found: int | None, size: int) -> None:
    """Compare what `object_size` found with what an object must have.

    Raises:
        DamagedStoreError: if it is missing, or has another size.
    """
    if found is None:
        raise DamagedStoreError(key, "it is missing")
    if found != size:
        raise DamagedStoreError(key, f"it has {found} bytes instead of {size}")


def write_object(root: Path, key: str, data: bytes) -> Proof:
    """Replace an object; durable when this returns, with the folders above it.

    Raises:
        DocumentTooLargeError: if no reader would take it.
        DamagedStoreError: if a folder above it is a link.
        StoreAccessError: if the system refuses; the object is then whole, the old one or the new.
    """
    if key.endswith(DOCUMENT) and len(data) > MOST_DOCUMENT:
        raise DocumentTooLargeError(key, len(data), MOST_DOCUMENT)
    try:
        _make_folders(root, key.rpartition("/")[0])
        write_file(root / key, data)
    except OSError as error:
        raise StoreAccessError("write", key, reason_of(error)) from error
    return proof_of(data)


def _make_folders(root: Path, node: str) -> None:
    if not root.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        sync_folder(root.parent)
    if has_folder(root, node):
        return
    folder = root
    for part in node.split("/"):
        folder = folder / part
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            sync_folder(folder.parent)


def remove_object(root: Path, key: str) -> None:
    """Delete an object durably.

    Raises:
        DamagedStoreError: if a folder above it is a link.
        StoreAccessError: if the system refuses.
    """
    path = root / key
    try:
        if has_folder(root, key.rpartition("/")[0]):
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
    except OSError as error:
        raise StoreAccessError("delete", key, reason_of(error)) from error


def clear_begun(root: Path, node: str) -> None:
    """Delete what killed writers had begun below a node; the caller holds the node's lock.

    Raises:
        DamagedStoreError: if the node's folder is a link.
        StoreAccessError: if the system refuses.
    """
    try:
        if has_folder(root, node):
            clear_partial(root / node)
    except OSError as error:
        raise StoreAccessError("delete", f"unfinished files of {node}", reason_of(error)) from error


def children(root: Root, node: str) -> tuple[str, ...]:
    """Names of the groups right below a group, sorted; folders without a document are none.

    Raises:
        DamagedStoreError: if the group's folder is a link, or a name is none of this format.
        StoreAccessError: if the system refuses.
    """
    if not isinstance(root, Path):
        return root.children(node)
    try:
        if not has_folder(root, node):
            return ()
        found = sorted(p.name for p in (root / node).iterdir() if (p / DOCUMENT).is_file())
    except OSError as error:
        raise StoreAccessError("list", node, reason_of(error)) from error
    for name in found:
        if not is_name(name):
            raise DamagedStoreError(node, f"{name!a} is no name of a node")
    return tuple(found)


def files_below(root: Root, node: str = "") -> Iterator[str]:
    """Keys of everything below a node that is no folder, links included, not followed."""
    if not isinstance(root, Path):
        yield from root.keys(node)
        return
    for folder, folders, files in os.walk(root / node, onerror=_refuse):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        inside = Path(folder).relative_to(root).as_posix()
        yield from (name if inside == "." else f"{inside}/{name}" for name in (*files, *links))


def _refuse(error: OSError) -> None:
    raise StoreAccessError("list", Path(error.filename or "a folder").name, reason_of(error))
