"""Run every encoder once over every image of every cohort, into a feature store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.cohort import Cohort
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.executor import cores
from embedcache.extraction.asked import Settings, read_all, resolve_all
from embedcache.extraction.attest import attest
from embedcache.extraction.stream import Lane, Wanted, run_pass
from embedcache.extraction.survey import Survey, survey
from embedcache.images.source import ImageFile
from embedcache.progress import Progress, Silent
from embedcache.provenance import provenance
from embedcache.store.lease import FeatureLease
from embedcache.store.pseudonyms import OwnerKey, owner_key
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import StoreWriter, create_or_open_for_writing

#: Images a batch in a feature set's first run; the store keeps it, for the same bits ever after.
BATCH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSummary:
    """What a run did for one encoder.

    Attributes:
        name: reference without weights.
        feature_id: of its contract.
        images: distinct images of the cohorts.
        cached: of these, already in the store.
        encoded: in this run.
        failed: of these, in this run.
        rate: encoded images a second, reading and writing included; 0 if nothing was encoded.
        random_weights: whether nobody trained this encoder.
    """

    name: str
    feature_id: str
    images: int
    cached: int
    encoded: int
    failed: int
    rate: float
    random_weights: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """One row of a cohort without a feature.

    Attributes:
        cohort: its name.
        row: of the cohort's own table, from 0.
        reason: a short phrase.
        file: the image's file name, for its owner's screen only; empty if it has none.
    """

    cohort: str
    row: int
    reason: str
    file: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Extraction:
    """What a run of `extract` did.

    Attributes:
        encoders: one summary each.
        failures: rows without a feature, by cohort and row.
        two_labels: images that one cohort lists under two labels: (cohort, digest in hex).
    """

    encoders: tuple[EncoderSummary, ...]
    failures: tuple[Failure, ...]
    two_labels: tuple[tuple[str, str], ...]


def extract(
    store: Path,
    cohorts: Sequence[Cohort | str],
    encoders: Sequence[ResolvedEncoder | str],
    *,
    device: str = "auto",
    batch: int = BATCH,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Extraction:
    """Bring a store up to date: encode what is missing, and nothing else.

    Args:
        store: the feature store; made if it is not there.
        cohorts: values, or references such as `spain=fetal-planes-db:FOLDER`.
        encoders: references such as `efficientnet-lite0`, or resolved encoders.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        batch: images a batch for feature sets that are new; others keep theirs.
        workers: threads that read and decode; None: one a core.
        progress: what reports the work.

    Raises:
        BadInputError: before anything is written, if a cohort or an encoder cannot be read.
        StoreBusyError: if another process writes one of the feature sets.
    """
    progress = progress or Silent()
    settings = Settings(device=device, batch=batch, workers=workers or cores())
    resolved = resolve_all(encoders, progress)
    read = read_all(cohorts)
    key = owner_key()
    surveys = [survey(cohort, settings.workers, progress) for cohort in read]
    writer = create_or_open_for_writing(store)
    rows = [_register(writer, found, key) for found in surveys]
    wanted = _wanted(surveys, rows)
    summaries, failed = _encode(writer, wanted, resolved, settings, progress)
    writer.seal()
    return Extraction(
        encoders=tuple(summaries),
        failures=tuple(_failures(surveys, rows, failed)),
        two_labels=tuple(_two_labels(surveys)),
    )


def _register(writer: StoreWriter, found: Survey, key: OwnerKey) -> NDArray[np.int64]:
    """Enter a cohort and its images; returns the image row of each cohort row, -1 unreadable."""
    cohort, readable = found.cohort, found.readable
    headers = [header for header in found.headers if header is not None]
    row = np.full(len(cohort), -1, np.int64)
    row[readable] = writer.add_images(
        digest=found.digest[readable],
        size=np.array([(h.width, h.height) for h in headers], np.int32).reshape(-1, 2),
        formats=[h.format for h in headers],
        modes=[h.mode for h in headers],
    )
    reasons = list(found.unreadable.values())
    writer.put_cohort(
        StoredCohort(
            name=cohort.name,
            classes=cohort.classes,
            row=row,
            label=cohort.label,
            patient=key.pseudonyms(cohort.namespace, cohort.patient.tolist()),
            strata=cohort.strata,
            reader=cohort.reader,
            citation=cohort.citation,
            licence=cohort.licence,
            synthetic=cohort.synthetic,
            key_id=key.key_id,
            unreadable={reason: reasons.count(reason) for reason in sorted(set(reasons))},
        )
    )
    return row


def _wanted(surveys: list[Survey], rows: list[NDArray[np.int64]]) -> list[Wanted]:
    """Every distinct readable image once, in row order, from the first place that has it."""
    places: dict[int, Wanted] = {}
    for found, row in zip(surveys, rows, strict=True):
        for place in np.flatnonzero(row >= 0).tolist():
            image = Wanted(
                int(row[place]), found.digest[place].tobytes(), found.cohort.images[place]
            )
            places.setdefault(image.row, image)
    return [places[row] for row in sorted(places)]


def _encode(
    writer: StoreWriter,
    wanted: list[Wanted],
    encoders: list[ResolvedEncoder],
    settings: Settings,
    progress: Progress,
) -> tuple[list[EncoderSummary], dict[int, str]]:
    """One pass for all encoders; returns what each did, and why images failed, by row."""
    every = np.array([image.row for image in wanted], np.int64)
    with ExitStack() as stack:
        lanes = []
        for encoder in encoders:
            lease = stack.enter_context(_lease(writer, encoder, settings.batch))
            if len(lease.damaged):
                progress.note(
                    f"{encoder.name}: {len(lease.damaged)} damaged rows are encoded again"
                )
            missing = every[~lease.done[every]]
            # Built only where something is missing: a second run needs no model.
            lanes += [_lane(encoder, lease, missing, settings, progress)] if len(missing) else []
        seconds = _run(wanted, lanes, settings.workers, progress)
    by_id = {lane.lease.feature_id: lane for lane in lanes}
    summaries = [
        _summary(encoder, len(every), by_id.get(encoder.contract.feature_id), seconds)
        for encoder in encoders
    ]
    return summaries, {row: reason for lane in lanes for row, reason in lane.failed.items()}


def _lease(writer: StoreWriter, encoder: ResolvedEncoder, batch: int) -> FeatureLease:
    return writer.lease(
        encoder.contract,
        name=encoder.name,
        licence=encoder.licence,
        citation=encoder.citation,
        batch=batch,
        overlap=encoder.overlap,
    )


def _lane(
    encoder: ResolvedEncoder,
    lease: FeatureLease,
    missing: NDArray[np.int64],
    settings: Settings,
    progress: Progress,
) -> Lane:
    from embedcache.encoders.device import device_name, pick_device

    device = pick_device(settings.device)
    built = encoder.build(device)
    attest([built], [lease], progress)
    lease.start_run(provenance(device_name(device)))
    return Lane(built, lease, missing)


def _run(wanted: list[Wanted], lanes: list[Lane], workers: int, progress: Progress) -> float:
    """Send the images that some lane lacks through all lanes; returns seconds."""
    hungry = frozenset[int]().union(*(lane.wanted for lane in lanes))
    started = time.monotonic()
    if hungry:
        with progress.stage("encoding", len(hungry), "images") as stage:
            run_pass([image for image in wanted if image.row in hungry], lanes, workers, stage)
    seconds = time.monotonic() - started
    for lane in lanes:
        lane.lease.finish(rate=lane.encoded / seconds)
    return seconds


def _summary(
    encoder: ResolvedEncoder, images: int, lane: Lane | None, seconds: float
) -> EncoderSummary:
    encoded = lane.encoded if lane else 0
    return EncoderSummary(
        name=encoder.name,
        feature_id=encoder.contract.feature_id,
        images=images,
        cached=images - (len(lane.wanted) if lane else 0),
        encoded=encoded,
        failed=len(lane.failed) if lane else 0,
        rate=encoded / seconds if encoded else 0.0,
        random_weights=encoder.contract.random_weights,
    )


def _failures(
    surveys: list[Survey], rows: list[NDArray[np.int64]], failed: dict[int, str]
) -> list[Failure]:
    """Every row of every cohort that has no feature, whether unreadable or not encoded."""
    return [
        Failure(
            cohort=found.cohort.name,
            row=place,
            reason=found.unreadable.get(place) or failed[int(row[place])],
            file=_file_name(found, place),
        )
        for found, row in zip(surveys, rows, strict=True)
        for place in range(len(row))
        if row[place] < 0 or int(row[place]) in failed
    ]


def _file_name(found: Survey, place: int) -> str:
    source = found.cohort.images[place]
    return source.path.name if isinstance(source, ImageFile) else ""


def _two_labels(surveys: list[Survey]) -> list[tuple[str, str]]:
    """Images that one cohort lists under two labels; a probe leaves them out."""
    twice: list[tuple[str, str]] = []
    for found in surveys:
        label: dict[str, int] = {}
        for place in np.flatnonzero(found.readable).tolist():
            digest = found.digest[place].tobytes().hex()
            if (
                label.setdefault(digest, int(found.cohort.label[place]))
                != found.cohort.label[place]
            ):
                twice.append((found.cohort.name, digest))
    return sorted(set(twice))
