"""The files of a store: regular ones only, of the size we expect, durable when written."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

from embedcache.durable import sync_folder, write_file
from embedcache.errors import DamagedStoreError, StoreAccessError
from embedcache.store.layout import DOCUMENT, ArrayLayout

#: Largest document read; a cohort of a million rows with 32,767 categories stays far below.
MOST_DOCUMENT = 1 << 26


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


def proof_of(data: bytes) -> Proof:
    """Size and sha256 of an object's bytes."""
    return Proof(len(data), hashlib.sha256(data).hexdigest())


def proof_on_disk(root: Path, key: str) -> Proof | None:
    """Size and sha256 of an object as it lies there; None where there is none.

    Raises:
        DamagedStoreError: if it is no regular file.
        StoreAccessError: if the system refuses.
    """
    size = object_size(root, key)
    if size is None:
        return None
    try:
        with (root / key).open("rb") as file:
            return Proof(size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise StoreAccessError("read", key, reason_of(error)) from error


def object_size(root: Path, key: str) -> int | None:
    """Bytes of a regular file of the store; None where there is none.

    Raises:
        DamagedStoreError: if it, or a folder above it, is a link or anything but file and folders.
        StoreAccessError: if the system refuses.
    """
    path = root
    *folders, name = key.split("/")
    try:
        for folder in folders:
            path = path / folder
            if not stat.S_ISDIR(path.lstat().st_mode):
                raise DamagedStoreError(key, "a folder above it is a link or a file")
        found = (path / name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StoreAccessError("read", key, reason_of(error)) from error
    if not stat.S_ISREG(found.st_mode):
        raise DamagedStoreError(key, "it is a link or a folder, not a regular file")
    return found.st_size


def reason_of(error: OSError) -> str:
    """What the system said, without the path that it said it of."""
    return error.strerror or type(error).__name__


def read_object(root: Path, key: str, *, size: int | None = None) -> bytes | None:
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
    try:
        return (root / key).read_bytes()
    except OSError as error:
        raise StoreAccessError("read", key, reason_of(error)) from error


def read_object_into(root: Path, key: str, *parts: memoryview) -> None:
    """Fill buffers with an object's bytes, one after the other; `object_size` came before.

    Raises:
        DamagedStoreError: if it ends before the buffers do.
        StoreAccessError: if the system refuses.
    """
    try:
        with (root / key).open("rb", buffering=0) as file:
            for part in parts:
                _fill(file, part, key)
    except OSError as error:
        raise StoreAccessError("read", key, reason_of(error)) from error


def _fill(file: FileIO, view: memoryview, key: str) -> None:
    while view.nbytes:
        count = file.readinto(view)
        if not count:
            raise DamagedStoreError(key, "it is shorter than it was a moment ago")
        view = view[count:]


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
        StoreAccessError: if the system refuses; the old object is then untouched.
    """
    path = root / key
    try:
        _make_folders(path.parent)
        write_file(path, data)
    except OSError as error:
        raise StoreAccessError("write", key, reason_of(error)) from error
    return proof_of(data)


def _make_folders(folder: Path) -> None:
    missing = [folder, *folder.parents]
    missing = [path for path in missing if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)


def remove_object(root: Path, key: str) -> None:
    """Delete an object durably.

    Raises:
        StoreAccessError: if the system refuses.
    """
    path = root / key
    try:
        path.unlink(missing_ok=True)
        if path.parent.is_dir():
            sync_folder(path.parent)
    except OSError as error:
        raise StoreAccessError("delete", key, reason_of(error)) from error


def read_group(root: Path, node: str, proofs: Proofs | None = None) -> dict[str, Any]:
    """Attributes of a group.

    Raises:
        DamagedStoreError: if it is missing, not what `proofs` say, or no group document.
    """
    key = f"{node}/{DOCUMENT}" if node else DOCUMENT
    document = _read_document(root, key, proofs)
    attributes = document.pop("attributes", None)
    if document != {"zarr_format": 3, "node_type": "group"} or not isinstance(attributes, dict):
        raise DamagedStoreError(key, "it is no group document of this format")
    return attributes


def read_layout(
    root: Path, layout_of: Callable[[int], ArrayLayout], proofs: Proofs | None = None
) -> ArrayLayout:
    """Layout of an array on disk: its own row count, all else exactly as we would write it.

    Raises:
        DamagedStoreError: if it is not.
    """
    key = f"{layout_of(0).path}/{DOCUMENT}"
    document = _read_document(root, key, proofs)
    shape = document.get("shape")
    rows = shape[0] if isinstance(shape, list) and shape else None
    if type(rows) is not int or rows < 0:
        raise DamagedStoreError(key, "it has no shape")
    layout = layout_of(rows)
    if document != json.loads(layout.document()):
        raise DamagedStoreError(key, "the array is not laid out as this format lays it out")
    return layout


def check_complete(root: Path, layout: ArrayLayout) -> None:
    """Every chunk is there, of the right size: so a read allocates no more than lies on disk.

    Raises:
        DamagedStoreError: names the first chunk that is not.
    """
    for chunk in range(layout.chunks):
        key = layout.key(chunk)
        check_size(key, object_size(root, key), layout.chunk_size)


def _read_document(root: Path, key: str, proofs: Proofs | None) -> dict[str, Any]:
    data = read_object(root, key)
    if data is None:
        raise DamagedStoreError(key, "it is missing")
    if proofs is not None and proof_of(data) != proofs.get(key):
        raise DamagedStoreError(key, "it is not what the manifest says")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedStoreError(key, "it is not valid JSON") from error
    if not isinstance(document, dict):
        raise DamagedStoreError(key, "it is no document")
    return document


def children(root: Path, node: str) -> tuple[str, ...]:
    """Names of the groups right below a group, sorted; folders without a document are none."""
    folder = root / node
    if not folder.is_dir():
        return ()
    found = (path.name for path in folder.iterdir() if (path / DOCUMENT).is_file())
    return tuple(sorted(found))


def files_below(root: Path, node: str = "") -> Iterator[str]:
    """Keys of everything below a node that is no folder, links included, not followed."""
    for folder, folders, files in os.walk(root / node, onerror=_refuse):
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(folder) / name).relative_to(root).as_posix()


def _refuse(error: OSError) -> None:
    raise StoreAccessError("list", Path(error.filename or "a folder").name, reason_of(error))
