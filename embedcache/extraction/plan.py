"""What an extraction would do, how long it would take, how much it would write. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_all
from embedcache.cohorts.survey import Survey, survey
from embedcache.encoders.device import pick_devices
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.several import resolve_all
from embedcache.executor import check_scheduler, cores
from embedcache.extraction.asked import Settings, settings_for
from embedcache.extraction.batch import BATCH
from embedcache.extraction.clock import Clock
from embedcache.extraction.encode import fitted
from embedcache.extraction.engine import ThreadEngine, threads_of
from embedcache.extraction.passes import Pass, device_of, passes
from embedcache.extraction.rows import Rows, in_any
from embedcache.extraction.scratch import Scratch
from embedcache.extraction.stream import Lane, Track, lanes_of, run_pass
from embedcache.extraction.wanted import WantedImages, wanted_images
from embedcache.progress import Progress, Silent
from embedcache.store.image_table import empty_table, rows_of
from embedcache.store.reader import FeatureStore, open_store

#: Images of a batch that a CPU is timed with; it is hardly slower than with many.
_FEW = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedEncoder:
    """What would be done for one encoder.

    Attributes:
        name: reference without weights.
        feature_id: of its contract.
        images: distinct readable images of the cohorts.
        missing: of these, not in the store.
        in_pass: which pass would encode them, from 1; 0: none is missing.
        bytes: to be written.
        random_weights: whether nobody trained this encoder.
    """

    name: str
    feature_id: str
    images: int
    missing: int
    in_pass: int
    bytes: int
    random_weights: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedPass:
    """One pass over the images.

    Attributes:
        encoders: names of those that would run together.
        images: that at least one of them lacks.
        seconds: that it would take, from a few batches through all of them.
    """

    encoders: tuple[str, ...]
    images: int
    seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What `extract` would do.

    Attributes:
        encoders: one each, in the order asked for.
        passes: in order; none if nothing is missing.
        timed_on: the one device of this machine that passes were timed on; empty if none was.
        devices: how many would share the work, each GPU counted once; None: a scheduler's workers,
            which a plan does not ask.
    """

    encoders: tuple[PlannedEncoder, ...]
    passes: tuple[PlannedPass, ...]
    timed_on: str
    devices: int | None


@dataclass(frozen=True, slots=True)
class _Nowhere:
    """Takes the vectors of a measurement; see `stream.Keeper`."""

    batch: int

    def put(self, rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> None:
        pass

    def fail(self, row: int, reason: str) -> None:
        pass

    def note_halved(self, rows: NDArray[np.int64], most: int) -> None:
        pass


def plan(
    store: Path,
    cohorts: Sequence[Cohort | str],
    encoders: Sequence[ResolvedEncoder | str],
    *,
    device: str = "auto",
    batch: int | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Say what `extract` with the same arguments would do; see there for them and for errors.

    Of several devices the first is measured alone: the time is what that one would take. With a
    scheduler it is what this machine would take.
    """
    progress = progress or Silent()
    if scheduler is not None:
        check_scheduler(scheduler)
    resolved = resolve_all(encoders, progress)
    surveys = [survey(cohort, workers or cores(), progress) for cohort in read_all(cohorts)]
    settings = settings_for(device, batch, workers, surveys)
    there = open_store(store) if store.exists() else None
    images = wanted_images(surveys, _rows(surveys, there))
    tracks = [_track(encoder, images, there, settings) for encoder in resolved]
    lanes = lanes_of([track for track in tracks if track.wanted])
    devices = pick_devices(device) if settings.elsewhere else (device,)
    timed_on = device_of(lanes, devices[0])
    # Not a loop: its variable would hold a pass's networks while the next one's are built.
    found = list(map(partial(_planned_pass, images, settings), passes(lanes, timed_on)))
    return Plan(
        encoders=tuple(_planned(track, len(images), [one for one, _ in found]) for track in tracks),
        passes=tuple(planned for _, planned in found),
        timed_on=timed_on if found else "",
        devices=len(set(devices)) if scheduler is None else None,
    )


def _rows(surveys: Sequence[Survey], store: FeatureStore | None) -> list[NDArray[np.int64]]:
    """Rows that `extract` would give the images of each survey, (m,) int64; -1: unreadable."""
    known = empty_table() if store is None else store.images
    digest = np.concatenate([known.digest[:0], *(found.digest for found in surveys)])
    readable = np.concatenate([np.zeros(0, np.bool_), *(found.readable for found in surveys)])
    row = np.full(len(digest), -1, np.int64)
    row[readable] = rows_of(known.digest, digest[readable])
    return np.split(row, np.cumsum([len(found.cohort) for found in surveys])[:-1])


def _track(
    encoder: ResolvedEncoder,
    images: WantedImages,
    store: FeatureStore | None,
    settings: Settings,
) -> Track:
    feature_id = encoder.contract.feature_id
    batch, done = settings.batch or BATCH, Rows.of(np.zeros(0, np.int64))
    for one in () if store is None else store.feature_sets():
        if store is not None and one.id == feature_id:
            batch, done = one.batch, Rows.of(np.flatnonzero(store.done(feature_id)))
    return Track(encoder, _Nowhere(batch), images.row[~done.holds(images.row)])


def _planned(track: Track, images: int, found: list[tuple[Lane, ...]]) -> PlannedEncoder:
    contract = track.encoder.contract
    numbers = [
        number
        for number, lanes in enumerate(found, start=1)
        if any(track in lane.tracks for lane in lanes)
    ]
    return PlannedEncoder(
        name=track.encoder.name,
        feature_id=contract.feature_id,
        images=images,
        missing=len(track.wanted),
        in_pass=numbers[0] if numbers else 0,
        bytes=len(track.wanted) * contract.dim * np.dtype(contract.dtype).itemsize,
        random_weights=contract.random_weights,
    )


def _planned_pass(
    images: WantedImages, settings: Settings, one: Pass
) -> tuple[tuple[Lane, ...], PlannedPass]:
    some = images.only(in_any({lane.wanted for lane in one.lanes}, images.row))
    planned = PlannedPass(
        encoders=tuple(track.encoder.name for lane in one.lanes for track in lane.tracks),
        images=len(some),
        seconds=_seconds_an_image(one, some, settings) * len(some),
    )
    return one.lanes, planned


def _seconds_an_image(one: Pass, images: WantedImages, settings: Settings) -> float:
    """Send the first few images through the pass, all of its encoders at once, to nowhere."""
    device = one.forwards[0].device
    batch = _FEW if device == "cpu" else one.lanes[0].batch
    some = images[: 2 * batch * threads_of(device)]
    rows = np.array([image.row for image in some], np.int64)
    lanes = tuple(
        Lane(tuple(Track(track.encoder, _Nowhere(batch), rows) for track in lane.tracks))
        for lane in one.lanes
    )
    clock = Clock()
    sample = replace(one, lanes=lanes, later=())
    started = time.monotonic()
    with Scratch(Path.cwd(), most=0) as scratch, ThreadEngine(one.forwards, clock) as engine:
        job = partial(fitted, sample, scratch, clock)
        run_pass(some, lanes, engine, job, settings.workers, clock)
    return (time.monotonic() - started) / len(some)
