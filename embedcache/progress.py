"""What a verb reports while it works. The command line draws it; a program may ignore it."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Stage(Protocol):
    """One bar: so many units done of a total."""

    def advance(self, units: int = 1) -> None:
        """Count units as done."""

    def remark(self, text: str) -> None:
        """Say how the work goes, in a few words; shown beside the bar, the last one stands."""


class Progress(Protocol):
    """Receives the stages and remarks of a verb."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Stage]:
        """Open a bar; used as a context manager that gives a `Stage`."""

    def note(self, line: str) -> None:
        """Say one line that stays on the screen."""


class Silent:
    """Reports nothing: what a verb uses when nobody watches."""

    def stage(self, name: str, total: int, unit: str) -> AbstractContextManager[Stage]:  # noqa: ARG002  # the interface's arguments
        """Open a bar that nobody sees."""
        return nullcontext(_SilentStage())

    def note(self, line: str) -> None:
        """Say nothing."""


class _SilentStage:
    def advance(self, units: int = 1) -> None:
        pass

    def remark(self, text: str) -> None:
        pass
