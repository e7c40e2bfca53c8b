"""Tune a network on pictures: resumable at any step, to the same bits on the same device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.network import NetworkEncoder
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.finetuning.task import Pictures, Report, Task, Trained

if TYPE_CHECKING:
    from torch import Tensor


def train(task: Task, *, device: str, report: Report) -> Trained:
    """Train, going on from the checkpoint in the task's folder if there is one.

    Raises:
        TrainingClassAbsentError: if the training pictures lack a class.
        NothingToValidateError: if there are no validation pictures.
        EncoderUnusableError: if the encoder has no network.
        TrainingDivergedError: if a loss or gradient is no number; the last checkpoint is kept.
        DeviceTooSmallError: if not even one picture fits beside the network.
        CheckpointDiffersError: if the folder holds another training's.
        CheckpointDamagedError: if what it holds cannot be read.
    """
    raise NotImplementedError


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Chosen:
    """The learning rate that was best on an inner split.

    Attributes:
        rate: the best.
        trained: what it gave.
        loss: lowest validation loss by rate; NaN where the training diverged.
    """

    rate: float
    trained: Trained
    loss: dict[float, float]


def choose_rate(tasks: Sequence[Task], *, device: str, report: Report) -> Chosen:
    """Train tasks that differ in rate and folder alone, and take the lowest validation loss.

    Raises:
        TrainingDivergedError: if all of them did; otherwise one that did is noted and left out.
        What `train` raises.
    """
    raise NotImplementedError


def tuned_encoder(
    state: Mapping[str, Tensor], encoder: ResolvedEncoder, device: str
) -> NetworkEncoder:
    """The encoder with tuned weights in its network and pooling; `head.…` is left out."""
    raise NotImplementedError


def predict(
    state: Mapping[str, Tensor],
    encoder: ResolvedEncoder,
    pictures: Pictures,
    device: str,
    batch: int = 32,
) -> NDArray[np.float64]:
    """Class probabilities of pictures by `Trained.state`, (n, c) float64.

    The feature is what `extract` gives for the tuned encoder, at the contract's own precision; the
    head is applied to it in float64.
    """
    raise NotImplementedError
