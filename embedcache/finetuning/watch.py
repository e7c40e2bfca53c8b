"""What a person sees of trainings under way: a bar each, with loss, macro-F1 and time left."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Self

from embedcache.finetuning.task import Epoch, Step
from embedcache.progress import Progress, Stage


class Watch:
    """Draws one training after another as bars of a `Progress`; a `Report`. Use it in a `with`."""

    def __init__(self, progress: Progress, name: str) -> None:
        """Nothing is drawn before the first step.

        Args:
            progress: what draws.
            name: of the unit, for people.
        """
        self._progress = progress
        self._name = name
        self._stack = ExitStack()
        self._stage: Stage | None = None
        self._last = 0
        self._validated = ""
        self._since, self._images = 0.0, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the bar."""
        self._stack.close()

    def stepped(self, step: Step) -> None:
        """Move the bar; a step that is no later than the last belongs to the next training."""
        if self._stage is None or step.step <= self._last:
            self._begin(step)
        assert self._stage is not None
        self._stage.advance(step.step - self._last)
        self._last = step.step
        self._images += step.images
        rate = self._images / max(time.monotonic() - self._since, 1e-9)
        self._stage.remark(
            f"epoch {step.epoch}, loss {step.loss:.3f}{self._validated}, {rate:,.0f} img/s"
        )

    def finished(self, epoch: Epoch) -> None:
        """Keep what the epoch came to beside the bar."""
        self._validated = (
            f", validation loss {epoch.validation_loss:.3f}, macro-F1 {epoch.macro_f1:.3f}"
        )

    def note(self, line: str) -> None:
        """Print a line above the bars."""
        self._progress.note(f"{self._name}: {line}")

    def _begin(self, step: Step) -> None:
        self._stack.close()
        self._last, self._validated = 0, ""
        self._since, self._images = time.monotonic(), 0
        self._stage = self._stack.enter_context(
            self._progress.stage(f"tuning {self._name}", step.of, "steps")
        )
