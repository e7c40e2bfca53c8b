"""Passes that other processes compute: one a device, or Dask's workers. This one only writes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from embedcache.encoders.device import pick_devices
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.spec import EncoderSpec
from embedcache.errors import WorkerDiedError
from embedcache.extraction.asked import Settings
from embedcache.extraction.clock import Clock
from embedcache.extraction.crew import Crew, DeviceCrew
from embedcache.extraction.dask_crew import DaskCrew
from embedcache.extraction.dispatch import LOSSES, landed, run_spans, spans_of
from embedcache.extraction.orders import Assignment, Orders, Scouted
from embedcache.extraction.outcome import PassSummary
from embedcache.extraction.running import Running
from embedcache.extraction.scratch import drop_scratch
from embedcache.extraction.station import leave, load_libraries, scout
from embedcache.extraction.steering import Readers
from embedcache.extraction.stream import Lane


def crew_passes(running: Running, lanes: Sequence[Lane]) -> Iterator[PassSummary]:
    """Have a crew encode what lanes lack, as many lanes at once as a worker's memory holds.

    Raises:
        DeviceMissingError: if a device that was named is not there.
        SchedulerError: if the scheduler does not answer, or has no worker.
        WorkerDiedError: if no worker is left.
        NoWorkerLeftError: if a cluster's workers went away, and none came.
        SchedulerGoneError: if the scheduler is no longer there.
    """
    waiting, scratch = list(lanes), secrets.token_hex(8)
    readers = Readers(1 + running.wanted[-1].row)
    with _crew(running.settings) as crew:
        while waiting:
            taken, summary = _through(running, waiting, crew, scratch, readers)
            waiting = [lane for lane in waiting if lane not in taken]
            yield summary
        crew.everywhere(drop_scratch, scratch)


def _crew(settings: Settings) -> DaskCrew | DeviceCrew:
    if settings.scheduler is not None:
        return DaskCrew(settings.scheduler)
    return DeviceCrew(pick_devices(settings.device))


def _through(
    running: Running, waiting: Sequence[Lane], crew: Crew, scratch: str, readers: Readers
) -> tuple[list[Lane], PassSummary]:
    """Send what the first lanes lack through them; which lanes, a worker's memory says."""
    orders = _orders(running, waiting, scratch)
    found = _scouted(crew, orders)
    lanes = [waiting[number] for number in found.lanes]
    for lane, batch, prints in zip(lanes, found.batch, found.fingerprints, strict=True):
        if running.measures(lane):
            running.settle_batch(lane, batch)
        running.begin(lane, prints, found.made)
    clock, images = Clock(), running.lacking(lanes)
    later = [lane for lane in waiting if lane not in lanes]
    hands, started = max(1, crew.hands), time.monotonic()
    with running.shown(lanes):
        spans = spans_of(images, lanes, later, fast=found.made.device != "cpu")
        packed = _settled(orders, found).packed()
        accounts = run_spans(spans, lanes, crew, (packed, orders.run), clock, readers)
    for one in accounts.compiled:
        running.progress.note(str(one))
    summary = running.finish(lanes, len(images), started, accounts.bare / hands, clock)
    crew.everywhere(leave, orders.run)
    return lanes, summary


def _orders(running: Running, lanes: Sequence[Lane], scratch: str) -> Orders:
    settings = running.settings
    return Orders(
        run=secrets.token_hex(8),
        scratch=scratch,
        lanes=tuple(
            Assignment(
                encoders=tuple(_anywhere(track.encoder) for track in lane.tracks),
                batch=None if running.measures(lane) else lane.batch,
            )
            for lane in lanes
        ),
        # Devices that were named are each process's own; a Dask worker looks for one.
        device=settings.device if settings.scheduler is not None else "auto",
        workers=settings.workers_each,
        compiled=settings.compiled,
    )


def _anywhere(encoder: ResolvedEncoder) -> ResolvedEncoder:
    """The encoder for whoever works in another folder."""
    return encoder if encoder.file is None else replace(encoder, file=encoder.file.absolute())


def _scouted(crew: Crew, orders: Orders) -> Scouted:
    """Have one worker build what fits; another, if it dies of that."""
    packed = orders.packed()
    specs = [encoder.spec for lane in orders.lanes for encoder in lane.encoders]
    if any(isinstance(spec, EncoderSpec) for spec in specs):
        crew.everywhere(load_libraries)
    for _ in range(LOSSES):
        found = landed(crew.submit(scout, packed), crew)
        if found is not None:
            return found
    raise WorkerDiedError


def _settled(orders: Orders, found: Scouted) -> Orders:
    """The orders for all workers: only what fits, with batches and fingerprints."""
    lanes = tuple(
        replace(orders.lanes[number], batch=batch, fingerprints=prints)
        for number, batch, prints in zip(found.lanes, found.batch, found.fingerprints, strict=True)
    )
    return replace(orders, lanes=lanes)
