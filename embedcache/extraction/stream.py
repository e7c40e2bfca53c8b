"""One pass over the images: each is read and decoded once, and feeds every encoder that lacks it.

A picture of row r lies at place r mod b of a batch of b pictures, and the rest of the batch is
zeros where nothing is wanted: a vector depends neither on its neighbours nor on where a run began.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.spec import Encoder
from embedcache.errors import ImageUnreadableError
from embedcache.images.decode import decode
from embedcache.images.source import Source
from embedcache.progress import Stage
from embedcache.store.lease import FeatureLease

Pixels = NDArray[np.uint8]
#: Pictures in flight a worker: enough to keep it busy while a batch is encoded, few enough that
#: a hundred cores hold some gigabytes at most.
WINDOW = 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """One image of the pass.

    Attributes:
        row: in the image table.
        digest: which its bytes must still have.
        source: where to read it.
    """

    row: int
    digest: bytes
    source: Source


class Lane:
    """One encoder's way through the pass: gathers its batches, hands its vectors to its lease."""

    def __init__(self, encoder: Encoder, lease: FeatureLease, wanted: NDArray[np.int64]) -> None:
        self.encoder = encoder
        self.lease = lease
        self.wanted = frozenset(wanted.tolist())
        self.shape = fitting(encoder.contract.preprocessing)
        self.encoded = 0
        self.failed: dict[int, str] = {}
        self._batch = -1
        self._rows: list[int] = []
        self._pixels: Pixels | None = None

    def add(self, row: int, pixels: Pixels) -> None:
        """Lay a picture at its place; a row of another batch sends the gathered one off first."""
        if row // self.lease.batch != self._batch:
            self.flush()
            self._batch = row // self.lease.batch
        if self._pixels is None:
            self._pixels = np.zeros((self.lease.batch, *pixels.shape), np.uint8)
        self._pixels[row % self.lease.batch] = pixels
        self._rows.append(row)

    def fail(self, row: int, reason: str) -> None:
        """Record that a row has no vector, and why."""
        self.failed[row] = reason
        self.lease.fail(row, reason)

    def flush(self) -> None:
        """Encode what is gathered."""
        if self._pixels is None or not self._rows:
            return
        rows = np.array(self._rows, np.int64)
        vectors = self.encoder.encode(self._pixels)[rows % self.lease.batch]
        finite = np.isfinite(vectors).all(axis=1)
        self.lease.put(rows[finite], vectors[finite])
        for row in rows[~finite].tolist():
            self.fail(row, "the encoder's output is not finite")
        self.encoded += int(finite.sum())
        self._rows.clear()
        self._pixels.fill(0)


def fitting(preprocessing: Preprocessing) -> Preprocessing:
    """The part of a preprocessing that decides its uint8 pixels; equal parts share one picture."""
    return dataclasses.replace(preprocessing, mean=(), std=())


def run_pass(images: Iterable[Wanted], lanes: list[Lane], workers: int, stage: Stage) -> None:
    """Encode every wanted image in every lane that lacks it; images in ascending row order."""
    with ThreadPoolExecutor(workers) as pool:
        for image, found in _ahead(pool, images, lanes, window=WINDOW * workers):
            hungry = [lane for lane in lanes if image.row in lane.wanted]
            for lane in hungry:
                if isinstance(found, str):
                    lane.fail(image.row, found)
                else:
                    lane.add(image.row, found[lane.shape])
            stage.advance()
        for lane in lanes:
            lane.flush()


def _ahead(
    pool: ThreadPoolExecutor, images: Iterable[Wanted], lanes: list[Lane], window: int
) -> Iterator[tuple[Wanted, dict[Preprocessing, Pixels] | str]]:
    """Prepare images in threads, `window` ahead of the one that is yielded, in order."""
    flying: deque[tuple[Wanted, Future[dict[Preprocessing, Pixels] | str]]] = deque()
    for image in images:
        flying.append((image, pool.submit(_prepare, image, lanes)))
        if len(flying) >= window:
            yield _landed(flying)
    while flying:
        yield _landed(flying)


def _landed(
    flying: deque[tuple[Wanted, Future[dict[Preprocessing, Pixels] | str]]],
) -> tuple[Wanted, dict[Preprocessing, Pixels] | str]:
    image, future = flying.popleft()
    return image, future.result()


def _prepare(image: Wanted, lanes: list[Lane]) -> dict[Preprocessing, Pixels] | str:
    """Read, check, decode and fit one image for the lanes that want it, or say why not."""
    try:
        raw = image.source.read()
        if raw.digest != image.digest:
            return "the file changed during the run"
        picture = decode(raw)
    except ImageUnreadableError as error:
        return error.reason
    prepared: dict[Preprocessing, Pixels] = {}
    for lane in lanes:
        if image.row in lane.wanted and lane.shape not in prepared:
            prepared[lane.shape] = lane.encoder.prepare(picture)
    return prepared
