"""Where batches become vectors: threads of this process, a few a device.

`submit` is all that a pass knows of it: pixels in, a future of vectors out, and it blocks while
enough waits already. Another process, or another machine, may stand behind the same call.

A CPU runs one batch a core, each on one thread: no core waits for another within a layer, decoding
takes the gaps, and how many cores there are never shows in the numbers. A GPU is given two batches:
while it computes one, the other's pixels are copied.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from embedcache.executor import cores
from embedcache.extraction.clock import Clock
from embedcache.extraction.forward import Encoded, Forward

#: Batches that wait at a device beside those under way: it never runs dry between two.
WAITING = 2
#: Batches that a GPU is given at once.
_ON_GPU = 2


class Engine(Protocol):
    """Takes batches, gives vectors."""

    def submit(self, forward: int, pixels: NDArray[np.uint8]) -> Future[Encoded]:
        """Encode a batch by one of the pass's forwards; blocks while enough batches wait."""


class ThreadEngine:
    """The forwards of one pass in threads of this process. Use it as a context manager."""

    def __init__(
        self, forwards: Sequence[Forward], clock: Clock, threads: int | None = None
    ) -> None:
        """See the class.

        Args:
            forwards: of the pass.
            clock: counts their time.
            threads: batches that a CPU encodes at once; None: one a core.
        """
        self._forwards = forwards
        self._clock = clock
        devices = {one.device for one in forwards}
        self._desks = {device: _Desk(device, threads) for device in devices}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        # Held for the whole pass: threads that each set and restored it would undo each other's.
        if any(self._desks):
            self._stack.enter_context(_numbers_fixed())
        return self

    def __exit__(self, *_: object) -> None:
        for desk in self._desks.values():
            desk.pool.shutdown(cancel_futures=True)
        self._stack.close()

    def submit(self, forward: int, pixels: NDArray[np.uint8]) -> Future[Encoded]:
        """See `Engine.submit`."""
        one = self._forwards[forward]
        desk = self._desks[one.device]
        with self._clock.on("wait for the device"):
            desk.slots.acquire()
        future = desk.pool.submit(self._encode, one, pixels)
        future.add_done_callback(lambda _: desk.slots.release())
        return future

    @property
    def bare(self) -> float:
        """Seconds that the forward passes so far would have taken with nothing beside them."""
        return max((desk.bare for desk in self._desks.values()), default=0.0)

    def _encode(self, forward: Forward, pixels: NDArray[np.uint8]) -> Encoded:
        with self._clock.on("forward"), self._desks[forward.device].at_work():
            return forward.encode(pixels)


def threads_of(device: str) -> int:
    """Batches that a device is given at once; arithmetic without a network has device ""."""
    if device == "cpu":
        return cores()
    return _ON_GPU if device.startswith("cuda") else 1


class _Desk:
    """One device: its threads, its queue, and how long it worked."""

    def __init__(self, device: str, most: int | None) -> None:
        self._shared = device == "cpu"
        threads = most if self._shared and most is not None else threads_of(device)
        self.pool = ThreadPoolExecutor(threads, initializer=_begin, initargs=(device,))
        self.slots = threading.BoundedSemaphore(threads + WAITING)
        self._threads = threads
        self._guard = threading.Lock()
        self._working = 0
        self._since = 0.0
        self._busy = 0.0

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Count time: of a CPU the thread's own, which decoding beside it does not lengthen."""
        own = time.thread_time()
        with self._guard:
            self._since = time.perf_counter() if self._working == 0 else self._since
            self._working += 1
        try:
            yield
        finally:
            with self._guard:
                self._working -= 1
                if self._shared:
                    self._busy += (time.thread_time() - own) / self._threads
                elif self._working == 0:
                    self._busy += time.perf_counter() - self._since

    @property
    def bare(self) -> float:
        with self._guard:
            return self._busy


def _begin(device: str) -> None:
    """Set up a thread: of a CPU, one of torch's own to each; of a GPU, a stream to each."""
    if device == "cpu":
        import torch

        torch.set_num_threads(1)
    elif device.startswith("cuda"):
        import torch

        torch.cuda.set_stream(torch.cuda.Stream(device))  # type: ignore[no-untyped-call]  # torch's stubs lack it


@contextmanager
def _numbers_fixed() -> Iterator[None]:
    """Arithmetic as contracts promise it, and torch's number of threads as it was on leaving."""
    import torch

    from embedcache.encoders.network import reproducible

    before = torch.get_num_threads()
    try:
        with reproducible():
            yield
    finally:
        torch.set_num_threads(before)
