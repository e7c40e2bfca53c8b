"""Encode whatever images the encoders lack, in as few passes as memory allows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.device import device_name
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.selfcheck import self_check
from embedcache.extraction.asked import Settings
from embedcache.extraction.batch import BATCH, measured_batch
from embedcache.extraction.clock import Clock
from embedcache.extraction.crewed import crew_passes
from embedcache.extraction.engine import ThreadEngine
from embedcache.extraction.outcome import EncoderSummary, PassSummary
from embedcache.extraction.passes import Pass, device_of, passes
from embedcache.extraction.pictures import Fitted, Shapes, Wanted, prepare
from embedcache.extraction.rows import Rows
from embedcache.extraction.running import Running
from embedcache.extraction.scratch import Scratch
from embedcache.extraction.stream import Lane, Track, lanes_of, run_pass
from embedcache.extraction.wanted import WantedImages
from embedcache.progress import Progress
from embedcache.provenance import provenance
from embedcache.store.lease import FeatureLease
from embedcache.store.writer import StoreWriter


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoding:
    """What encoding did.

    Attributes:
        encoders: one summary each.
        passes: one summary each.
        failed: why images failed, by row.
    """

    encoders: tuple[EncoderSummary, ...]
    passes: tuple[PassSummary, ...]
    failed: dict[int, str]


def encode_missing(
    writer: StoreWriter,
    wanted: WantedImages,
    encoders: Sequence[ResolvedEncoder],
    settings: Settings,
    progress: Progress,
) -> Encoding:
    """Encode what the store lacks of these images, each with every encoder that lacks it.

    Raises:
        StoreBusyError: if another process writes one of the feature sets.
        DeviceTooSmallError: if not even one picture fits beside an encoder.
    """
    with ExitStack() as stack:
        leases = {
            encoder.contract.feature_id: stack.enter_context(_lease(writer, encoder, settings))
            for encoder in encoders
        }
        tracks = [_track(encoder, leases, wanted.row, progress) for encoder in encoders]
        # Most encoders lack the same rows: one set of them, not seven.
        same: dict[Rows, Rows] = {}
        for track in tracks:
            track.wanted = same.setdefault(track.wanted, track.wanted)
        # Built only where something is missing: a second run needs no model.
        lanes = lanes_of([track for track in tracks if track.wanted])
        running = Running(wanted=wanted, leases=leases, settings=settings, progress=progress)
        done = tuple(_passes(running, lanes, stack, writer.path.parent))
    seconds = {name: one.throughput.seconds for one in done for name in one.encoders}
    return Encoding(
        encoders=tuple(_summary(track, len(wanted), seconds) for track in tracks),
        passes=done,
        failed={row: reason for track in tracks for row, reason in track.failed.items()},
    )


def fitted(one: Pass, scratch: Scratch, clock: Clock, image: Wanted) -> Fitted:
    """Fit an image to what the lanes of this pass want, and keep what those of later ones will."""
    shapes = Shapes(now=_shapes(one.lanes, image.row), later=_shapes(one.later, image.row))
    return prepare(image, shapes, scratch, clock)


def _shapes(lanes: Sequence[Lane], row: int) -> tuple[Preprocessing, ...]:
    return tuple(dict.fromkeys(lane.shape for lane in lanes if row in lane.wanted))


def _lease(writer: StoreWriter, encoder: ResolvedEncoder, settings: Settings) -> FeatureLease:
    return writer.lease(
        encoder.contract,
        name=encoder.name,
        licence=encoder.licence,
        citation=encoder.citation,
        batch=settings.batch or BATCH,
        overlap=encoder.overlap,
    )


def _track(
    encoder: ResolvedEncoder,
    leases: Mapping[str, FeatureLease],
    every: NDArray[np.int64],
    progress: Progress,
) -> Track:
    lease = leases[encoder.contract.feature_id]
    if len(lease.damaged):
        progress.note(f"{encoder.name}: {len(lease.damaged)} damaged rows are encoded again")
    return Track(encoder, lease, every[~lease.done[every]])


def _passes(
    running: Running, lanes: Sequence[Lane], stack: ExitStack, beside: Path
) -> Iterator[PassSummary]:
    """Send what lanes lack through them; where, the settings say."""
    if lanes and running.settings.elsewhere:
        yield from crew_passes(running, lanes)
        return
    scratch = stack.enter_context(Scratch(beside))
    device = device_of(lanes, running.settings.device)
    # Not a loop: its variable would hold a pass's networks while the next one's are built.
    yield from map(partial(_through, running, scratch), passes(lanes, device))


def _through(running: Running, scratch: Scratch, one: Pass) -> PassSummary:
    """Send the images that some lane of a pass lacks through all of its lanes."""
    _begin(running, one)
    clock = Clock()
    images = running.lacking(one.lanes)
    with running.shown(one.lanes), ThreadEngine(one.forwards, clock) as engine:
        started = time.monotonic()
        job = partial(fitted, one, scratch, clock)
        run_pass(images, one.lanes, engine, job, running.settings.workers, clock)
    for forward in one.forwards:
        if forward.compilation is not None:
            running.progress.note(str(forward.compilation))
    return running.finish(one.lanes, len(images), started, engine.bare, clock)


def _begin(running: Running, one: Pass) -> None:
    """Settle batches that are to be measured, and record who computes from here on."""
    for lane, forward in zip(one.lanes, one.forwards, strict=True):
        if running.measures(lane):
            running.settle_batch(lane, measured_batch(forward))
        found = self_check(forward.encoders)
        running.begin(lane, found, provenance(device_name(forward.device or "cpu")))
        if running.settings.compiled:
            forward.compile()


def _summary(track: Track, images: int, seconds: dict[str, float]) -> EncoderSummary:
    name = track.encoder.name
    return EncoderSummary(
        name=name,
        feature_id=track.encoder.contract.feature_id,
        images=images,
        cached=images - len(track.wanted),
        encoded=track.encoded,
        failed=len(track.failed),
        rate=track.encoded / seconds[name] if track.encoded else 0.0,
        random_weights=track.encoder.contract.random_weights,
    )
