"""Files that are whole or absent after a power cut: write, fsync, rename, fsync the folder."""

from __future__ import annotations

import errno
import os
import secrets
import time
from pathlib import Path

from embedcache.errors import SystemRefusesError

#: Ends the name of a file that is being written; a kill leaves it, a rerun clears it.
PARTIAL = ".partial"

#: What a user can mend, and how.
_MENDS = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some of your quota and run the same command again",
    errno.EACCES: "ask whoever owns it, or choose another place",
    errno.EPERM: "ask whoever owns it, or choose another place",
    errno.EROFS: "choose a place that can be written",
    errno.ENOTDIR: "a file stands where a folder is meant: choose another place",
    errno.EISDIR: "a folder stands where a file is meant: choose another place",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EIO: "copy what is there to another disk: this one may be failing",
}


def refusal(error: OSError) -> SystemRefusesError | None:
    """What the system refuses, as a sentence with its mend; None for any other error."""
    mend = _MENDS.get(error.errno or 0)
    if mend is None:
        return None
    reason = os.strerror(error.errno or 0)
    # Of a copy, the second name is the copy's.
    place = error.filename2 or error.filename or "the disk"
    return SystemRefusesError(str(place), reason[:1].lower() + reason[1:], mend)


def write_file(path: Path, data: bytes) -> None:
    """Replace a file atomically; when this returns, the new content is durable.

    Raises:
        OSError: as the file system gives it; the file is then whole, the old one or the new.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def publish(gathered: Path, path: Path) -> None:
    """Give a finished file its name, replacing what had it; durable when this returns.

    Raises:
        OSError: as the file system gives it; the name then means what it meant before.
    """
    with gathered.open("rb+") as file:
        os.fsync(file.fileno())
    gathered.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames and deletions in a folder durable (Windows has no such call, and needs none)."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def clear_partial(folder: Path, idle: float = 0) -> int:
    """Delete what killed writers left under a folder; returns how many files.

    Args:
        folder: where to look, folders below it included.
        idle: seconds that a file must have lain untouched. 0 is for whoever holds the lock of what
            is written there; where there is no lock, a living writer's file is younger than this.
    """
    oldest = time.time() - idle
    left = [path for path in folder.rglob(f"*{PARTIAL}") if path.stat().st_mtime <= oldest]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)
