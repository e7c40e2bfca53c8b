"""Locks beside the store: short ones on the image table and manifest, a lease on each feature set.

A lock is two things. The operating system's lock dies with its process, so on one machine a dead
holder is known at once. Where a network file system keeps such locks to each machine, a holder
file counts: a random id, what machine (a hash of its boot, no name), and its time of change as the
heartbeat, compared with the file server's own clock. A holder on another machine is dead after
`DEAD` seconds without a beat; a stalled holder on this one is never pushed aside, for it would go
on writing when it wakes. One who was taken for dead finds another's id in the file, and stops.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from embedcache.errors import LeaseLostError, StoreAccessError, StoreBusyError
from embedcache.store.objects import reason_of

#: Seconds between beats, and after which a holder on another machine counts as dead.
BEAT, DEAD = 20.0, 120.0
#: Seconds that a short lock is waited for: far longer than anyone needs it.
PATIENCE = 60.0
_POLL = 0.1


def lock_folder(store: Path) -> Path:
    """Where a store's locks lie: beside it, for readers warn of strangers inside."""
    store = store.resolve()  # one folder, whatever link the store was named by
    return store.with_name(f"{store.name}.locks")


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """A lock that this process holds.

    Attributes:
        what: what it protects, for messages.
        id: random, of this holding.
        holder: the holder file.
    """

    what: str
    id: str
    holder: Path

    def beat(self) -> None:
        """Show that the holder lives."""
        with contextlib.suppress(OSError):  # the next beat may succeed; `check` reports a loss
            os.utime(self.holder)

    def check(self) -> None:
        """Make sure that nobody took this holder for dead.

        Raises:
            LeaseLostError: if somebody did.
            StoreAccessError: if the system refuses to say.
        """
        try:
            mine = _read(self.holder).get("id") == self.id
        except OSError as error:
            raise StoreAccessError("read", f"the lock on {self.what}", reason_of(error)) from error
        if not mine:
            raise LeaseLostError(self.what)


@contextmanager
def hold(store: Path, name: str, what: str, patience: float) -> Iterator[Held]:
    """Hold one of a store's locks.

    Args:
        store: the store's folder.
        name: of the lock's files.
        what: what it protects, for messages.
        patience: seconds to wait for another holder.

    Raises:
        StoreBusyError: if another holder lives on.
        StoreAccessError: if the system refuses the lock's files.
    """
    folder = lock_folder(store)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _refuse_links(folder, folder / f"{name}.lock", folder / f"{name}.holder")
        lock = FileLock(folder / f"{name}.lock", thread_local=False)
        held = _acquire(lock, folder / f"{name}.holder", what, time.monotonic() + patience)
    except OSError as error:
        raise StoreAccessError("write", f"the lock {name}", reason_of(error)) from error
    try:
        yield held
    finally:
        # What cannot be deleted now is a dead holder's file, and the next one takes it over.
        with contextlib.suppress(OSError):
            if _read(held.holder).get("id") == held.id:
                held.holder.unlink(missing_ok=True)
        lock.release()


def _refuse_links(*paths: Path) -> None:
    # Whoever sends a store may send this folder with it; writing through a link would leave both.
    for path in paths:
        if path.is_symlink():
            raise OSError(errno.ELOOP, f"{path.name} is a link")


@contextmanager
def table_lock(store: Path) -> Iterator[Held]:
    """Hold the short lock on image table, cohorts and manifest.

    Raises:
        StoreBusyError, StoreAccessError: as `hold`.
    """
    with hold(store, "table", f"the image table of {store.name}", PATIENCE) as held:
        yield held


def _acquire(lock: FileLock, holder: Path, what: str, deadline: float) -> Held:
    while True:
        try:
            lock.acquire(timeout=max(deadline - time.monotonic(), 0), poll_interval=_POLL)
        except Timeout as error:
            raise StoreBusyError(what, _since(holder)) from error
        with ExitStack() as undo:
            undo.callback(lock.release)
            if not _lives_elsewhere(holder, Path(lock.lock_file)):
                held = Held(what=what, id=secrets.token_hex(8), holder=holder)
                now = datetime.now(UTC).isoformat(timespec="seconds")
                content = {"id": held.id, "machine": _machine(), "since": now}
                holder.write_text(json.dumps(content), "utf-8")
                undo.pop_all()
                return held
        if time.monotonic() > deadline:
            raise StoreBusyError(what, _since(holder))
        time.sleep(_POLL)


def _lives_elsewhere(holder: Path, lock_file: Path) -> bool:
    content = _read(holder)
    if not content or content.get("machine") == _machine():
        return False  # we have the system's lock: a holder on this machine is dead
    os.utime(lock_file)  # the file server's clock, whatever ours says
    return lock_file.stat().st_mtime - holder.stat().st_mtime < DEAD


def _since(holder: Path) -> str:
    return str(_read(holder).get("since", ""))


def _read(holder: Path) -> dict[str, object]:
    try:
        content = json.loads(holder.read_text("utf-8"))
    except (
        FileNotFoundError,
        ValueError,
        RecursionError,
    ):  # none, or its holder died while writing it
        return {}
    return content if isinstance(content, dict) else {}


@cache
def _machine() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id")
    identity = boot.read_text("ascii").strip() if boot.is_file() else f"{uuid.getnode():x}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]
