"""Tune a network on pictures: resumable at any step, to the same bits on the same device.

A step follows from the weights before it and from (seed, epoch, step) alone, so that a run that is
killed anywhere goes on from its last checkpoint to the weights that it would have had.

The best epoch is the one with the lowest validation loss, as the probe takes its penalty: inner
splits hold few patients, and macro-F1 moves on them in steps (docs/decisions/0103).
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.device import pick_device
from embedcache.encoders.network import NetworkEncoder, seeded
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.errors import (
    NothingToValidateError,
    TrainingClassAbsentError,
    TrainingDivergedError,
)
from embedcache.finetuning import checkpoint as checkpoints
from embedcache.finetuning import network as networks
from embedcache.finetuning.adapters import merge
from embedcache.finetuning.checkpoint import Checkpoint, Record
from embedcache.finetuning.feed import learning_batches, order, steps_of
from embedcache.finetuning.groups import rate_scale
from embedcache.finetuning.learner import Learner
from embedcache.finetuning.precision import exact
from embedcache.finetuning.task import Epoch, Pictures, Report, Step, Stop, Task, Trained
from embedcache.schema import plain, sha256_json

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
        PackageMissingError: if adapters are asked for and peft is not installed.
        CompilerFailedError: if torch.compile is asked for and makes no kernels here.
    """
    _require_pictures(task)
    place = pick_device(device)
    kept = checkpoints.read_last(task.folder, fingerprint(task))
    with seeded(task.seed), exact(place):
        run = _Run(task, place, report, kept)
        while not run.record.stopped_by:
            run.epoch()
        return run.trained()


def fingerprint(task: Task) -> str:
    """Digest of all that decides a training: contract, recipe, rate, seed, images, labels."""

    def of(pictures: Pictures) -> list[str]:
        parts = (pictures.digest, pictures.label.astype("<i8"))
        return [hashlib.sha256(part.tobytes()).hexdigest() for part in parts]

    return sha256_json(
        {
            "contract": plain(task.encoder.contract),
            "tensors": task.encoder.tensors,
            "tune": task.tune,
            "recipe": plain(task.recipe),
            "rate": task.rate,
            "seed": task.seed,
            "classes": task.classes,
            "training": of(task.training),
            "validation": of(task.validation),
        }
    )


