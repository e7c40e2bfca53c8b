"""What a training is given and what it gives; no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.finetuning.recipe import Recipe, Tune

if TYPE_CHECKING:
    from torch import Tensor

#: Why a training ended: all epochs run, or none better for too long.
Stop = Literal["epochs", "patience"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Pictures:
    """Labelled pictures, fitted as the encoder's contract asks and not yet normalised.

    Attributes:
        planes: as `preprocessing.fit` gives them, or all as `fit_narrow` does,
            (m, planes, height, width) uint8; may be memory-mapped, and shared by several values.
        row: which of `planes` each picture is, (n,) int64.
        label: index into the task's classes, (n,) int64.
        digest: of each image, (n, 32) uint8.
    """

    planes: NDArray[np.uint8]
    row: NDArray[np.int64]
    label: NDArray[np.int64]
    digest: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.row)

    def take(self, place: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The planes of some pictures, (b, planes, height, width) uint8, a copy."""
        return np.ascontiguousarray(self.planes[self.row[place]])

    def only(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Pictures:
        """Some of the pictures, by a mask (n,) bool or places (k,) int64; planes are shared."""
        return Pictures(
            planes=self.planes,
            row=self.row[keep],
            label=self.label[keep],
            digest=self.digest[keep],
        )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Task:
    """One training: an encoder, what of it is tuned, and on what.

    Attributes:
        encoder: where it starts.
        tune: what is trained.
        recipe: every setting but rate and seed.
        rate: peak learning rate of the head and of what lies next to it.
        classes: names, in the order of the labels.
        training: pictures that are learnt from.
        validation: of other patients inside the same training set; they say when to stop.
        folder: of checkpoints, this training's own; made if need be.
        seed: of the order of pictures, of augmentation, adapters and dropout.
        save_every: seconds between checkpoints inside an epoch; each epoch ends with one.
        workers: threads that gather pictures and draw augmentation; they change no number.
    """

    encoder: ResolvedEncoder
    tune: Tune
    recipe: Recipe
    rate: float
    classes: tuple[str, ...]
    training: Pictures
    validation: Pictures
    folder: Path
    seed: int = 0
    save_every: float = 300.0
    workers: int = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """One row of a training's curve.

    Attributes:
        epoch: from 1.
        step: steps taken so far.
        loss: what was minimised, mean over the epoch's pictures as they were augmented.
        validation_loss: cross-entropy on the validation pictures, neither smoothed nor weighted.
        macro_f1: on the validation pictures, over the classes that they have.
        rate: learning rate of the head at the last step.
        images_per_second: learnt from.
    """

    epoch: int
    step: int
    loss: float
    validation_loss: float
    macro_f1: float
    rate: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """What a step came to, for whoever watches.

    Attributes:
        epoch: from 1.
        step: steps taken so far.
        of: steps of the whole training, if it does not stop early.
        loss: mean over its pictures.
        images: pictures learnt from in it.
    """

    epoch: int
    step: int
    of: int
    loss: float
    images: int


class Report(Protocol):
    """Watches a training; see `tensorboard` for one that writes."""

    def stepped(self, step: Step) -> None:
        """A step was taken."""

    def finished(self, epoch: Epoch) -> None:
        """An epoch was run and validated."""

    def note(self, line: str) -> None:
        """Something that whoever waits should know."""


class Unwatched:
    """Reports nothing."""

    def stepped(self, step: Step) -> None:
        """Say nothing."""

    def finished(self, epoch: Epoch) -> None:
        """Say nothing."""

    def note(self, line: str) -> None:
        """Say nothing."""


@dataclass(frozen=True)
class Together:
    """Reports to several."""

    reports: Sequence[Report]

    def stepped(self, step: Step) -> None:
        """Tell all."""
        for report in self.reports:
            report.stepped(step)

    def finished(self, epoch: Epoch) -> None:
        """Tell all."""
        for report in self.reports:
            report.finished(epoch)

    def note(self, line: str) -> None:
        """Tell all."""
        for report in self.reports:
            report.note(line)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Trained:
    """A finished training.

    Attributes:
        state: the network of the best epoch on the CPU: `trunk.…` and `pool.…` in the names of
            the built encoder's module and pool, adapters merged; `head.weight` (c, dim) and
            `head.bias` (c,) for the encoder's own feature.
        best_epoch: the one with the lowest validation loss, from 1.
        curve: a row for each epoch that was run.
        stopped_by: why it ended.
        micro_batch: pictures that went through the network at once at the end.
    """

    state: dict[str, Tensor]
    best_epoch: int
    curve: tuple[Epoch, ...]
    stopped_by: Stop
    micro_batch: int

    @property
    def best(self) -> Epoch:
        """The row of the best epoch."""
        return self.curve[self.best_epoch - 1]
