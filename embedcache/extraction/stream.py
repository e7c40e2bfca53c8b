"""One pass over the images: each is read and decoded once, and feeds every encoder that lacks it.

A picture of row r lies at place r mod b of a batch of b pictures, and the rest of the batch is
zeros where nothing is wanted: a vector depends neither on its neighbours nor on where a run began.

Four kinds of threads hand work on, each bounded by the next: some read, decode and fit; this one
gathers batches; an `Engine`'s encode; a `Shelf`'s puts vectors away.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import widen
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.together import trunk
from embedcache.extraction.clock import Clock
from embedcache.extraction.engine import Engine
from embedcache.extraction.forward import Encoded
from embedcache.extraction.pictures import Fitted, Pixels, Wanted, ahead, fitting
from embedcache.extraction.rows import Rows
from embedcache.extraction.shelf import Shelf
from embedcache.progress import Stage

#: Pictures in flight a worker: enough to keep it busy while a batch is encoded, few enough that
#: a hundred cores hold some gigabytes at most.
WINDOW = 16
#: Batches whose vectors a pass waits for at its end: few, as they are held until then.
_LAST = 8


class Keeper(Protocol):
    """Takes what becomes of an encoder's rows; a `FeatureLease` is one."""

    @property
    def batch(self) -> int:
        """Images a batch."""

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take finite vectors, (k,) rows and (k, dim)."""

    def fail(self, row: int, reason: str) -> None:
        """Take note that a row has none."""

    def note_halved(self, rows: NDArray[np.int64], most: int) -> None:
        """Take note that memory ended, and that so many went through the network at once."""


class Track:
    """One encoder in a run: which rows it lacks, and where its vectors go."""

    def __init__(self, encoder: ResolvedEncoder, keeper: Keeper, wanted: NDArray[np.int64]) -> None:
        self.encoder = encoder
        self.keeper = keeper
        self.wanted = Rows.of(wanted)
        self.encoded = 0
        self.failed: dict[int, str] = {}
        self.stage: Stage | None = None

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32], most: int) -> None:
        """Put the vectors of rows away; one that is not finite is a failure."""
        finite = np.isfinite(vectors).all(axis=1)
        if most < self.keeper.batch:
            # Before the vectors are: a kill between the two must not leave such rows unnamed.
            self.keeper.note_halved(rows[finite], most)
        self.keeper.put(rows[finite], vectors[finite])
        self.encoded += int(finite.sum())
        self._advance(int(finite.sum()))
        for row in rows[~finite].tolist():
            self.fail(row, "the encoder's output is not finite")

    def fail(self, row: int, reason: str) -> None:
        """Record that a row has no vector, and why."""
        self.failed[row] = reason
        self.keeper.fail(row, reason)
        self._advance(1)

    def _advance(self, rows: int) -> None:
        if self.stage is not None:
            self.stage.advance(rows)


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """Encoders that share a forward pass, lack the same rows and have the same batches."""

    tracks: tuple[Track, ...]

    @property
    def batch(self) -> int:
        """Pictures a batch."""
        return self.tracks[0].keeper.batch

    @property
    def wanted(self) -> Rows:
        """Rows that its encoders lack."""
        return self.tracks[0].wanted

    @property
    def shape(self) -> Preprocessing:
        """What decides its pixels."""
        return fitting(self.tracks[0].encoder.contract.preprocessing)

    def put(self, rows: NDArray[np.int64], encoded: Future[Encoded], clock: Clock) -> None:
        """Put away what comes of a batch, once it has come."""
        found = encoded.result()
        with clock.on("write"):
            for track, vectors in zip(self.tracks, found.vectors, strict=True):
                track.put(rows, vectors[rows % self.batch], found.most)

    def fail(self, row: int, reason: str) -> None:
        """Record that no encoder has a vector of a row."""
        for track in self.tracks:
            track.fail(row, reason)


def lanes_of(tracks: Sequence[Track]) -> list[Lane]:
    """Put encoders that share a forward pass into one lane, in order of their first."""
    lanes: dict[object, list[Track]] = {}
    for track in tracks:
        make, contract = trunk(track.encoder)
        key = (make, contract, track.keeper.batch, track.wanted)
        lanes.setdefault(key, []).append(track)
    return [Lane(tuple(found)) for found in lanes.values()]


def run_pass(
    images: Sequence[Wanted],
    lanes: Sequence[Lane],
    engine: Engine,
    job: Callable[[Wanted], Fitted],
    workers: int,
    clock: Clock,
) -> None:
    """Encode every wanted image in every lane that lacks it.

    Args:
        images: in ascending row order.
        lanes: of this pass; the engine knows each by its place here.
        engine: encodes.
        job: reads, decodes and fits an image to what the lanes want of it.
        workers: threads that do so.
        clock: counts their time.
    """
    # Two batches ahead at least: one is gathered while the other's encoding is waited for.
    window = max(WINDOW * workers, 2 * max(lane.batch for lane in lanes))
    with ThreadPoolExecutor(workers) as pool, Shelf(clock) as shelf:
        sent: deque[Future[Encoded]] = deque(maxlen=_LAST)
        gathers = _gathers(lanes, engine, shelf, clock, sent)
        for image, found in ahead(pool, images, job, window, clock):
            for gather in gathers:
                if image.row in gather.wanted:
                    gather.add(image.row, found)
        for gather in gathers:
            gather.flush()
        # Of a worker's short span most of the time: else reading would pass for what limits it.
        with clock.on("wait for the device"):
            wait(sent)


def _gathers(
    lanes: Sequence[Lane],
    engine: Engine,
    shelf: Shelf,
    clock: Clock,
    sent: deque[Future[Encoded]],
) -> list[_Gather]:
    """One for all lanes whose batches hold the same pixels; `sent` gets what is encoded of them."""
    numbers: dict[object, list[int]] = {}
    for number, lane in enumerate(lanes):
        numbers.setdefault((lane.shape, lane.batch, lane.wanted), []).append(number)

    def send(number: int, rows: NDArray[np.int64], pixels: Pixels) -> None:
        future = engine.submit(number, pixels)
        sent.append(future)
        shelf.put(partial(lanes[number].put, rows, future, clock))
        for track in lanes[number].tracks:
            if track.stage is not None:
                track.stage.remark(_limited_by(clock.limit()))

    return [
        _Gather({number: lanes[number] for number in found}, send, shelf)
        for found in numbers.values()
    ]


def _limited_by(stage: str) -> str:
    return stage and f"limited by {stage}"


class _Gather:
    """Lays pictures at their places, and sends a batch off when a row of another comes."""

    def __init__(
        self,
        lanes: dict[int, Lane],
        send: Callable[[int, NDArray[np.int64], Pixels], None],
        shelf: Shelf,
    ) -> None:
        first = next(iter(lanes.values()))
        self.wanted = first.wanted
        self._shape = first.shape
        self._batch = first.batch
        self._lanes = lanes
        self._send = send
        self._shelf = shelf
        self._pictures: dict[int, Pixels] = {}

    def add(self, row: int, found: Fitted) -> None:
        """Take an image's picture, or the reason why it has none."""
        if isinstance(found, str):
            for lane in self._lanes.values():
                self._shelf.put(partial(lane.fail, row, found))
            return
        if self._pictures and next(iter(self._pictures)) // self._batch != row // self._batch:
            self.flush()
        self._pictures[row] = found[self._shape]
        if len(self._pictures) == self._batch:
            self.flush()

    def flush(self) -> None:
        """Send off what is gathered."""
        if not self._pictures:
            return
        rows = np.array(list(self._pictures), np.int64)
        pixels = stacked(self._pictures, self._batch, self._shape)
        self._pictures = {}
        for number in self._lanes:
            self._send(number, rows, pixels)


def stacked(pictures: dict[int, Pixels], batch: int, shape: Preprocessing) -> Pixels:
    """A batch, (b, planes, h, w) uint8: one plane if all are grey, three if one is not."""
    if len({len(planes) for planes in pictures.values()}) > 1:
        pictures = {row: widen(planes, shape) for row, planes in pictures.items()}
    pixels = np.zeros((batch, *next(iter(pictures.values())).shape), np.uint8)
    for row, planes in pictures.items():
        pixels[row % batch] = planes
    return pixels
