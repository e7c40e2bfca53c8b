"""Puts vectors away in a thread of its own, so that no device ever waits for a disk."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Self

from embedcache.extraction.clock import Clock

#: Tasks that may wait: a second of a GPU's batches, and some megabytes of vectors.
WAITING = 256


class Shelf:
    """Does tasks one after the other in the order given. Use it as a context manager.

    After a task has failed the others are dropped, and its error is raised where the next one is
    given, or on leaving.
    """

    def __init__(self, clock: Clock, waiting: int = WAITING) -> None:
        self._clock = clock
        self._tasks: queue.Queue[Callable[[], None] | None] = queue.Queue(waiting)
        self._trouble: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="embedcache-shelf", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Wait for all tasks; after an error elsewhere, only for the one under way."""
        if kind is not None:
            self._trouble = self._trouble or InterruptedError()
        self._tasks.put(None)
        self._thread.join()
        if kind is None and self._trouble is not None:
            raise self._trouble

    def put(self, task: Callable[[], None]) -> None:
        """Hand over a task; blocks while too many wait."""
        if self._trouble is not None:
            raise self._trouble
        with self._clock.on("wait for the disk"):
            self._tasks.put(task)

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            if self._trouble is None:
                try:
                    task()
                except BaseException as error:  # noqa: BLE001  # raised again in the caller's thread
                    self._trouble = error
