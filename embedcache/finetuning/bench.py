"""Where jobs are done: one device, and the pictures that the encoder of the day wants."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedcache.errors import TrainingDivergedError
from embedcache.finetuning.gather import Gallery, gallery
from embedcache.finetuning.loop import train
from embedcache.finetuning.task import Epoch, Report, Step, Together, Unwatched
from embedcache.finetuning.tensorboard import TensorBoard
from embedcache.finetuning.units import Unit
from embedcache.finetuning.work import do_unit, tasks_of
from embedcache.results.layout import folder_name


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Job:
    """A unit, or one training of it alone: a learning rate that is tried beside others.

    Attributes:
        unit: whose.
        rate: the rate to try; None: the unit from beginning to end.
    """

    unit: Unit
    rate: float | None = None


@contextmanager
def worker(tensorboard: Path | None, device: str) -> Iterator[_Bench]:
    """What does jobs on a device; lets go of its pictures on leaving."""
    bench = _Bench(device, tensorboard)
    try:
        yield bench
    finally:
        bench.close()


class _Bench:
    """Does jobs on one device; keeps the pictures of one preprocessing from job to job."""

    def __init__(self, device: str, tensorboard: Path | None) -> None:
        self._device = device
        self._tensorboard = tensorboard
        self._pictures: dict[str, Gallery] = {}
        self._stack = ExitStack()

    def __call__(self, job: Job, report: Report) -> None:
        pictures = self._gathered(job.unit)
        with _reported(self._tensorboard, job, report) as told:
            self._do(job, pictures, told)

    def _do(self, job: Job, pictures: Gallery, report: Report) -> None:
        if job.rate is None:
            do_unit(job.unit, pictures, self._device, report)
            return
        (task,) = tasks_of(job.unit, pictures, [job.rate])
        try:
            train(task, device=self._device, report=report)
        except TrainingDivergedError as error:
            report.note(str(error))  # the unit itself meets it again, and weighs the other rates

    def close(self) -> None:
        """Let go of the pictures."""
        self._pictures.clear()
        self._stack.close()

    def _gathered(self, unit: Unit) -> Gallery:
        """The pictures as a unit's encoder wants them; those of the last encoder go first."""
        if unit.reference not in self._pictures:
            self.close()
            how = unit.encoder.contract.preprocessing
            opened = self._stack.enter_context(gallery(unit.prepared, how, unit.results))
            self._pictures[unit.reference] = opened
        return self._pictures[unit.reference]


@contextmanager
def _reported(tensorboard: Path | None, job: Job, report: Report) -> Iterator[Report]:
    if tensorboard is None:
        yield report
        return
    unit = job.unit
    rate = "" if job.rate is None else f"-rate-{job.rate:g}"
    place = tensorboard / unit.asked.arm / folder_name(unit.reference)
    with ExitStack() as stack:
        yield Together((report, _Boards(place, f"fold-{unit.fold}{rate}", stack)))


class _Boards(Unwatched):
    """Opens a board for each training of a unit: they would write over one another in one."""

    def __init__(self, folder: Path, name: str, stack: ExitStack) -> None:
        self._folder, self._name, self._stack = folder, name, stack
        self._board: TensorBoard | None = None
        self._number = self._last = 0

    def stepped(self, step: Step) -> None:
        if self._board is None or step.step <= self._last:
            self._number += 1
            place = self._folder / f"{self._name}-training-{self._number}"
            self._board = self._stack.enter_context(TensorBoard(place))
        self._last = step.step
        self._board.stepped(step)

    def finished(self, epoch: Epoch) -> None:
        if self._board is not None:
            self._board.finished(epoch)
