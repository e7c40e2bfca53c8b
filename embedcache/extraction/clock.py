"""Where a run's time goes: seconds by stage, summed over the threads that worked on it."""

from __future__ import annotations

import threading
import time
from contextlib import AbstractContextManager
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

    def on(self, stage: Work | Wait) -> AbstractContextManager[None]:
        """Count the time inside the context as this stage's."""
        return _Span(self, stage)

    def add(self, stage: str, seconds: float) -> None:
        """Count seconds as a stage's."""
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


class _Span(AbstractContextManager[None]):
    # A class, as five are opened for each image: a generator costs three times as much.
    __slots__ = ("_clock", "_stage", "_started")

    def __init__(self, clock: Clock, stage: str) -> None:
        self._clock = clock
        self._stage = stage

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._clock.add(self._stage, time.perf_counter() - self._started)
