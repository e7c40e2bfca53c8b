"""Where a run's time goes: seconds by stage, summed over the threads that worked on it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Work = Literal["read", "decode", "fit", "forward", "write"]
#: What the thread that gathers batches waits for; the longest is the stage that limits a pass.
Wait = Literal["wait for pictures", "wait for the device", "wait for the disk"]

_LIMITS: dict[Wait, str] = {
    "wait for pictures": "reading and decoding",
    "wait for the device": "the encoders",
    "wait for the disk": "writing",
}


class Clock:
    """Adds up seconds by stage; safe in many threads."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._guard = threading.Lock()

    @contextmanager
    def on(self, stage: Work | Wait) -> Iterator[None]:
        """Count the time inside the context as this stage's."""
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - started
            with self._guard:
                self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds

    def seconds(self) -> dict[str, float]:
        """Seconds by stage, of those that took any."""
        with self._guard:
            return dict(self._seconds)

    def limit(self) -> str:
        """The stage that the others wait for most, in words; empty before anything waited."""
        seconds = self.seconds()
        waits = [wait for wait in _LIMITS if wait in seconds]
        return _LIMITS[max(waits, key=lambda wait: seconds[wait])] if waits else ""
