"""A store in one file, for a stick or an SFTP folder: a zip whose members lie there uncompressed.

Any zip tool unpacks it, zarr's `ZipStore` opens it, and ours reads it in place. Members carry no
time, owner or path of the sender, so one store packs to the same bytes wherever it is packed.
"""

from __future__ import annotations

import glob
import os
import secrets
import struct
import threading
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from embedcache.durable import PARTIAL, sync_folder
from embedcache.errors import (
    FileInTheWayError,
    ObjectTooLargeError,
    PackUnusableError,
    PathMissingError,
    StoreAccessError,
)
from embedcache.progress import Progress, Silent
from embedcache.store.elsewhere import StoreElsewhere, all_proofs, open_elsewhere
from embedcache.store.folder import Folder
from embedcache.store.layout import MANIFEST
from embedcache.store.manifest import KEY
from embedcache.store.objects import Root, reason_of

#: Largest list of members read, 64 MiB: 600,000 objects, or 600 million images of one encoder.
MOST_LIST = 1 << 26
#: The end of a zip without a comment, and its 64-bit record and locator (APPNOTE.TXT 4.3.14-16).
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), 20
#: Seconds after which a file that grows no more is nobody's: there is no lock on it.
_ABANDONED = 3600
#: The earliest time that a zip can say; ours mean nothing by it.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


