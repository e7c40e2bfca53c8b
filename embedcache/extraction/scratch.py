"""Fitted pictures that a later pass needs again, in a nameless file.

Nobody can open the file by a name, and it is gone with the process that made it, killed or not.
It holds pixels and nothing that says whose they are. A process alone keeps it beside the store, a
worker among its machine's temporary files (`TMPDIR`).
"""

from __future__ import annotations

import math
import shutil
import tempfile
import threading
import time
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing

#: Of the free disk, at most so much; beyond it images are decoded again.
SHARE = 0.25
#: Bytes that are kept between two looks at what the disk has left: on a network a look takes long.
_UNSEEN = 64 << 20

#: Seconds after which a worker's scratch that nobody asked for is closed: its command was killed,
#: or will decode again.
_FORSAKEN = 600.0

_Place = tuple[int, tuple[int, ...]]


class Scratch:
    """A bounded cache of uint8 planes; safe in many threads. Use it as a context manager."""

    def __init__(self, beside: Path, most: int | None = None) -> None:
        """Nothing is written before something is kept.

        Args:
            beside: a folder on the disk that has room for it.
            most: bytes it may hold; None: `SHARE` of what is free, which it has in common with
                whatever else fills that disk, other processes' scratch above all.
        """
        self._beside = beside
        self._file: FileIO | None = None
        free = shutil.disk_usage(beside).free
        self._most = int(free * SHARE) if most is None else most
        self._spared = free - self._most if most is None else 0
        self._end = 0
        self._seen = 0
        self._places: dict[tuple[int, Preprocessing], _Place] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the disk back; who still asks finds nothing, and keeps nothing."""
        with self._guard:
            self._most, self._places = 0, {}
            if self._file is not None:
                self._file.close()
                self._file = None

    @property
    def has_room(self) -> bool:
        """Whether anything more may be kept."""
        return self._end < self._most

    def keep(self, row: int, shape: Preprocessing, planes: NDArray[np.uint8]) -> None:
        """Keep one picture, if there is room."""
        data = planes.tobytes()
        with self._guard:
            if not (self._has_room_for(len(data)) and self._write(data)):
                self._most = self._end  # full: nothing is fitted only to be refused
                return
            self._places[row, shape] = (self._end, planes.shape)
            self._end += len(data)

    def take(
        self, row: int, shapes: Sequence[Preprocessing]
    ) -> dict[Preprocessing, NDArray[np.uint8]] | None:
        """What was kept of an image, if all of the shapes were."""
        with self._guard:
            if not all((row, shape) in self._places for shape in shapes):
                return None
            return {shape: self._read(self._places[row, shape]) for shape in shapes}

    def _has_room_for(self, size: int) -> bool:
        if self._end + size > self._most:
            return False
        if self._end + size <= self._seen:
            return True
        self._seen = self._end + max(size, _UNSEEN)
        return shutil.disk_usage(self._beside).free >= self._spared + size

    def _write(self, data: bytes) -> bool:
        """Write at the end, if the disk takes it: a quota may end before the disk does."""
        file = self._open()
        file.seek(self._end)
        try:
            return file.write(data) == len(data)
        except OSError:
            return False

    def _open(self) -> FileIO:
        if self._file is None:
            # Closed in `close`; Linux never gives it a name, others remove it at once.
            # Unbuffered, so that a full disk shows where it can be mended.
            self._file = tempfile.TemporaryFile(dir=self._beside, buffering=0)  # noqa: SIM115  # see above
        return self._file

    def _read(self, place: _Place) -> NDArray[np.uint8]:
        start, shape = place
        file = self._open()
        file.seek(start)
        planes: NDArray[np.uint8] = np.frombuffer(file.read(math.prod(shape)), np.uint8)
        return planes.reshape(shape)


#: Of this worker process, by the command's name for it, with the time when it was last asked for.
_OPEN: dict[str, tuple[Scratch, float]] = {}
_GUARD = threading.Lock()


def shared_scratch(name: str) -> Scratch:
    """The scratch that one command's passes share in this worker process."""
    with _GUARD:
        now = time.monotonic()
        for other, (scratch, used) in list(_OPEN.items()):
            if other != name and now - used > _FORSAKEN:
                del _OPEN[other]
                scratch.close()
        scratch = _OPEN[name][0] if name in _OPEN else Scratch(Path(tempfile.gettempdir()))
        _OPEN[name] = (scratch, now)
        return scratch


def drop_scratch(name: str, **_: object) -> None:
    """Close what `shared_scratch` opened in this process; takes what the others take."""
    with _GUARD:
        scratch, _used = _OPEN.pop(name, (None, 0.0))
    if scratch is not None:
        scratch.close()
