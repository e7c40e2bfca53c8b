"""Worker processes, on this machine or another: their encoders stay built, and spans come to them.

A span is the images of whole batches. Whoever gets it reads, decodes, fits and encodes as a process
alone would: batches begin at the same rows and a CPU's run on one thread each, so that the vectors
are the same to the bit. Pixels never travel: a worker reads the files from the disk that all see.
"""

from __future__ import annotations

import dataclasses
import secrets
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial

import cloudpickle
import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.device import device_name
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.selfcheck import self_check
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.extraction.batch import measured_batch
from embedcache.extraction.clock import Clock
from embedcache.extraction.compilation import Compilation
from embedcache.extraction.engine import ThreadEngine
from embedcache.extraction.forward import Forward
from embedcache.extraction.orders import Basket, Harvest, Orders, Scouted, Span
from embedcache.extraction.passes import Pass, built, device_of, passes
from embedcache.extraction.pictures import Fitted, Shapes, Wanted, prepare
from embedcache.extraction.scratch import Scratch, shared_scratch
from embedcache.extraction.stream import Lane, Track, run_pass
from embedcache.provenance import provenance
from embedcache.store.agreement import require_agreement

#: Seconds after which a station that nothing came to gives its memory to another run's: its
#: command was killed, or it will build its encoders again.
_FORSAKEN = 60.0


