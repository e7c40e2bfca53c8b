"""A network that learns: one step, its precision and its memory, and how well it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import torch  # noqa: TID253  # nothing here runs without it
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253  # nothing here runs without it
from torch.nn import functional  # noqa: TID253  # nothing here runs without it

from embedcache.encoders.memory import is_out_of_memory
from embedcache.errors import (
    CompilerFailedError,
    DeviceTooSmallError,
    EncoderOutputError,
    TrainingDivergedError,
)
from embedcache.finetuning import groups
from embedcache.finetuning import network as networks
from embedcache.finetuning.checkpoint import Checkpoint
from embedcache.finetuning.feed import Batch, normalised, plain_batches
from embedcache.finetuning.precision import precision_on
from embedcache.finetuning.task import Pictures, Report, Task
from embedcache.metrics import macro_f1

Result = TypeVar("Result")

#: Training pictures that the head's standardisation is measured on, at most: a deviation is then
#: known to 2 %.
_MEASURED = 2048
#: What AdamW keeps of each parameter.
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
#: Of the loss's scale under fp16, what counts steps.
_COUNTS = ("growth_interval", "_growth_tracker")
#: The largest norm of a gradient that is not to be clipped.
_ANY = float("inf")


class Learner:
    """The network of a task on a device, with its optimiser.

    Attributes:
        network: what learns.
        micro_batch: pictures that go through it at once; halved where memory ends.
        rate: learning rate of the head at the last step.
    """

    def __init__(self, task: Task, device: str, report: Report) -> None:
        """Build the network as the task starts it; draws from torch's global generator."""
        self.task, self.device, self.report = task, device, report
        recipe = task.recipe
        self.precision = precision_on(device, recipe.precision, task.encoder.name)
        self.network = networks.build(task.encoder, task.tune, recipe, len(task.classes), device)
        self.optimiser = groups.optimiser(self.network, recipe)
        self.scaler = torch.amp.GradScaler(
            device.partition(":")[0], enabled=self.precision == "fp16"
        )
        self.micro_batch = recipe.micro_batch or recipe.batch
        self.rate = 0.0
        self._weight = _class_weight(task, device)
        if recipe.compile:
            self.network.compile()

    def standardise(self) -> None:
        """Measure the features that the head starts from.

        Raises:
            EncoderOutputError: if they are not as long as the contract says.
            TrainingDivergedError: if one is no number.
        """
        training = self.task.training
        places = np.unique(np.linspace(0, len(training) - 1, _MEASURED).astype(np.int64))
        some = training.only(np.lexsort(training.digest.T[::-1])[places])
        self.network.eval()
        feature = self._within_memory(lambda: self._each(some, self.network.feature))
        expected, found = (len(some), self.task.encoder.contract.dim), tuple(feature.shape)
        if found != expected:
            raise EncoderOutputError(self.task.encoder.name, expected, found)
        bad = ~feature.isfinite().all(dim=1)
        if bad.any():
            raise self._diverged(some, np.flatnonzero(bad.cpu().numpy()), epoch=0, step=0)
        self.network.head.standardise_by(feature)

    def step(self, batch: Batch, epoch: int, step: int, scale: float) -> float:
        """Learn from a batch.

        Args:
            batch: from the task's training pictures.
            epoch: from 1.
            step: from 0, of the whole training; with the seed it decides all that is drawn.
            scale: of the learning rate.

        Returns:
            the mean loss of its pictures.

        Raises:
            TrainingDivergedError: if loss or gradient is no number; nothing was learnt from it.
            DeviceTooSmallError: if not even one picture fits.
            CompilerFailedError: if the network was to be compiled and cannot be.
        """
        seed = int(np.random.SeedSequence([self.task.seed, epoch, step]).generate_state(1)[0])
        networks.set_learning(self.network, self.task.tune, self.task.recipe)
        loss = self._within_memory(lambda: self._gradients(batch, seed))
        self.scaler.unscale_(self.optimiser)
        parameters = [one for group in self.optimiser.param_groups for one in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.task.recipe.clip or _ANY)
        mean, gradient = torch.stack([loss.sum(), norm.to(loss.device)]).tolist()
        # Under fp16 a gradient may overflow: the scaler then leaves this step out and scales less.
        if not np.isfinite(mean if self.scaler.is_enabled() else mean + gradient):
            bad = np.flatnonzero(~loss.isfinite().cpu().numpy())
            bad = bad if len(bad) else np.arange(len(batch))
            raise self._diverged(
                self.task.training, batch.place[bad], epoch, step + 1, mean, gradient
            )
        self._update(scale)
        return float(mean)

    def validate(self, epoch: int, step: int) -> tuple[float, float]:
        """Mean cross-entropy and macro-F1 on the validation pictures.

        Raises:
            TrainingDivergedError: if the loss is no number.
        """
        pictures = self.task.validation
        self.network.eval()
        logits = self._within_memory(lambda: self._each(pictures, self.network)).double()
        label = torch.from_numpy(pictures.label).to(logits.device)
        loss = functional.cross_entropy(logits, label, reduction="none").cpu().numpy()
        if not np.isfinite(loss).all():
            bad = np.flatnonzero(~np.isfinite(loss))
            raise self._diverged(pictures, bad, epoch, step, float(loss.mean()))
        predicted = logits.argmax(dim=1).cpu().numpy()
        return float(loss.mean()), _macro_f1(pictures.label, predicted, len(self.task.classes))

    def moments(self) -> dict[str, Tensor]:
        """What the optimiser remembers, `NAME|KIND`."""
        state = self.optimiser.state
        return {
            f"{name}|{kind}": state[value][kind]
            for name, value in self._trainable()
            if value in state
            for kind in _MOMENTS
        }

    def resume(self, kept: Checkpoint) -> None:
        """Go on from a checkpoint: weights, moments, scale of the loss, pictures at once."""
        networks.restore(self.network, kept.network)
        self.micro_batch = kept.record.micro_batch
        if kept.record.scaler:
            self.scaler.load_state_dict(
                {
                    name: int(value) if name in _COUNTS else value
                    for name, value in kept.record.scaler.items()
                }
            )
        for name, value in self._trainable():
            if f"{name}|step" in kept.optimiser:
                step = kept.optimiser[f"{name}|step"].clone()
                held: dict[str, Tensor] = {"step": step}
                for kind in _MOMENTS[1:]:
                    held[kind] = torch.empty_like(value).copy_(kept.optimiser[f"{name}|{kind}"])
                self.optimiser.state[value] = held

    def _trainable(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        for group in self.optimiser.param_groups:
            yield from zip(group["names"], group["params"], strict=True)

    def _gradients(self, batch: Batch, seed: int) -> Tensor:
        """Add up a batch's gradients, in parts; returns each picture's share of the mean loss."""
        # Whatever is drawn, dropout say, is drawn anew when memory ends and this begins again.
        torch.manual_seed(seed)
        self.optimiser.zero_grad(set_to_none=True)
        label = batch.label.to(self.device)
        total = len(label) if self._weight is None else self._weight[label].sum()
        losses = []
        for part in _parts(len(batch), self.micro_batch):
            picture = normalised(batch, part, self._preprocessing, self.device)
            with self._autocast():
                logits = self.network(picture)
            loss = functional.cross_entropy(
                logits,
                label[part],
                weight=self._weight,
                label_smoothing=self.task.recipe.label_smoothing,
                reduction="none",
            )
            loss = loss / total
            self.scaler.scale(loss.sum()).backward()  # type: ignore[no-untyped-call]  # torch's stubs lack it
            losses.append(loss.detach())
        return torch.cat(losses)

    def _update(self, scale: float) -> None:
        self.rate = self.task.rate * scale
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * group["scale"]
        try:
            self.scaler.step(self.optimiser)
        except Exception as error:
            # Half of the weights may have moved: not to be begun again.
            if is_out_of_memory(error):
                raise DeviceTooSmallError(self.task.encoder.name, self.device) from error
            raise
        self.scaler.update()

    def _each(self, pictures: Pictures, run: Callable[[Tensor], Tensor]) -> Tensor:
        """What a network gives for each picture as it is, (n, …) float32."""
        given = []
        with torch.inference_mode():
            for batch in plain_batches(pictures, self.micro_batch, self.task.workers):
                picture = normalised(batch, slice(None), self._preprocessing, self.device)
                with self._autocast():
                    given.append(run(picture).float())
            return torch.cat(given)

    def _within_memory(self, work: Callable[[], Result]) -> Result:
        """Do it, with half of the pictures at once whenever memory ends.

        Raises:
            DeviceTooSmallError: if one is too many.
            CompilerFailedError: if it is the first of a compiled network, which cannot be.
        """
        while True:
            try:
                return work()
            except Exception as error:
                if not is_out_of_memory(error):
                    self._raise_compiler_s(error)
                    raise
            # Outside the handler: what its traceback held is free by now.
            self._halve()

    def _raise_compiler_s(self, error: Exception) -> None:
        if not self.task.recipe.compile:
            return
        from torch._dynamo.exc import TorchDynamoException  # torch has no public name for these

        if isinstance(error, TorchDynamoException):
            reason = str(error).partition("\n")[0]
            raise CompilerFailedError(self.task.encoder.name, reason) from error

    def _halve(self) -> None:
        before = min(self.micro_batch, self.task.recipe.batch)
        self.optimiser.zero_grad(set_to_none=True)
        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()
        if before == 1:
            raise DeviceTooSmallError(self.task.encoder.name, self.device)
        self.micro_batch = before // 2
        tracked = self.task.tune == "full" and self.task.recipe.batch_norm == "tracked"
        caveat = "; batch norms, if it has any, now see fewer at once" if tracked else ""
        self.report.note(
            f"{self.task.encoder.name}: {self.device} has no memory for {before} pictures at "
            f"once, so {self.micro_batch} go through at a time and their gradients are added up: "
            f"a step is of {self.task.recipe.batch} as before{caveat}"
        )

    @property
    def _preprocessing(self) -> Any:
        return self.task.encoder.contract.preprocessing

    def _autocast(self) -> Any:
        kind = torch.float16 if self.precision == "fp16" else torch.bfloat16
        return torch.autocast(
            self.device.partition(":")[0], dtype=kind, enabled=self.precision != "fp32"
        )

    def _diverged(
        self,
        pictures: Pictures,
        place: NDArray[np.int64],
        epoch: int,
        step: int,
        loss: float = float("nan"),
        gradient: float = float("nan"),
    ) -> TrainingDivergedError:
        return TrainingDivergedError(
            encoder=self.task.encoder.name,
            rate=self.task.rate,
            epoch=epoch,
            step=step,
            loss=loss,
            gradient=gradient,
            images=tuple(one.tobytes().hex()[:12] for one in pictures.digest[place]),
            kept=max(epoch - 1, 0),
        )


def _class_weight(task: Task, device: str) -> Tensor | None:
    if task.recipe.class_weights == "none":
        return None
    count = np.bincount(task.training.label, minlength=len(task.classes))
    weight = len(task.training) / (len(task.classes) * count)
    return torch.from_numpy(weight.astype(np.float32)).to(device)


def _macro_f1(label: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> float:
    """Over the classes that occur: a small split may lack one."""
    confusion = np.zeros((classes, classes))
    np.add.at(confusion, (label, predicted), 1)
    there = np.unique(label)
    beside = np.setdiff1d(np.arange(classes), there)
    # What is predicted outside the set stands in further columns, as metrics read it.
    return float(macro_f1.from_confusion(confusion[there][:, [*there, *beside]]))


def _parts(count: int, most: int) -> list[slice]:
    """Split into as few parts as may be, as equal as can be."""
    ends = np.linspace(0, count, -(-count // most) + 1).round().astype(int).tolist()
    return [slice(start, end) for start, end in pairwise(ends)]
