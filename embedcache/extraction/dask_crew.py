"""A Dask cluster's workers as a crew: those that it has, and those that join."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from typing import Any, Self, TypeVar

from embedcache.encoders.memory import ENVIRONMENT
from embedcache.errors import SchedulerError, SchedulerGoneError
from embedcache.executor import check_scheduler, connected
from embedcache.extraction.crew import AT_ONCE

Done = TypeVar("Done")

#: Of a Dask worker's GPU, what one span takes: two of them share it.
_PART = {"GPU": 1 / AT_ONCE}
#: More workers than any cluster of this machine has.
_ANY = 1 << 16
#: Seconds between looks at who is there.
_LOOK = 5.0


class DaskCrew:
    """The workers of a Dask cluster, those that come later too. Use it as a context manager.

    Where workers declare the resource GPU, only they are given work.
    """

    def __init__(self, scheduler: str) -> None:
        """See the class; `scheduler` as in `executor.run_units`.

        Raises:
            SchedulerError: if the scheduler makes no sense, or Dask is not installed.
        """
        check_scheduler(scheduler)
        from distributed import KilledWorker

        self.lost: tuple[type[BaseException], ...] = (KilledWorker,)
        self._scheduler = scheduler
        self._stack = ExitStack()
        self._there: dict[str, tuple[int, float]] = {}
        self._looked = -_LOOK

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            SchedulerError: if the scheduler does not answer, or has no worker.
        """
        import dask

        with ExitStack() as stack:
            # Its own word would have every freed page given back, and faulted in again.
            given = {f"distributed.nanny.pre-spawn-environ.{k}": v for k, v in ENVIRONMENT.items()}
            with dask.config.set(given):
                self._client = connected(self._scheduler, _ANY, stack)
            if not self._workers():
                raise SchedulerError(self._scheduler, "has no worker: start one, or more")
            resources = _PART if self._on_gpus else None
            self._executor = self._client.get_executor(pure=False, resources=resources)
            stack.callback(self._leave)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _leave(self) -> None:
        # Else the scheduler went away: nothing is left to be cancelled, and nobody to be asked.
        if self._client.status == "running":
            self._executor.shutdown(wait=False)

    @property
    def hands(self) -> int:
        """Workers there are; none, while those killed are being started again."""
        return len(self._takers())

    @property
    def room(self) -> int:
        """One more a worker than are worked on, so that none waits for the next."""
        return sum(self._share(*worker) + 1 for worker in self._takers()) or 1

    def submit(
        self, call: Callable[..., Done], *given: object, to: str | None = None
    ) -> Future[Done]:
        """See `Crew.submit`; else the cluster chooses, and idle workers take from busy ones.

        Raises:
            SchedulerGoneError: if the scheduler is no longer there; so do the others.
        """
        there = {} if to is None else {"workers": [to], "allow_other_workers": True}
        with self._scheduler_there():
            future: Future[Done] = self._executor.submit(_on_worker, call, *given, **there)
        return future

    def everywhere(self, call: Callable[..., object], *given: object) -> None:
        """See `Crew.everywhere`."""
        with self._scheduler_there():
            self._client.run(call, *given, on_error="ignore")

    @contextmanager
    def _scheduler_there(self) -> Iterator[None]:
        """Say in our words that a scheduler does not answer."""
        if self._client.status in {"closing", "closed"}:  # by itself, after trying for a while
            raise SchedulerGoneError
        try:
            yield
        except OSError as error:
            raise SchedulerGoneError from error

    def _workers(self) -> dict[str, tuple[int, float]]:
        """Threads and GPUs of each worker, by address."""
        if time.monotonic() - self._looked > _LOOK:
            with self._scheduler_there():
                self._there = self._client.run_on_scheduler(_threads_and_gpus)
            self._looked = time.monotonic()
        return self._there

    @property
    def _on_gpus(self) -> bool:
        return any(gpus for _, gpus in self._workers().values())

    def _takers(self) -> list[tuple[int, float]]:
        workers = list(self._workers().values())
        return [worker for worker in workers if worker[1]] or workers

    def _share(self, threads: int, gpus: float) -> int:
        return min(threads, int(gpus * AT_ONCE)) if gpus else threads


def _threads_and_gpus(dask_scheduler: Any) -> dict[str, tuple[int, float]]:
    return {
        address: (worker.nthreads, worker.resources.get("GPU", 0.0))
        for address, worker in dask_scheduler.workers.items()
    }


def _on_worker(call: Callable[..., Done], *given: object) -> Done:
    from distributed import get_worker

    worker = get_worker()
    return call(*given, device=None, threads=worker.state.nthreads, worker=worker.address)
