"""Hold a store against what it was made from: hash the images again, encode some of them again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_cohort
from embedcache.cohorts.survey import Survey, survey
from embedcache.contract import TOLERANCE, Contract
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.encoders.spec import Encoder
from embedcache.errors import FeatureNotStoredError, ImageUnreadableError
from embedcache.executor import cores
from embedcache.extraction.wanted import WantedImages, wanted_images
from embedcache.images.decode import decode
from embedcache.progress import Progress, Silent, Stage
from embedcache.store.feature_set import FeatureSet
from embedcache.store.image_table import rows_of
from embedcache.store.reader import FeatureStore

#: What rounding to float16 adds to a relative difference: half a unit in the last place, twice.
_ROUNDING = {"float32": 0.0, "float16": 2.0**-10}


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortRecheck:
    """What hashing a cohort's images again found.

    Attributes:
        cohort: its name.
        images: rows of its table.
        unreadable: of these, images that cannot be read.
        strange: rows of its table whose image is not in the store.
        gone: rows of the store's image table that its cohort of that name lists and no file has.
    """

    cohort: str
    images: int
    unreadable: int
    strange: tuple[int, ...]
    gone: tuple[int, ...]

    @property
    def sound(self) -> bool:
        """The files and the store hold the same images."""
        return not self.strange and not self.gone


@dataclass(frozen=True, kw_only=True, slots=True)
class Recomputation:
    """What encoding some images again found.

    Attributes:
        name: of the feature set.
        feature_id: of its contract.
        rows: how many were encoded again.
        largest: difference, relative to the stored vector's norm.
        tolerance: largest difference that two machines may show.
        beyond: rows that differ by more, or that could not be encoded again.
    """

    name: str
    feature_id: str
    rows: int
    largest: float
    tolerance: float
    beyond: tuple[int, ...]


def recheck_images(
    store: FeatureStore, cohorts: Sequence[Cohort | str], progress: Progress | None = None
) -> tuple[CohortRecheck, ...]:
    """Hash the images of cohorts again and compare them with the store's.

    Raises:
        BadInputError: if a cohort cannot be read.
    """
    return tuple(_compared(store, found) for found in _surveys(cohorts, progress))


def recompute(
    store: FeatureStore,
    cohorts: Sequence[Cohort | str],
    encoders: Sequence[ResolvedEncoder | str],
    *,
    rows: int,
    seed: int,
    device: str = "auto",
    progress: Progress | None = None,
) -> tuple[Recomputation, ...]:
    """Encode random images again, at their place in their batch, and compare the vectors.

    Args:
        store: a feature store.
        cohorts: where the images lie.
        encoders: whose features; each must be in the store.
        rows: how many images an encoder; all, if it has fewer.
        seed: of the choice.
        device: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`.
        progress: what reports the work.

    Raises:
        BadInputError: if a cohort or an encoder cannot be read.
        FeatureNotStoredError: if the store has no features of an encoder.
    """
    from embedcache.encoders.device import pick_device

    resolved = [resolve(one) if isinstance(one, str) else one for one in encoders]
    stored = {one.id: one for one in store.feature_sets()}
    for one in resolved:
        if one.contract.feature_id not in stored:
            raise FeatureNotStoredError(one.name, one.contract.feature_id)
    progress = progress or Silent()
    surveys = _surveys(cohorts, progress)
    here = wanted_images(surveys, [_rows(store, found) for found in surveys])
    found = []
    for one in resolved:
        feature_id = one.contract.feature_id
        done = here.row[store.done(feature_id)[here.row]]
        draw = np.random.default_rng(seed)
        drawn = draw.choice(done, min(rows, len(done)), replace=False)
        chosen = here.only(np.isin(here.row, drawn))
        encoder = one.build(pick_device(device))
        with progress.stage(f"encoding again: {one.name}", len(chosen), "images") as stage:
            again = _encoded(encoder, stored[feature_id].batch, chosen, stage)
        vectors = store.features(feature_id, chosen.row)
        found.append(_judged(stored[feature_id], chosen.row, vectors, again))
    return tuple(found)


def _surveys(cohorts: Sequence[Cohort | str], progress: Progress | None) -> list[Survey]:
    read = [read_cohort(cohort) if isinstance(cohort, str) else cohort for cohort in cohorts]
    return [survey(cohort, cores(), progress or Silent()) for cohort in read]


def _rows(store: FeatureStore, found: Survey) -> NDArray[np.int64]:
    """Row of each image of a cohort in the store, (m,) int64; -1: unreadable, or not there."""
    row = rows_of(store.images.digest, found.digest)
    return np.where(found.readable & (row < len(store)), row, -1)


def _compared(store: FeatureStore, found: Survey) -> CohortRecheck:
    name, row = found.cohort.name, _rows(store, found)
    listed = store.cohort(name).row if name in store.cohorts() else np.empty(0, np.int64)
    return CohortRecheck(
        cohort=name,
        images=len(found.cohort),
        unreadable=len(found.unreadable),
        strange=tuple(np.flatnonzero(found.readable & (row < 0)).tolist()),
        gone=tuple(np.setdiff1d(listed[listed >= 0], row).tolist()),
    )


def _encoded(
    encoder: Encoder, batch: int, images: WantedImages, stage: Stage
) -> NDArray[np.float32]:
    """Vectors of images, (k, dim) float32; NaN where one cannot be decoded any more."""
    rows = images.row
    vectors = np.full((len(rows), encoder.contract.dim), np.nan, np.float32)
    for part in _batches(rows, batch):
        pixels: NDArray[np.uint8] | None = None
        for index in part:
            row = int(rows[index])
            try:
                picture = encoder.prepare(decode(images[index].source.read()))
            except ImageUnreadableError:
                continue  # its vector stays NaN, and so beyond any tolerance
            if pixels is None:
                pixels = np.zeros((batch, *picture.shape), np.uint8)
            pixels[row % batch] = picture
            vectors[index] = 0
        if pixels is not None:
            vectors[part] += encoder.encode(pixels)[rows[part] % batch]
        stage.advance(len(part))
    return vectors


def _batches(rows: NDArray[np.int64], batch: int) -> Iterator[NDArray[np.int64]]:
    """Indices of ascending rows that share a batch."""
    yield from np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows // batch)) + 1)


def _judged(
    one: FeatureSet,
    rows: NDArray[np.int64],
    stored: NDArray[np.float32],
    again: NDArray[np.float32],
) -> Recomputation:
    norm = np.linalg.norm(stored, axis=1)
    difference = np.linalg.norm(again - stored, axis=1) / np.where(norm > 0, norm, 1)
    tolerance = _tolerance(one.contract)
    beyond = ~(difference <= tolerance)  # NaN is beyond
    return Recomputation(
        name=one.name,
        feature_id=one.id,
        rows=len(rows),
        largest=float(np.fmax.reduce(difference, initial=0.0)),
        tolerance=tolerance,
        beyond=tuple(rows[beyond].tolist()),
    )


def _tolerance(contract: Contract) -> float:
    return TOLERANCE[contract.precision] + _ROUNDING[contract.dtype]
