"""A disk that fails at one call that writes: opening, writing, syncing, renaming, deleting."""

from __future__ import annotations

import errno
import io
import os
import threading
from collections.abc import Callable
from typing import Any, Self
from unittest.mock import patch

#: Calls of `os` that change what is on disk; `pathlib` and `shutil` make them by these names.
_CALLS = ("fsync", "mkdir", "rename", "replace", "unlink", "rmdir")


class FailingDisk:
    """While its context is open, the call of that number fails, and those after it if `lasting`.

    Attributes:
        calls: how many were made.
        failed: whether one failed.
    """

    def __init__(self, call: int, *, lasting: bool, error: int = errno.EIO) -> None:
        """See the class.

        Args:
            call: which fails, from 0.
            lasting: whether every later one fails too.
            error: what the system says.
        """
        self.calls = 0
        self.failed = False
        self._which, self._lasting, self._error = call, lasting, error
        self._guard = threading.Lock()
        self._patches = [
            *(patch.object(os, name, self._wrapped(getattr(os, name))) for name in _CALLS),
            patch.object(io, "open", self._opening(io.open)),
        ]

    def __enter__(self) -> Self:
        for one in self._patches:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._patches:
            one.stop()

    def count(self) -> None:
        """Count a call; it fails when its turn has come."""
        with self._guard:
            turn = self.calls - self._which
            self.calls += 1
            if turn == 0 or (turn > 0 and self._lasting):
                self.failed = True
                raise OSError(self._error, os.strerror(self._error))

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self.count()
            return call(*args, **options)

        return counted

    def _opening(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def opened(file: Any, mode: str = "r", *args: Any, **options: Any) -> Any:
            if not set(mode) & set("wxa+"):
                return call(file, mode, *args, **options)
            self.count()
            return _Writing(call(file, mode, *args, **options), self)

        return opened


class _Writing:
    """A file whose writes are counted too."""

    def __init__(self, file: Any, disk: FailingDisk) -> None:
        self._file, self._disk = file, disk

    def write(self, data: Any) -> Any:
        self._disk.count()
        return self._file.write(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
