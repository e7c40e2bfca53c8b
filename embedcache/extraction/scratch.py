"""Fitted pictures that a later pass needs again, in a nameless file beside the store.

Nobody can open the file by a name, and it is gone with the process that made it, killed or not.
It holds pixels and nothing that says whose they are.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Self, cast

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing

#: Of the free disk, at most so much; beyond it images are decoded again.
SHARE = 0.25

_Place = tuple[int, tuple[int, ...]]


class Scratch:
    """A bounded cache of uint8 planes; safe in many threads. Use it as a context manager."""

    def __init__(self, beside: Path, most: int | None = None) -> None:
        """Nothing is written before something is kept.

        Args:
            beside: a folder on the disk that has room for it.
            most: bytes it may hold; None: `SHARE` of what is free.
        """
        self._beside = beside
        self._file: BinaryIO | None = None
        self._most = int(shutil.disk_usage(beside).free * SHARE) if most is None else most
        self._end = 0
        self._places: dict[tuple[int, Preprocessing], _Place] = {}
        self._guard = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Give the disk back."""
        if self._file is not None:
            self._file.close()

    @property
    def has_room(self) -> bool:
        """Whether anything more may be kept."""
        return self._end < self._most

    def keep(self, row: int, shape: Preprocessing, planes: NDArray[np.uint8]) -> None:
        """Keep one picture, if there is room."""
        data = planes.tobytes()
        with self._guard:
            if self._end + len(data) > self._most:
                self._most = self._end  # full: nothing is fitted only to be refused
                return
            file = self._open()
            file.seek(self._end)
            file.write(data)
            self._places[row, shape] = (self._end, planes.shape)
            self._end += len(data)

    def take(
        self, row: int, shapes: Sequence[Preprocessing]
    ) -> dict[Preprocessing, NDArray[np.uint8]] | None:
        """What was kept of an image, if all of the shapes were."""
        if not all((row, shape) in self._places for shape in shapes):
            return None
        return {shape: self._read(self._places[row, shape]) for shape in shapes}

    def _open(self) -> BinaryIO:
        if self._file is None:
            # Closed in `__exit__`; Linux never gives it a name, others remove it at once.
            self._file = cast("BinaryIO", tempfile.TemporaryFile(dir=self._beside))  # noqa: SIM115
        return self._file

    def _read(self, place: _Place) -> NDArray[np.uint8]:
        start, shape = place
        planes = np.empty(shape, np.uint8)
        with self._guard:
            file = self._open()
            file.seek(start)
            planes.reshape(-1)[:] = np.frombuffer(file.read(planes.nbytes), np.uint8)
        return planes