class _Run:
    """A training under way."""

    def __init__(self, task: Task, device: str, report: Report, kept: Checkpoint | None) -> None:
        self._task, self._report = task, report
        self._learner = Learner(task, device, report)
        self._steps = steps_of(len(task.training), task.recipe.batch)
        self._saved = time.monotonic()
        if kept is None:
            self._learner.standardise()
            self.record = Record(
                task=fingerprint(task),
                epoch=1,
                taken=0,
                loss=0.0,
                seen=0,
                curve=(),
                best_epoch=0,
                micro_batch=self._learner.micro_batch,
                scaler={},
            )
            return
        self.record = kept.record
        self._learner.resume(kept)

    def epoch(self) -> None:
        """Run what is left of the epoch under way, validate, and keep a checkpoint."""
        task, record = self._task, self.record
        places = order(task.training, task.recipe.batch, seed=task.seed, epoch=record.epoch)
        batches = learning_batches(
            task.training,
            places[record.taken :],
            task.recipe.augment,
            seed=task.seed,
            epoch=record.epoch,
            workers=task.workers,
        )
        started, seen = time.monotonic(), record.seen
        for batch in batches:
            step = (record.epoch - 1) * self._steps + record.taken
            loss = self._learner.step(batch, record.epoch, step, self._scale(step))
            record = dataclasses.replace(
                record,
                taken=record.taken + 1,
                loss=record.loss + loss * len(batch),
                seen=record.seen + len(batch),
            )
            self._report.stepped(
                Step(
                    epoch=record.epoch,
                    step=step + 1,
                    of=self._steps * task.recipe.epochs,
                    loss=loss,
                    images=len(batch),
                )
            )
            if time.monotonic() - self._saved >= task.save_every:
                self._save(record)
        pace = (record.seen - seen) / max(time.monotonic() - started, 1e-9)
        self._close(record, pace)

    def trained(self) -> Trained:
        """The network of the best epoch."""
        network, record = self._learner.network, self.record
        networks.restore(network, checkpoints.read_best(self._task.folder, record.best_epoch))
        if self._task.tune == "lora":
            merge(network.trunk)
        stop: Stop = "patience" if record.stopped_by == "patience" else "epochs"
        return Trained(
            state=networks.finished(network),
            best_epoch=record.best_epoch,
            curve=record.curve,
            stopped_by=stop,
            micro_batch=record.micro_batch,
        )

    def _close(self, record: Record, pace: float) -> None:
        """Validate after an epoch's last step."""
        step = record.epoch * self._steps
        loss, score = self._learner.validate(record.epoch, step)
        row = Epoch(
            epoch=record.epoch,
            step=step,
            loss=record.loss / record.seen,
            validation_loss=loss,
            macro_f1=score,
            rate=self._task.rate * self._scale(step - 1),
            images_per_second=pace,
        )
        best = record.best_epoch
        if not best or loss < record.curve[best - 1].validation_loss:
            best = record.epoch
            # Before the record that names it; a kill between the two leaves the older one named.
            checkpoints.save_best(self._task.folder, best, self._changing())
        record = dataclasses.replace(
            record,
            epoch=record.epoch + 1,
            taken=0,
            loss=0.0,
            seen=0,
            curve=(*record.curve, row),
            best_epoch=best,
        )
        record = dataclasses.replace(record, stopped_by=self._stopped(record))
        self._save(record)
        self._report.finished(row)

    def _stopped(self, record: Record) -> str:
        recipe, done = self._task.recipe, len(record.curve)
        if done == recipe.epochs:
            return "epochs"
        return "patience" if recipe.patience and done - record.best_epoch >= recipe.patience else ""

    def _save(self, record: Record) -> None:
        learner = self._learner
        self.record = dataclasses.replace(
            record, micro_batch=learner.micro_batch, scaler=dict(learner.scaler.state_dict())
        )
        # Moments are two thirds of the bytes, and nothing goes on from a finished training.
        moments = {} if record.stopped_by else learner.moments()
        checkpoints.save_last(
            self._task.folder,
            Checkpoint(record=self.record, network=self._changing(), optimiser=moments),
        )
        self._saved = time.monotonic()

    def _changing(self) -> dict[str, Tensor]:
        return networks.changing(self._learner.network, self._task.tune, self._task.recipe)

    def _scale(self, step: int) -> float:
        steps = self._steps * self._task.recipe.epochs
        return rate_scale(step, steps=steps, warmup=round(self._task.recipe.warmup * steps))


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
    losses: dict[float, float] = {}
    best: Chosen | None = None
    diverged: TrainingDivergedError | None = None
    for task in tasks:
        try:
            trained = train(task, device=device, report=report)
        except TrainingDivergedError as error:
            report.note(f"rate {task.rate:g} is left out: {error}")
            losses[task.rate], diverged = math.nan, error
            continue
        losses[task.rate] = trained.best.validation_loss
        if best is None or losses[task.rate] < losses[best.rate]:
            best = Chosen(rate=task.rate, trained=trained, loss=losses)
    if best is None:
        assert diverged is not None, "there is a rate to try"
        raise diverged
    return best


def tuned_encoder(
    state: Mapping[str, Tensor], encoder: ResolvedEncoder, device: str
) -> NetworkEncoder:
    """The encoder with tuned weights in its network and pooling; `head.…` is left out."""
    return networks.tuned_encoder(state, encoder, pick_device(device))


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
    tuned = tuned_encoder(state, encoder, device)
    places = np.split(np.arange(len(pictures)), range(batch, len(pictures), batch))
    feature = np.concatenate([tuned.encode(pictures.take(place)) for place in places])
    weight, bias = (state[f"head.{part}"].double().numpy() for part in ("weight", "bias"))
    logits = feature.astype(np.float64) @ weight.T + bias
    # The row's maximum first: an exponential of hundreds overflows.
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), np.float64)


def _require_pictures(task: Task) -> None:
    """Look before hours of work whether there is all to learn from and to stop by.

    Raises:
        TrainingClassAbsentError: if a class has no training picture.
        NothingToValidateError: if there is no validation picture.
    """
    for place, name in enumerate(task.classes):
        if not (task.training.label == place).any():
            raise TrainingClassAbsentError(name, task.classes)
    if not len(task.validation):
        raise NothingToValidateError(task.encoder.name)