class Station:
    """Built encoders of a pass in a worker process, and the threads that run them."""

    def __init__(self, orders: Orders, lanes: Sequence[Lane], forwards: Sequence[Forward]) -> None:
        """See the class; `lanes` and `forwards` in the same order."""
        self.lanes = tuple(lanes)
        self.forwards = tuple(forwards)
        self.used = time.monotonic()
        self.busy = 0
        threads = orders.threads
        self._name = secrets.token_hex(8)
        self._scratch = orders.scratch
        self._untold = [forward for forward in self.forwards if orders.compiled]
        self._workers = orders.workers or (1 if self.device == "cpu" else max(1, threads // 2))
        self._clock = Clock()
        self._engine = ThreadEngine(forwards, self._clock, threads)
        self._engine.__enter__()

    @property
    def device(self) -> str:
        """Where it computes."""
        return self.forwards[0].device or "cpu"

    def close(self) -> None:
        """Give threads and memory back."""
        self._engine.__exit__(None, None, None)

    def harvest(self, span: Span, worker: str) -> Harvest:
        """Encode a span; any number of threads may at once."""
        lanes = [
            _lane([track.encoder for track in lane.tracks], lane.batch, rows)
            for lane, rows in zip(self.lanes, span.wanted, strict=True)
        ]
        scratch = shared_scratch(self._scratch)
        later = {shape: set(rows.tolist()) for shape, rows in span.later}
        job = partial(_fitted, lanes, later, scratch, self._clock)
        run_pass(span.images, lanes, self._engine, job, self._workers, self._clock)
        return Harvest(
            baskets=tuple(tuple(_basket(track) for track in lane.tracks) for lane in lanes),
            station=self._name,
            worker=worker,
            bare=self._engine.bare,
            stages=self._clock.seconds(),
            compiled=self._told(),
        )

    def _told(self) -> tuple[Compilation, ...]:
        """What compiling came to since this was last asked."""
        with _GUARD:
            done = {one: one.compilation for one in self._untold if one.compilation is not None}
            self._untold = [one for one in self._untold if one not in done]
        return tuple(done.values())


_STATIONS: dict[str, Station] = {}
_GUARD = threading.RLock()


def load_libraries(**_: object) -> None:
    """Begin to load what building networks takes, seconds of it, while another worker scouts."""
    threading.Thread(target=_load_libraries, name="embedcache-libraries", daemon=True).start()


def _load_libraries() -> None:
    # Guarded: two threads that import what imports each other may see halves of it.
    with _GUARD:
        repair_torchvision()
        import timm  # noqa: F401  # the import is the point


def scout(packed: bytes, *, device: str | None, threads: int, **_: object) -> Scouted:
    """Build as many lanes as fit into this worker's memory, and say how they do.

    Args:
        packed: orders.
        device: what this worker computes on; None: what the orders say.
        threads: that this worker may keep busy.

    Raises:
        DeviceMissingError: if the worker has no such device.
    """
    with _GUARD:
        orders = _unpacked(packed, device, threads)
        one = _first_pass(orders)
        place = {lane.tracks[0].encoder.contract.feature_id: lane for lane in one.lanes}
        first = [lane.encoders[0].contract.feature_id for lane in orders.lanes]
        lanes = tuple(first.index(feature_id) for feature_id in place)
        batch = tuple(
            orders.lanes[number].batch or measured_batch(forward)
            for number, forward in zip(lanes, one.forwards, strict=True)
        )
        found = tuple(tuple(self_check(forward.encoders)) for forward in one.forwards)
        settled = [
            _lane(lane.encoders, size)
            for lane, size in zip((orders.lanes[n] for n in lanes), batch, strict=True)
        ]
        station = _settle(orders, settled, one.forwards)
        made = provenance(device_name(station.device))
        return Scouted(lanes=lanes, batch=batch, fingerprints=found, made=made)


def work(
    packed: bytes, run: str, span: Span, *, device: str | None, threads: int, worker: str
) -> Harvest:
    """Encode a span, with encoders that stay built until `leave`.

    Args:
        packed: orders.
        run: names their pass.
        span: images.
        device: what this worker computes on; None: what the orders say.
        threads: that this worker may keep busy.
        worker: the crew's name for it.

    Raises:
        FingerprintDiffersError: if this worker's encoders do not give what the others' do.
    """
    with _GUARD:  # the first builds, the others wait for it
        station = _STATIONS.get(run) or _build(_unpacked(packed, device, threads))
        station.busy += 1
    try:
        return station.harvest(span, worker)
    finally:
        with _GUARD:
            station.busy -= 1
            station.used = time.monotonic()


def leave(run: str, **_: object) -> None:
    """Give back what a pass holds in this process; takes what the others take."""
    with _GUARD:
        station = _STATIONS.pop(run, None)
        if station is not None:
            station.close()


def _unpacked(packed: bytes, device: str | None, threads: int) -> Orders:
    orders: Orders = cloudpickle.loads(packed)
    return dataclasses.replace(orders, device=device or orders.device, threads=threads)


def _first_pass(orders: Orders) -> Pass:
    lanes = [_lane(lane.encoders, lane.batch or 1) for lane in orders.lanes]
    return next(passes(lanes, device_of(lanes, orders.device)))


def _build(orders: Orders) -> Station:
    lanes = [_lane(lane.encoders, lane.batch or 1) for lane in orders.lanes]
    device = device_of(lanes, orders.device)
    forwards = [built(lane, device) for lane in lanes]
    for lane, forward in zip(orders.lanes, forwards, strict=True):
        checks = zip(lane.encoders, self_check(forward.encoders), lane.fingerprints, strict=True)
        for encoder, here, there in checks:
            require_agreement(encoder.name, encoder.contract, here, there)
    return _settle(orders, lanes, forwards)


def _settle(orders: Orders, lanes: Sequence[Lane], forwards: Sequence[Forward]) -> Station:
    for run, other in list(_STATIONS.items()):
        if not other.busy and time.monotonic() - other.used > _FORSAKEN:
            leave(run)
    if orders.compiled:
        for forward in forwards:
            forward.compile()
    station = _STATIONS[orders.run] = Station(orders, lanes, forwards)
    return station


def _lane(
    encoders: Sequence[ResolvedEncoder], batch: int, wanted: NDArray[np.int64] | None = None
) -> Lane:
    rows = np.zeros(0, np.int64) if wanted is None else wanted
    return Lane(tuple(Track(encoder, Basket(batch), rows) for encoder in encoders))


def _basket(track: Track) -> Basket:
    assert isinstance(track.keeper, Basket), "see `_lane`"
    return track.keeper


def _fitted(
    lanes: Sequence[Lane],
    later: Mapping[Preprocessing, Collection[int]],
    scratch: Scratch,
    clock: Clock,
    image: Wanted,
) -> Fitted:
    now = dict.fromkeys(lane.shape for lane in lanes if image.row in lane.wanted)
    worth_keeping = tuple(shape for shape, rows in later.items() if image.row in rows)
    return prepare(image, Shapes(now=tuple(now), later=worth_keeping), scratch, clock)
