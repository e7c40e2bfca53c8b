"""One way of running units: in this process, or in worker processes with one BLAS thread each.

BLAS rounds differently with another number of threads, so one worker is pinned as well: how many
workers ran a unit never shows in its numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from embedcache.errors import WorkerDiedError

Unit = TypeVar("Unit")
Done = TypeVar("Done")

#: Thread pools that scientific libraries read when they are loaded.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def cores() -> int:
    """How many processors this process may use, container limits included."""
    import loky

    return int(loky.cpu_count())


def run_units(
    work: Callable[[Unit], Done], units: Sequence[Unit], *, workers: int
) -> Iterator[Done]:
    """Do all units and give what each returns, in order of completion.

    A unit that fails does not keep the others from finishing; then the first failure is raised.

    Args:
        work: done to each unit; with several workers importable by name, and pickled.
        units: small values: workers read what is large from disk.
        workers: processes; 1 works here.

    Raises:
        WorkerDiedError: if a worker process was killed, for want of memory most often.
        Exception: whatever `work` raises, of the first unit that failed.
    """
    done = _run_here(work, units) if workers <= 1 else _run_in_processes(work, units, workers)
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


def _run_here(work: Callable[[Unit], Done], units: Sequence[Unit]) -> Iterator[Future[Done]]:
    for unit in units:
        future: Future[Done] = Future()
        try:
            future.set_result(_pinned(work, unit))
        except Exception as error:  # noqa: BLE001  # raised again once the others have finished
            future.set_exception(error)
        yield future


def _run_in_processes(
    work: Callable[[Unit], Done], units: Sequence[Unit], workers: int
) -> Iterator[Future[Done]]:
    import loky

    pool = loky.ProcessPoolExecutor(max_workers=min(workers, len(units)), env=_ONE_THREAD)
    finished = False
    try:
        yield from as_completed([pool.submit(_pinned, work, unit) for unit in units])
        finished = True
    finally:
        # Left early, by Ctrl-C most likely: nobody waits for what is still running.
        pool.shutdown(wait=True, kill_workers=not finished)


def _pinned(work: Callable[[Unit], Done], unit: Unit) -> Done:
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships none

    # The environment pins pools that load later; this pins those that have.
    with threadpool_limits(1):
        return work(unit)
