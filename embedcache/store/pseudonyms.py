"""Patients become 16 bytes of HMAC-SHA256 under the owner's key: pseudonymous, never anonymous.

Without the key nothing links a pseudonym back to a patient number, and with it everything does.
Images and vectors can give a patient away all the same, so a store is personal data.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import sync_folder
from embedcache.errors import KeyUnusableError

VARIABLE = "EMBEDCACHE_KEY"
#: Bytes of a pseudonym: two of a billion patients share one with probability 1e-21.
LENGTH = 16
#: Bytes of a key that we make, and the least that we take.
KEY_BYTES, LEAST_BYTES = 32, 16


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnerKey:
    """The secret behind pseudonyms.

    Attributes:
        secret: the key; not shown by `repr`.
        place: where it lies, for people: a file, or `EMBEDCACHE_KEY`.
    """

    secret: bytes = field(repr=False)
    place: str

    @property
    def key_id(self) -> str:
        """Tells keys apart without telling them, 8 hex digits.

        Of sha256 over `embedcache key id`, NUL, key: no HMAC under the key, so no pseudonym.
        """
        return hashlib.sha256(b"embedcache key id\0" + self.secret).hexdigest()[:8]

    def pseudonyms(self, namespace: str, patient: Iterable[str]) -> NDArray[np.uint8]:
        """Pseudonym of each patient, (m, 16) uint8: HMAC over namespace, NUL, patient."""
        made = bytearray()
        for name in patient:
            message = f"{namespace}\0{name}".encode()
            made += hmac.digest(self.secret, message, "sha256")[:LENGTH]
        return np.frombuffer(made, np.uint8).reshape(-1, LENGTH)


def key_file() -> Path:
    """Where a user's key lies: in their configuration folder, never beside a store."""
    import platformdirs

    return Path(platformdirs.user_config_dir("embedcache", appauthor=False)) / "key"


def owner_key() -> OwnerKey:
    """The key of `EMBEDCACHE_KEY`, else of the user's configuration folder, made on first use.

    Raises:
        KeyUnusableError: if it is no key, or others may read the file.
    """
    given = os.environ.get(VARIABLE)
    if given is not None:
        return OwnerKey(secret=_parse(given, VARIABLE), place=VARIABLE)
    file = key_file()
    try:
        if not file.exists():
            _make(file)
        return _read(file)
    except OSError as error:
        problem = f"cannot be used ({error.strerror or type(error).__name__})"
        mend = f"set {VARIABLE} to 64 hex digits, or let the folder be written"
        raise KeyUnusableError(str(file), problem, mend) from error


def _read(file: Path) -> OwnerKey:
    mode = stat.S_IMODE(file.stat().st_mode)
    if os.name == "posix" and mode & 0o077:
        raise KeyUnusableError(str(file), "can be read by others", f"run: chmod 600 {file}")
    return OwnerKey(secret=_parse(file.read_text("ascii", "replace"), str(file)), place=str(file))


def _make(file: Path) -> None:
    """Write a new key; of two processes that do, the first one's counts."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.{secrets.token_hex(4)}.partial")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as opened:
        opened.write(secrets.token_hex(KEY_BYTES) + "\n")
        opened.flush()
        os.fsync(opened.fileno())
    try:
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)  # unlike a rename it never replaces a key
    finally:
        draft.unlink()
    sync_folder(file.parent)


def _parse(text: str, place: str) -> bytes:
    mend = "give it at least 32 hex digits, such as `openssl rand -hex 32` prints"
    try:
        secret = bytes.fromhex(text.strip())
    except ValueError:
        # Not `from` the error: its text may quote the key.
        raise KeyUnusableError(place, "is not hexadecimal", mend) from None
    if len(secret) < LEAST_BYTES:
        raise KeyUnusableError(place, f"has {len(secret)} bytes", mend)
    return secret
