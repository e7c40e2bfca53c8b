"""What an extraction would do, how long it would take, how much it would write. Writes nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedcache.cohorts.cohort import Cohort
from embedcache.encoders.device import pick_device
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.errors import ImageUnreadableError
from embedcache.executor import cores
from embedcache.extraction.asked import Settings, read_all, resolve_all
from embedcache.extraction.extract import BATCH
from embedcache.extraction.survey import Survey, survey
from embedcache.images.decode import decode
from embedcache.images.source import Source
from embedcache.progress import Progress, Silent
from embedcache.store.reader import FeatureStore, open_store

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedEncoder:
    """What would be done for one encoder.

    Attributes:
        name: reference without weights.
        feature_id: of its contract.
        images: distinct readable images of the cohorts.
        missing: of these, not in the store.
        seconds: to read, decode and encode them alone, from a measurement of one batch.
        bytes: to be written.
    """

    name: str
    feature_id: str
    images: int
    missing: int
    seconds: float
    bytes: int


def plan(
    store: Path,
    cohorts: Sequence[Cohort | str],
    encoders: Sequence[ResolvedEncoder | str],
    *,
    device: str = "auto",
    batch: int = BATCH,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[PlannedEncoder, ...]:
    """Say what `extract` with the same arguments would do; see there for them and for errors."""
    progress = progress or Silent()
    resolved = resolve_all(encoders, progress)
    settings = Settings(device=device, batch=batch, workers=workers or cores())
    surveys = [survey(cohort, settings.workers, progress) for cohort in read_all(cohorts)]
    there = open_store(store) if store.exists() else None
    images = _distinct(surveys)
    return tuple(_planned(encoder, images, there, settings) for encoder in resolved)


def _distinct(surveys: list[Survey]) -> dict[bytes, Source]:
    return {
        found.digest[place].tobytes(): found.cohort.images[place]
        for found in surveys
        for place in np.flatnonzero(found.readable).tolist()
    }


def _planned(
    encoder: ResolvedEncoder,
    images: dict[bytes, Source],
    store: FeatureStore | None,
    settings: Settings,
) -> PlannedEncoder:
    done = set() if store is None else _done(store, encoder.contract.feature_id)
    missing = [source for digest, source in images.items() if digest not in done]
    contract = encoder.contract
    return PlannedEncoder(
        name=encoder.name,
        feature_id=contract.feature_id,
        images=len(images),
        missing=len(missing),
        seconds=_measured(encoder, missing, settings) if missing else 0.0,
        bytes=len(missing) * contract.dim * np.dtype(contract.dtype).itemsize,
    )


def _done(store: FeatureStore, feature_id: str) -> set[bytes]:
    if all(found.id != feature_id for found in store.feature_sets()):
        return set()
    digests = store.images.digest[store.done(feature_id)]
    return {digest.tobytes() for digest in digests}


def _measured(encoder: ResolvedEncoder, missing: list[Source], settings: Settings) -> float:
    """Seconds for all missing images, from one real batch after one that warms up."""
    built = encoder.build(pick_device(settings.device))
    some = missing[: settings.batch]
    started = time.monotonic()
    with ThreadPoolExecutor(settings.workers) as pool:
        pictures = [found for found in pool.map(_decoded, some) if found is not None]
        prepared = list(pool.map(built.prepare, pictures))
    preparing = (time.monotonic() - started) / len(some)
    if not prepared:
        return preparing * len(missing)
    pixels = np.zeros((settings.batch, *prepared[0].shape), np.uint8)
    pixels[: len(prepared)] = prepared
    built.encode(pixels)
    started = time.monotonic()
    built.encode(pixels)
    encoding = (time.monotonic() - started) / settings.batch
    # Reading runs beside encoding; the slower one decides.
    return max(preparing, encoding) * len(missing)


def _decoded(source: Source) -> Image | None:
    try:
        return decode(source.read())
    except ImageUnreadableError:
        return None