def pack(store: Root, file: Path, *, progress: Progress | None = None) -> int:
    """Write a sealed store into one file; returns its bytes. Nothing appears until it is whole.

    Raises:
        FileInTheWayError: if the file exists.
        UnsealedElsewhereError: if the manifest does not cover the whole store.
        ElsewhereDamagedError: if an object is not what the manifest says.
        StoreAccessError: if the system refuses to write.
    """
    source = open_elsewhere(Folder(store)) if isinstance(store, Path) else store
    assert isinstance(source, StoreElsewhere), "the one kind there is"
    if file.exists():
        raise FileInTheWayError("the packed store", file)
    partial = file.with_name(f"{file.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        _clear_begun(file)
        try:
            with partial.open("xb") as out:
                _write(source, out, progress or Silent())
                out.flush()
                os.fsync(out.fileno())
            if file.exists():  # since the first look, packing may have taken an hour
                raise FileInTheWayError("the packed store", file)
            partial.rename(file)
        finally:
            partial.unlink(missing_ok=True)
        sync_folder(file.absolute().parent)
    except OSError as error:
        raise StoreAccessError("write", file.name, reason_of(error)) from error
    return file.stat().st_size


def _clear_begun(file: Path) -> None:
    """Delete what killed commands left of this file: gigabytes, which nobody else would find."""
    oldest = time.time() - _ABANDONED
    for partial in file.parent.glob(f"{glob.escape(file.name)}.*{PARTIAL}"):
        if partial.stat().st_mtime < oldest:
            partial.unlink(missing_ok=True)


def open_packed(file: Path) -> StoreElsewhere:
    """Open a packed store where it lies.

    Raises:
        PathMissingError: if there is no such file.
        PackUnusableError: if it is no zip of ours.
        NoStoreElsewhereError, UnsealedElsewhereError, DamagedStoreError: as `open_elsewhere`.
    """
    return open_elsewhere(Packed(file))


class Packed:
    """The members of a packed store; a `Transport`."""

    def __init__(self, file: Path) -> None:
        """See the class.

        Raises:
            PathMissingError, PackUnusableError: as `open_packed`.
        """
        if not file.is_file():
            raise PathMissingError("the packed store", file)
        self.file = file.absolute()  # a worker may stand in another folder
        self._guard = threading.Lock()
        try:
            with self.file.open("rb") as raw:
                _check_list(self.file, raw)
            self._zip = zipfile.ZipFile(self.file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
            problem = reason_of(error) if isinstance(error, OSError) else "it is no zip, or is cut"
            raise PackUnusableError(self.file, problem) from error
        try:
            self._members = _members(self.file, self._zip)
        except PackUnusableError:
            self._zip.close()
            raise

    def __reduce__(self) -> tuple[object, ...]:
        return Packed, (self.file,)

    @property
    def name(self) -> str:
        """The file's name."""
        return self.file.name

    def get(self, key: str, most: int) -> bytes | None:
        """A member; see `Transport`."""
        member = self._members.get(key)
        if member is None:
            return None
        if member.file_size > most:
            raise ObjectTooLargeError(self.name, key, member.file_size, most)
        try:
            with self._guard:
                return self._zip.read(member)
        except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError) as error:
            raise PackUnusableError(self.file, f"{key} is damaged") from error
        except OSError as error:
            raise StoreAccessError("read", key, reason_of(error)) from error

    def keys(self) -> Iterable[str] | None:
        """Keys of all members."""
        return tuple(self._members)

    def __del__(self) -> None:
        # No caller can close what many readers share; the last one to forget it does.
        if hasattr(self, "_zip"):
            self._zip.close()


def _write(source: StoreElsewhere, out: BinaryIO, progress: Progress) -> None:
    proofs = all_proofs(source)
    keys = [*sorted(proofs), f"{MANIFEST}/zarr.json"]
    total = sum(proof.size for proof in proofs.values()) + len(source.document)
    with (
        zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as packed,
        progress.stage("pack", total, "bytes") as stage,
    ):
        for key in keys:
            member = zipfile.ZipInfo(key, _NO_TIME)
            member.create_system = 3  # Unix, wherever it is packed
            member.external_attr = 0o644 << 16
            data = source.read(key)
            packed.writestr(member, data)
            stage.advance(len(data))


def _members(file: Path, packed: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """The members by key.

    Raises:
        PackUnusableError: if one could lead out of the store, or is not as we write it.
    """
    members: dict[str, zipfile.ZipInfo] = {}
    for member in packed.infolist():
        name = member.filename
        if name.endswith("/") and KEY.fullmatch(name[:-1]):
            continue  # other tools list folders as well
        # What a zip tool would write elsewhere is refused though we only read: it may unpack next.
        if not KEY.fullmatch(name) or name != member.orig_filename:
            raise PackUnusableError(file, f"{ascii(name)[:80]} is no name of ours")
        if name in members:
            raise PackUnusableError(file, f"{name} is in it twice")
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise PackUnusableError(file, f"{name} is compressed or encrypted")
        if member.external_attr >> 28 == 0o12:
            raise PackUnusableError(file, f"{name} is a link")
        if member.file_size != member.compress_size:
            raise PackUnusableError(file, f"{name} has two sizes")
        members[name] = member
    return members


def _check_list(file: Path, raw: BinaryIO) -> None:
    """Look at how long the list of members is before it is read into memory.

    Raises:
        PackUnusableError: if the file does not end as a zip without comment, or is a list mostly.
    """
    size = raw.seek(0, os.SEEK_END)
    if size < _END.size:
        raise PackUnusableError(file, "it is no zip, or is cut")
    raw.seek(size - _END.size)
    mark, *_, listed, _, comment = _END.unpack(raw.read(_END.size))
    if mark != b"PK\5\6" or comment:
        raise PackUnusableError(file, "it is no zip, or is cut")
    # Whoever reads the zip believes a 64-bit record wherever one stands, whatever the end says.
    raw.seek(max(size - _END.size - _LOCATOR - _END64.size, 0))
    record = raw.read(_END64.size)
    if len(record) == _END64.size and record.startswith(b"PK\6\6"):
        listed = _END64.unpack(record)[-2]
    elif listed == 0xFFFFFFFF:
        raise PackUnusableError(file, "its 64-bit end is not where it should be")
    if listed > MOST_LIST:
        raise PackUnusableError(file, f"it lists {listed:,} bytes of members")
