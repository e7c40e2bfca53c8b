"""How long tuning takes, measured on a few steps before it starts; and what fits a budget.

An upper bound: a training that stops early takes less. A budget changes no setting of a training,
because a number that depends on how much time there was could not be compared with any other; it
takes whole encoders, in the order asked for (docs/decisions/0107).
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from embedcache.encoders.preprocessing import fit
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.errors import BudgetError, BudgetTooSmallError
from embedcache.finetuning.loop import train
from embedcache.finetuning.task import Pictures, Step, Task, Unwatched
from embedcache.finetuning.units import Asked, Unit, learnt_and_set_aside

#: Steps that are timed, after one that is not: the first makes kernels and takes memory.
_TIMED = 2
#: Pictures a timed step on a CPU, where a picture takes as long in any batch; a GPU gets its own.
_FEW = 8
_BUDGET = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([mhd])")
_SECONDS = {"m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Pace:
    """Seconds a picture takes.

    Attributes:
        learning: forward and backward, its share of a step.
        looking: forward alone.
    """

    learning: float
    looking: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """How long one unit takes at most.

    Attributes:
        encoder: its name in the results.
        training: the training set, in words.
        trainings: how many, one a learning rate that is tried.
        images: learnt from in each epoch.
        seconds: of all of it.
    """

    encoder: str
    training: str
    trainings: int
    images: int
    seconds: float

    @property
    def hours(self) -> float:
        """The same in hours."""
        return self.seconds / 3600


def seconds_of(budget: str) -> float:
    """Read a budget: `90m`, `12h`, `1.5d`.

    Raises:
        BudgetError: if it is none.
    """
    found = _BUDGET.fullmatch(budget.strip())
    if found is None or not float(found[1]):
        raise BudgetError(budget)
    return float(found[1]) * _SECONDS[found[2]]


def pace_of(encoder: ResolvedEncoder, asked: Asked, device: str) -> Pace:
    """Time a few steps on noise; builds the network, so that weights that do not fit fail here.

    Raises:
        EncoderUnusableError: if it has no network.
        DeviceTooSmallError: if not even one picture fits beside it.
        BadInputError: as `ResolvedEncoder.build`.
    """
    batch = min(asked.recipe.batch, _FEW) if device == "cpu" else asked.recipe.batch
    built = encoder.build(device)
    pictures = _noise(encoder, batch * (1 + _TIMED))
    few = pictures.take(np.arange(batch))
    built.encode(few)
    started = time.perf_counter()
    built.encode(few)
    looking = (time.perf_counter() - started) / batch
    del built
    with tempfile.TemporaryDirectory() as folder:
        task = Task(
            encoder=encoder,
            tune=asked.tune,
            recipe=replace(asked.recipe, batch=batch, epochs=1, compile=False),
            rate=asked.rates[0],
            classes=("one", "other"),
            training=pictures,
            validation=pictures.only(np.arange(2)),
            folder=Path(folder),
        )
        clock = _Clock()
        train(task, device=device, report=clock)
    return Pace(learning=clock.seconds / (_TIMED * batch), looking=looking)


def estimate(unit: Unit, pace: Pace) -> Estimate:
    """How long a unit takes at most, every epoch run."""
    learnt, aside = (int(which.sum()) for which in learnt_and_set_aside(unit))
    one = unit.asked.recipe.epochs * (learnt * pace.learning + aside * pace.looking)
    one += learnt * pace.looking  # to standardise the features
    tested = int(unit.tested.sum()) + sum(len(one.row) for one in unit.prepared.external)
    return Estimate(
        encoder=unit.reference,
        training=unit.training,
        trainings=unit.trainings,
        images=learnt,
        seconds=unit.trainings * one + tested * pace.looking,
    )


def affordable(
    estimates: Sequence[Estimate], seconds: float, devices: int
) -> tuple[tuple[str, ...], Mapping[str, float]]:
    """Choose encoders that fit a budget: in order, each whole, if it still fits beside the others.

    Args:
        estimates: of the units to be done, in the order asked for.
        seconds: the budget.
        devices: trainings at once.

    Returns:
        Encoders that fit, and the hours of each that does not.

    Raises:
        BudgetTooSmallError: if none fits.
    """
    wanted: dict[str, float] = {}
    for one in estimates:
        wanted[one.encoder] = wanted.get(one.encoder, 0.0) + one.seconds / devices
    left, taken = seconds, []
    for encoder, takes in wanted.items():
        if takes <= left:
            taken.append(encoder)
            left -= takes
    dropped = {name: takes / 3600 for name, takes in wanted.items() if name not in taken}
    if wanted and not taken:
        cheapest = min(dropped, key=lambda name: dropped[name])
        raise BudgetTooSmallError(seconds / 3600, cheapest, dropped[cheapest])
    return tuple(taken), dropped


def _noise(encoder: ResolvedEncoder, count: int) -> Pictures:
    from PIL import Image

    rng = np.random.default_rng(0)
    how = encoder.contract.preprocessing
    drawn = rng.integers(0, 256, (how.height, how.width, 3), np.uint8)
    planes = fit(Image.fromarray(drawn), how)
    return Pictures(
        planes=planes[np.newaxis],
        row=np.zeros(count, np.int64),
        label=np.arange(count, dtype=np.int64) % 2,
        digest=rng.integers(0, 256, (count, 32), np.uint8),
    )


class _Clock(Unwatched):
    """Times all steps but the first."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def stepped(self, step: Step) -> None:
        now = time.perf_counter()
        if step.step > 1:
            self.seconds += now - self._since
        self._since = now
