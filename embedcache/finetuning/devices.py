"""Jobs on the devices that are there: here, one after another, or a process for each GPU.

A process takes the next job as soon as it is free, so that a fold that stops early leaves no GPU
idle. What it has to report travels to the process that waits, as small values.
"""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from embedcache.errors import EmbedcacheError, WorkerDiedError
from embedcache.finetuning.task import Epoch, Report, Step

Job = TypeVar("Job")

#: Does a job on a device, with a report; made once in each process, closed at its end.
Worker = Callable[[Job, Report], None]
#: Makes a worker for a device; importable by name.
MakeWorker = Callable[[str], AbstractContextManager[Worker[Job]]]

#: Seconds after which a process that says nothing is looked at.
_LOOK = 1.0


class WorkFailedError(RuntimeError):
    """What another process raised that was no error of ours, with its name."""


@dataclass(frozen=True, slots=True)
class _Event:
    """Something that a job came to: `said` is a Step, an Epoch, a line, an error or None (done)."""

    job: int
    said: Step | Epoch | str | BaseException | None


def run_jobs(
    jobs: Sequence[Job],
    devices: Sequence[str],
    make: MakeWorker[Job],
    watch: Callable[[Job], AbstractContextManager[Report]],
    done: Callable[[Job], None] = lambda _: None,
) -> None:
    """Do all jobs. One that fails does not keep the others from finishing; then it is raised.

    Args:
        jobs: small values.
        devices: of one, jobs run in this process; of several, each gets a process.
        make: makes what does them.
        watch: what reports a job, in this process.
        done: hears of each that is finished.

    Raises:
        WorkerDiedError: if a process was killed, for want of memory most often.
        Exception: whatever the first job that failed raised.
    """
    if not jobs:
        return
    if len(devices) == 1 or len(jobs) == 1:
        _run_here(jobs, devices[0], make, watch, done)
        return
    _Pool(jobs, devices[: len(jobs)], make).run(watch, done)


def _run_here(
    jobs: Sequence[Job],
    device: str,
    make: MakeWorker[Job],
    watch: Callable[[Job], AbstractContextManager[Report]],
    done: Callable[[Job], None],
) -> None:
    failed: Exception | None = None
    with make(device) as work:
        for job in jobs:
            try:
                with watch(job) as report:
                    work(job, report)
                done(job)
            except Exception as error:  # noqa: BLE001  # raised again once the others have finished
                failed = failed or error
    if failed is not None:
        raise failed


class _Pool(Generic[Job]):
    """A process for each device."""

    def __init__(self, jobs: Sequence[Job], devices: Sequence[str], make: MakeWorker[Job]) -> None:
        # Not forked: CUDA, once used here, would not work there.
        context = multiprocessing.get_context("spawn")
        self._jobs = jobs
        self._events: Any = context.Queue()
        # Kept here: what a process was given is let go of as soon as that is started.
        self._waiting: Any = context.Queue()
        for number in range(len(jobs)):
            self._waiting.put(number)
        for _ in devices:
            self._waiting.put(None)
        self._processes = [
            context.Process(
                target=_serve,
                args=(make, device, list(jobs), self._waiting, self._events),
                daemon=True,
            )
            for device in devices
        ]

    def run(
        self,
        watch: Callable[[Job], AbstractContextManager[Report]],
        done: Callable[[Job], None],
    ) -> None:
        """Start all, and hear of every job once."""
        failed: BaseException | None = None
        left = set(range(len(self._jobs)))
        try:
            for process in self._processes:
                process.start()
            with ExitStack() as stack:
                reports: dict[int, tuple[ExitStack, Report]] = {}
                while left:
                    event = self._next()
                    if event.job not in reports:
                        one = stack.enter_context(ExitStack())
                        reports[event.job] = one, one.enter_context(watch(self._jobs[event.job]))
                    own, report = reports[event.job]
                    if _pass_on(event.said, report):
                        continue
                    own.close()
                    left.discard(event.job)
                    if isinstance(event.said, BaseException):
                        failed = failed or event.said
                    else:
                        done(self._jobs[event.job])
        finally:
            for process in self._processes:
                process.join(_LOOK)
                process.terminate()
        if failed is not None:
            raise failed

    def _next(self) -> _Event:
        """Wait for something to happen.

        Raises:
            WorkerDiedError: if a process died, and nothing that it said is left to read.
        """
        while True:
            died = any(process.exitcode not in {None, 0} for process in self._processes)
            try:
                event: _Event = self._events.get(timeout=_LOOK)
            except queue.Empty:
                if died:
                    raise WorkerDiedError from None
                continue
            return event


def _pass_on(said: object, report: Report) -> bool:
    """Tell whoever watches; False where the job is over."""
    if isinstance(said, Step):
        report.stepped(said)
    elif isinstance(said, Epoch):
        report.finished(said)
    elif isinstance(said, str):
        report.note(said)
    else:
        return False
    return True


class _Teller:
    """A `Report` that sends everything to the process that waits."""

    def __init__(self, job: int, events: Any) -> None:
        self._job, self._events = job, events

    def stepped(self, step: Step) -> None:
        self._events.put(_Event(self._job, step))

    def finished(self, epoch: Epoch) -> None:
        self._events.put(_Event(self._job, epoch))

    def note(self, line: str) -> None:
        self._events.put(_Event(self._job, line))


def _serve(
    make: MakeWorker[Job], device: str, jobs: Sequence[Job], waiting: Any, events: Any
) -> None:
    """Take jobs until there are none; runs in a process of its own."""
    with make(device) as work:
        while (number := waiting.get()) is not None:
            try:
                work(jobs[number], _Teller(number, events))
                events.put(_Event(number, None))
            except EmbedcacheError as error:  # ours cross processes whole
                events.put(_Event(number, error))
            except Exception as error:  # noqa: BLE001  # another's may not: its name and words do
                events.put(_Event(number, WorkFailedError(f"{type(error).__name__}: {error}")))
