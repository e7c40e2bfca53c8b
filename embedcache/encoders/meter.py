"""Bytes that come, as a bar of megabytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from embedcache.progress import Progress, Stage


class Meter:
    """Turns bytes into a bar of megabytes."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._bytes = self._said = 0

    def advance(self, count: int) -> None:
        """Count bytes; fewer where some are taken back."""
        self._bytes += count
        whole = self._bytes // 1_000_000
        if whole != self._said:
            self._stage.advance(whole - self._said)
            self._said = whole

    def report(self, done: int, _total: int | None) -> None:
        """Set the bytes so far."""
        self.advance(done - self._bytes)


@contextmanager
def metered(progress: Progress, name: str, size: int | None) -> Iterator[Meter]:
    """A stage of a work that moves bytes; of unknown size, the bar has no end."""
    with progress.stage(name, (size or 0) // 1_000_000, "MB") as stage:
        yield Meter(stage)
