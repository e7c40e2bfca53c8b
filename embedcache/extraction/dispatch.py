"""Hands spans of images to a crew as it finishes them, and puts away what comes back.

One writer: vectors come back to the process that holds the leases. A lost worker's spans are given
to another; one that loses workers time and again is what kills them, and ends the run.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from embedcache.contract import Preprocessing
from embedcache.errors import NoWorkerLeftError, SchedulerGoneError, WorkerDiedError
from embedcache.extraction.clock import Clock
from embedcache.extraction.compilation import Compilation
from embedcache.extraction.crew import Crew
from embedcache.extraction.orders import Basket, Harvest, Span
from embedcache.extraction.pictures import Wanted
from embedcache.extraction.rows import Rows, in_any
from embedcache.extraction.shelf import Shelf
from embedcache.extraction.station import work
from embedcache.extraction.steering import Readers, Waiting
from embedcache.extraction.stream import Lane, Track
from embedcache.images.source import ImageFile, Source

Done = TypeVar("Done")

#: Images a span, rounded to whole batches: on a fast device what a span costs beside its pictures
#: must not show; on a CPU one batch is seconds of work already.
_ON_FAST = 256
#: Seconds that a crew may be without any worker, and between looks at it.
PATIENCE, _LOOK = 300.0, 10.0
#: Times that a span may be lost. Dask itself has tried it four times before it calls it lost.
LOSSES = 3


class Accounts:
    """Seconds of a pass, as its stations last told them.

    Attributes:
        compiled: what compiling came to, a network and worker each.
    """

    def __init__(self) -> None:
        self.compiled: list[Compilation] = []
        self._last: dict[str, Harvest] = {}

    def note(self, harvest: Harvest) -> None:
        """Take what a station says of itself; answers may come out of order."""
        self.compiled.extend(harvest.compiled)
        before = self._last.get(harvest.station)
        if before is None or before.bare <= harvest.bare:
            self._last[harvest.station] = harvest

    @property
    def bare(self) -> float:
        """Seconds of bare forward passes, summed over stations."""
        return sum(one.bare for one in self._last.values())

    def stages(self) -> Iterator[tuple[str, float]]:
        """Each station's seconds by stage."""
        for one in self._last.values():
            yield from one.stages.items()


def spans_of(
    images: Sequence[Wanted], lanes: Sequence[Lane], later: Sequence[Lane] = (), *, fast: bool
) -> Iterator[Span]:
    """Cut images, in row order, where no lane's batch is cut.

    Args:
        images: of the pass.
        lanes: of the pass.
        later: of the passes after it.
        fast: whether a device is so fast that spans had better be long.
    """
    whole = math.lcm(*(lane.batch for lane in lanes))
    length = whole * max(1, _ON_FAST // whole) if fast else whole
    some: list[Wanted] = []
    for image in images:
        if some and some[0].row // length != image.row // length:
            yield _span(some, lanes, later)
            some = []
        some.append(image)
    if some:
        yield _span(some, lanes, later)


def _span(images: Sequence[Wanted], lanes: Sequence[Lane], later: Sequence[Lane]) -> Span:
    rows = np.array([image.row for image in images], np.int64)
    shapes: dict[Preprocessing, list[Rows]] = {}
    for lane in later:
        shapes.setdefault(lane.shape, []).append(lane.wanted)
    return Span(
        images=tuple(replace(image, source=_absolute(image)) for image in images),
        wanted=tuple(rows[lane.wanted.holds(rows)] for lane in lanes),
        later=tuple((shape, rows[in_any(every, rows)]) for shape, every in shapes.items()),
    )


def _absolute(image: Wanted) -> Source:
    """The source of an image, for whoever works in another folder."""
    source = image.source
    return ImageFile(source.path.absolute()) if isinstance(source, ImageFile) else source


def run_spans(
    spans: Iterator[Span],
    lanes: Sequence[Lane],
    crew: Crew,
    orders: tuple[bytes, str],
    clock: Clock,
    readers: Readers,
) -> Accounts:
    """Have a crew encode spans.

    Args:
        spans: of images that some lane lacks.
        lanes: take the vectors, in the orders' order.
        crew: does the work.
        orders: of the pass, packed, and its name.
        clock: counts the time of writing, and in the end that of all stations.
        readers: who read what in the passes before; told of this one.

    Raises:
        WorkerDiedError: if no process is left, or a span kills every worker it comes to.
        NoWorkerLeftError: if the cluster's workers went away, and none came.
        SchedulerGoneError: if Dask's scheduler is no longer there.
    """
    waiting, accounts = Waiting(spans, readers), Accounts()
    idle: deque[str] = deque()
    losses: dict[int, int] = {}
    flying: dict[Future[Harvest], Span] = {}
    with Shelf(clock) as shelf:
        while True:
            while len(flying) < max(1, crew.room):  # a crew without hands must say so
                found = waiting.take(idle.popleft() if idle else None)
                if found is None:
                    break
                span, reader = found
                flying[crew.submit(work, *orders, span, to=reader)] = span
            if not flying:
                break
            for future in _first(flying, crew):
                span = flying.pop(future)
                harvest = _result(future, crew)
                if harvest is None:
                    waiting.put_back(_lost(span, losses))
                    continue
                idle.append(harvest.worker)
                readers.note(span, harvest.worker)
                accounts.note(harvest)
                shelf.put(partial(_put_away, lanes, harvest, clock))
    for stage, seconds in accounts.stages():
        clock.add(stage, seconds)
    return accounts


def landed(future: Future[Done], crew: Crew) -> Done | None:
    """Wait for what comes of a call; None if its worker died.

    Raises:
        NoWorkerLeftError: if the cluster's workers went away, and none came.
        SchedulerGoneError: if Dask's scheduler is no longer there.
        Exception: what the call raised.
    """
    (done,) = _first([future], crew)
    return _result(done, crew)


def _first(flying: Collection[Future[Done]], crew: Crew) -> set[Future[Done]]:
    """Calls that are done, at least one, so long as there is a worker or may be one soon."""
    deserted = time.monotonic()
    while True:
        done, _ = wait(flying, timeout=_LOOK, return_when=FIRST_COMPLETED)
        if done:
            return done
        if crew.hands:
            deserted = time.monotonic()
        elif time.monotonic() - deserted > PATIENCE:
            raise NoWorkerLeftError(PATIENCE)


def _result(future: Future[Done], crew: Crew) -> Done | None:
    try:
        return future.result()
    except CancelledError as error:
        raise SchedulerGoneError from error
    except crew.lost:
        return None


def _lost(span: Span, losses: dict[int, int]) -> Span:
    """Count a loss of a span."""
    first = span.images[0].row
    losses[first] = losses.get(first, 0) + 1
    if losses[first] == LOSSES:
        raise WorkerDiedError
    return span


def _put_away(lanes: Sequence[Lane], harvest: Harvest, clock: Clock) -> None:
    with clock.on("write"):
        for lane, baskets in zip(lanes, harvest.baskets, strict=True):
            for track, basket in zip(lane.tracks, baskets, strict=True):
                _put_basket(track, basket)


def _put_basket(track: Track, basket: Basket) -> None:
    for rows, most in basket.halved:
        track.keeper.note_halved(rows, most)
    for rows, vectors in basket.found:
        track.put(rows, vectors, track.keeper.batch)
    failed: Mapping[int, str] = basket.failed
    for row, reason in failed.items():
        track.fail(row, reason)
