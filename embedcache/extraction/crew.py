"""Worker processes that spans are given to: here, one a device of this machine."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Any, Protocol, Self, TypeVar

import cloudpickle

from embedcache.encoders.memory import ENVIRONMENT
from embedcache.errors import WorkerDiedError
from embedcache.executor import cores

Done = TypeVar("Done")

#: Spans that one device is given at once: while one is encoded, the next is decoded.
AT_ONCE = 2


class Crew(Protocol):
    """Does calls in worker processes.

    Attributes:
        lost: what a call raises whose worker died; another may be given it.
    """

    lost: tuple[type[BaseException], ...]

    @property
    def hands(self) -> int:
        """Worker processes there are."""

    @property
    def room(self) -> int:
        """Calls that it likes to have at once."""

    def submit(
        self, call: Callable[..., Done], *given: object, to: str | None = None
    ) -> Future[Done]:
        """Do a call in some worker, and give what it returns.

        Args:
            call: done with what is `given`, its device, its threads, and `worker`: its name.
            given: to it.
            to: the worker that would do it fastest; another does it if that one is busy or gone.
        """

    def everywhere(self, call: Callable[..., object], *given: object) -> None:
        """Have all workers do a call; one that dies of it is missed later."""


class DeviceCrew:
    """A process of this machine for each device. Use it as a context manager.

    A process that dies leaves its work to the others.
    """

    lost: tuple[type[BaseException], ...] = (WorkerDiedError,)

    def __init__(self, devices: Sequence[str]) -> None:
        """See the class; a device may be named twice."""
        threads = max(1, cores() // len(devices))
        self._at_once = threads + 1 if devices[0] == "cpu" else AT_ONCE
        self._processes = [
            _Process(str(number), device, threads, self._at_once)
            for number, device in enumerate(devices)
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.stop()

    @property
    def hands(self) -> int:
        """Processes that live."""
        return sum(process.alive for process in self._processes)

    @property
    def room(self) -> int:
        """One more than are worked on, so that no process waits for the next."""
        return self.hands * (self._at_once + 1)

    def submit(
        self, call: Callable[..., Done], *given: object, to: str | None = None
    ) -> Future[Done]:
        """See `Crew.submit`; else the process that has least to do gets it.

        Raises:
            WorkerDiedError: if no process is left.
        """
        alive = [process for process in self._processes if process.alive]
        if not alive:
            raise WorkerDiedError
        least = min(alive, key=lambda process: process.waiting)
        asked = (one for one in alive if one.name == to and one.waiting <= self._at_once)
        return next(asked, least).submit(call, *given)

    def everywhere(self, call: Callable[..., object], *given: object) -> None:
        """See `Crew.everywhere`."""
        alive = [process for process in self._processes if process.alive]
        for future in [process.submit(call, *given) for process in alive]:
            future.exception()


class _Process:
    """A process for one device, and a thread here that hears from it."""

    def __init__(self, name: str, device: str, threads: int, at_once: int) -> None:
        self.name = name
        self._device = device
        self._threads = threads
        self._at_once = at_once
        self._futures: dict[int, Future[Any]] = {}
        self._given = 0
        self._guard = threading.Lock()
        self.alive = False

    @property
    def waiting(self) -> int:
        """Calls that it has not answered."""
        return len(self._futures)

    def start(self) -> None:
        """Begin; answers come once it has imported what it needs."""
        from loky.backend import get_context

        # loky's, as it does not run the caller's script again, as `spawn` does.
        context = get_context("loky")
        self._pipe, there = context.Pipe()
        given = (there, self.name, self._device, self._threads, self._at_once)
        self._process = context.Process(target=_serve, args=given, daemon=True, env=ENVIRONMENT)
        self._process.start()
        there.close()
        self.alive = True
        self._hearing = threading.Thread(target=self._hear, name="embedcache-crew", daemon=True)
        self._hearing.start()

    def stop(self) -> None:
        """End it, whatever it is doing."""
        self._process.terminate()
        self._hearing.join()
        self._process.join()

    def submit(self, call: Callable[..., Done], *given: object) -> Future[Done]:
        """Send a call."""
        future: Future[Done] = Future()
        message = cloudpickle.dumps((call, given))
        with self._guard:
            number = self._given = self._given + 1
            self._futures[number] = future
            try:
                self._pipe.send((number, message))
            except OSError:  # it died; `_hear` says so for those sent before
                del self._futures[number]
                future.set_exception(WorkerDiedError())
        return future

    def _hear(self) -> None:
        while True:
            try:
                number, done, trouble = self._pipe.recv()
            except (EOFError, OSError):
                break
            with self._guard:
                future = self._futures.pop(number)
            _settle(future, done, trouble)
        with self._guard:
            self.alive = False
            lost, self._futures = list(self._futures.values()), {}
        for future in lost:
            future.set_exception(WorkerDiedError())


def _settle(future: Future[Any], done: object, trouble: BaseException | None) -> None:
    if trouble is None:
        future.set_result(done)
    else:
        future.set_exception(trouble)


def _serve(pipe: Connection, name: str, device: str, threads: int, at_once: int) -> None:
    """Do calls as they come, `at_once` of them: a worker process's whole life."""
    guard = threading.Lock()

    def do(number: int, message: bytes) -> None:
        answer: tuple[int, object, BaseException | None]
        try:
            call, given = cloudpickle.loads(message)
            done = call(*given, device=device, threads=threads, worker=name)
            answer = (number, done, None)
        except Exception as error:  # noqa: BLE001  # raised again in the command's process
            answer = (number, None, error)
        with guard:
            pipe.send(answer)

    with ThreadPoolExecutor(at_once) as pool:
        while True:
            try:
                number, message = pipe.recv()
            except EOFError:  # the command is gone
                return
            pool.submit(do, number, message)
