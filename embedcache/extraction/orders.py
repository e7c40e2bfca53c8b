"""What travels between a command and its workers: orders, spans, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.extraction.compilation import Compilation
from embedcache.extraction.pictures import Wanted
from embedcache.provenance import Fingerprint, Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Assignment:
    """Encoders that share a forward pass, as they travel.

    Attributes:
        encoders: of one lane.
        batch: images a batch; None: to be measured.
        fingerprints: of each encoder, which a worker's must agree with; empty before there are any.
    """

    encoders: tuple[ResolvedEncoder, ...]
    batch: int | None
    fingerprints: tuple[Fingerprint | None, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Orders:
    """What a worker must know of a pass.

    Attributes:
        run: names the pass.
        scratch: names the scratch file that a worker's passes of one command share.
        lanes: what it may be given to encode, in order.
        device: `auto` or one that the worker has.
        threads: that a worker process may keep busy.
        workers: threads that read and decode; None: what `threads` allow.
        compiled: whether torch.compile makes the kernels.
    """

    run: str
    scratch: str
    lanes: tuple[Assignment, ...]
    device: str
    threads: int = 1
    workers: int | None = None
    compiled: bool = False

    def packed(self) -> bytes:
        """The orders as they travel, with encoders that a test or a notebook defines."""
        data: bytes = cloudpickle.dumps(self)
        return data


@dataclass(frozen=True, kw_only=True, slots=True)
class Scouted:
    """What a worker found out before the others are given work.

    Attributes:
        lanes: places in the orders of those that fit into memory together, the longest first.
        batch: images a batch of each of these.
        fingerprints: of each encoder of each of these.
        made: what computes there.
    """

    lanes: tuple[int, ...]
    batch: tuple[int, ...]
    fingerprints: tuple[tuple[Fingerprint | None, ...], ...]
    made: Provenance


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """Images of whole batches.

    Attributes:
        images: in row order.
        wanted: rows of them that each lane lacks.
        later: rows that lanes of later passes lack, of each shape that these want.
    """

    images: tuple[Wanted, ...]
    wanted: tuple[NDArray[np.int64], ...]
    later: tuple[tuple[Preprocessing, NDArray[np.int64]], ...] = ()


@dataclass(slots=True, eq=False)
class Basket:
    """What became of one encoder's rows of a span; see `stream.Keeper`."""

    batch: int
    found: list[tuple[NDArray[np.int64], NDArray[np.float32]]] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    halved: list[tuple[NDArray[np.int64], int]] = field(default_factory=list)

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        """Take finite vectors, (k,) rows and (k, dim)."""
        self.found.append((rows, vectors))

    def fail(self, row: int, reason: str) -> None:
        """Take note that a row has none."""
        self.failed[row] = reason

    def note_halved(self, rows: NDArray[np.int64], most: int) -> None:
        """Take note that memory ended."""
        self.halved.append((rows, most))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Harvest:
    """What came of a span.

    Attributes:
        baskets: of each encoder of each lane, in order.
        station: which station it was, by a random name.
        worker: which worker process, by its crew's name for it.
        bare: seconds of bare forward passes there, since it began.
        stages: seconds by stage, likewise.
        compiled: what compiling each network came to, where no harvest has told it yet.
    """

    baskets: tuple[tuple[Basket, ...], ...]
    station: str
    worker: str
    bare: float
    stages: dict[str, float]
    compiled: tuple[Compilation, ...] = ()
