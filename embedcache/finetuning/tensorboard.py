"""Curves in TensorBoard's files, for whoever watches trainings there."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

from embedcache.errors import PackageMissingError
from embedcache.finetuning.task import Epoch, Step, Unwatched


class TensorBoard(Unwatched):
    """A report that writes scalars; a context manager that closes them."""

    def __init__(self, folder: Path) -> None:
        """Open event files in a folder, one folder a training.

        Raises:
            PackageMissingError: if tensorboard is not installed.
        """
        if find_spec("tensorboard") is None:
            raise PackageMissingError("--tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._writer.close()

    def stepped(self, step: Step) -> None:
        """Write the loss of a step."""
        self._write("loss/step", step.loss, step.step)

    def finished(self, epoch: Epoch) -> None:
        """Write the row of an epoch."""
        self._write("loss/training", epoch.loss, epoch.step)
        self._write("loss/validation", epoch.validation_loss, epoch.step)
        self._write("macro-f1/validation", epoch.macro_f1, epoch.step)
        self._write("rate", epoch.rate, epoch.step)
        self._write("images per second", epoch.images_per_second, epoch.step)

    def _write(self, name: str, value: float, step: int) -> None:
        self._writer.add_scalar(name, value, step)
