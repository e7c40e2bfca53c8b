"""One way of running units: here, in worker processes, or on Dask; one BLAS thread each.

BLAS rounds differently with another number of threads, so one worker is pinned as well: how many
workers ran a unit, and where, never shows in its numbers. A unit is a small value: whatever is
large, features above all, a worker reads from the disk that all of them see, so a Dask scheduler
carries names and not matrices.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

from embedcache.errors import SchedulerError, WorkerDiedError

Unit = TypeVar("Unit")
Done = TypeVar("Done")
Given_co = TypeVar("Given_co", covariant=True)

#: Thread pools that scientific libraries read when they are loaded.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
#: A Dask cluster of so many processes on this machine, for as long as the command runs.
_LOCAL = re.compile(r"local:([1-9][0-9]*)")
#: Seconds after which a scheduler that does not answer is not there.
_PATIENCE = 10


class Finished(Protocol[Given_co]):
    """What a unit came to, in the shape that `concurrent.futures` and Dask share."""

    def exception(self) -> BaseException | None:
        """What it raised, if it did."""

    def result(self) -> Given_co:
        """What it returned."""


def cores() -> int:
    """How many processors this process may use, container limits included."""
    import loky

    return int(loky.cpu_count())


def run_units(
    work: Callable[[Unit], Done],
    units: Sequence[Unit],
    *,
    workers: int = 1,
    scheduler: str | None = None,
) -> Iterator[Done]:
    """Do all units and give what each returns, in order of completion.

    A unit that fails does not keep the others from finishing; then the first failure is raised.

    Args:
        work: done to each unit; unless it is done here, importable by name, and pickled.
        units: small values: workers read what is large from disk.
        workers: processes; 1 works here.
        scheduler: where Dask does it instead: `local:N` processes, or a scheduler's address.

    Raises:
        SchedulerError: if the scheduler makes no sense or does not answer.
        WorkerDiedError: if a worker process was killed, for want of memory most often.
        Exception: whatever `work` raises, of the first unit that failed.
    """
    if scheduler is not None:
        done = _run_on_dask(work, units, scheduler)
    elif workers <= 1:
        done = _run_here(work, units)
    else:
        done = _run_in_processes(work, units, workers)
    failed: BaseException | None = None
    try:
        for future in done:
            error = future.exception()
            if error is None:
                yield future.result()
            failed = failed or error
        if failed is not None:
            raise failed
    except BrokenProcessPool as error:
        raise WorkerDiedError from error


def some_at_once(
    pool: ThreadPoolExecutor,
    items: Sequence[Unit],
    job: Callable[[Unit], Done],
    *,
    at_once: int,
    window: int,
) -> Iterator[tuple[Sequence[Unit], Future[list[Done]]]]:
    """Do a job to every item in threads, a few items a thread, in order and never far ahead.

    Args:
        pool: its threads.
        items: cut into slices.
        job: done to each.
        at_once: items a slice: handing one over costs a tenth of a millisecond.
        window: items under way or done ahead of the slice that is given.

    Yields:
        each slice and what becomes of it.
    """

    def work(some: Sequence[Unit]) -> list[Done]:
        return [job(item) for item in some]

    # Not map(), which submits everything at once: a future of each of a million images is a GB.
    flying: deque[tuple[Sequence[Unit], Future[list[Done]]]] = deque()
    for start in range(0, len(items), at_once):
        some = items[start : start + at_once]
        flying.append((some, pool.submit(work, some)))
        if len(flying) * at_once >= window:
            yield flying.popleft()
    while flying:
        yield flying.popleft()


def check_scheduler(scheduler: str) -> None:
    """Make sure, before any work, that a scheduler can be meant.

    Raises:
        SchedulerError: if it is neither `local:N` nor an address, or Dask is not installed.
    """
    if not _LOCAL.fullmatch(scheduler) and (
        scheduler.startswith("local") or not re.search(r":[0-9]+$", scheduler)
    ):
        raise SchedulerError(scheduler, "is neither an address such as tcp://host:8786 nor local:N")
    try:
        import distributed  # noqa: F401  # an extra, which may not be there
    except ImportError as error:
        problem = "needs dask.distributed: pip install 'embedcache-bench[cluster]'"
        raise SchedulerError(scheduler, problem) from error


def _run_here(work: Callable[[Unit], Done], units: Sequence[Unit]) -> Iterator[Finished[Done]]:
    for unit in units:
        future: Future[Done] = Future()
        try:
            future.set_result(_pinned(work, unit))
        except Exception as error:  # noqa: BLE001  # raised again once the others have finished
            future.set_exception(error)
        yield future


def _run_in_processes(
    work: Callable[[Unit], Done], units: Sequence[Unit], workers: int
) -> Iterator[Finished[Done]]:
    import loky

    pool = loky.ProcessPoolExecutor(max_workers=min(workers, len(units)), env=_ONE_THREAD)
    finished = False
    try:
        yield from as_completed([pool.submit(_pinned, work, unit) for unit in units])
        finished = True
    finally:
        # Left early, by Ctrl-C most likely: nobody waits for what is still running.
        pool.shutdown(wait=True, kill_workers=not finished)


def _run_on_dask(
    work: Callable[[Unit], Done], units: Sequence[Unit], scheduler: str
) -> Iterator[Finished[Done]]:
    check_scheduler(scheduler)
    if not units:
        return
    from distributed import KilledWorker, as_completed

    with ExitStack() as stack:
        client = connected(scheduler, len(units), stack)
        # `pure=False`: a unit is done again though another command did one like it.
        futures = [client.submit(_pinned, work, unit, pure=False) for unit in units]
        stack.callback(client.cancel, futures)  # left early: what has not begun never does
        for future in as_completed(futures):  # type: ignore[no-untyped-call]  # distributed is untyped here
            if isinstance(future.exception(), KilledWorker):
                raise WorkerDiedError
            yield future


def connected(scheduler: str, units: int, stack: ExitStack) -> Any:
    """Connect to a scheduler, or start one here; the stack closes what it opens.

    Raises:
        SchedulerError: if it does not answer.
    """
    from distributed import Client, LocalCluster

    stack.enter_context(_quiet("distributed.client"))
    local = _LOCAL.fullmatch(scheduler)
    if local is not None:
        cluster = LocalCluster(  # type: ignore[no-untyped-call]  # likewise
            n_workers=min(int(local[1]), units),
            threads_per_worker=1,
            memory_limit=0,  # the system's own limit, as for other processes
            dashboard_address="127.0.0.1:0",  # beside another cluster on this machine
        )
        return stack.enter_context(Client(stack.enter_context(cluster)))  # type: ignore[no-untyped-call]  # likewise
    try:
        return stack.enter_context(Client(scheduler, timeout=_PATIENCE))  # type: ignore[no-untyped-call]  # likewise
    except (OSError, ValueError) as error:
        raise SchedulerError(scheduler, f"does not answer within {_PATIENCE} seconds") from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Keep a logger's tracebacks off the screen: a scheduler that went away is an error of ours."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)


def _pinned(work: Callable[[Unit], Done], unit: Unit) -> Done:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships none

    # The environment pins pools that load later; this pins those that have.
    with threadpool_limits(1):
        return work(unit)
