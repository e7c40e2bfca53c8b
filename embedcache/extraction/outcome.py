"""What a run of `extract` did: figures to print, and rows without a feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.survey import Survey
from embedcache.images.source import ImageFile
from embedcache.store.feature_set import Throughput


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
class PassSummary:
    """What one pass over the images cost.

    Attributes:
        encoders: names of those that ran together.
        throughput: how fast, and where the time went.
        limit: the stage that the others waited for most; empty if none did.
        failed: images without a vector of at least one of the encoders.
    """

    encoders: tuple[str, ...]
    throughput: Throughput
    limit: str
    failed: int

    @property
    def rate(self) -> float:
        """Images a second, through all of its encoders."""
        return self.throughput.images / self.throughput.seconds

    @property
    def share(self) -> float:
        """Of the speed of bare forward passes: 1 if nothing else had taken any time."""
        return self.throughput.bare / self.throughput.seconds

    @property
    def overhead(self) -> float:
        """Milliseconds an image beyond the bare forward passes."""
        beyond = self.throughput.seconds - self.throughput.bare
        return 1000 * beyond / max(1, self.throughput.images)


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
        passes: one summary each; none if nothing was missing.
        failures: rows without a feature, by cohort and row.
        two_labels: images that one cohort lists under two labels: (cohort, digest in hex).
    """

    encoders: tuple[EncoderSummary, ...]
    passes: tuple[PassSummary, ...]
    failures: tuple[Failure, ...]
    two_labels: tuple[tuple[str, str], ...]


def failures_of(
    surveys: list[Survey], rows: list[NDArray[np.int64]], failed: dict[int, str]
) -> list[Failure]:
    """Every row of every cohort that has no feature, whether unreadable or not encoded."""
    without = np.array([-1, *failed], np.int64)
    return [
        Failure(
            cohort=found.cohort.name,
            row=place,
            reason=found.unreadable.get(place) or failed[int(row[place])],
            file=_file_name(found, place),
        )
        for found, row in zip(surveys, rows, strict=True)
        for place in np.flatnonzero(np.isin(row, without)).tolist()
    ]


def _file_name(found: Survey, place: int) -> str:
    source = found.cohort.images[place]
    return source.path.name if isinstance(source, ImageFile) else ""


def two_labels_of(surveys: list[Survey], rows: list[NDArray[np.int64]]) -> list[tuple[str, str]]:
    """Images that one cohort lists under two labels, by digest; a probe leaves them out."""
    twice: set[tuple[str, str]] = set()
    for found, row in zip(surveys, rows, strict=True):
        label = found.cohort.label
        # One label of each image, whichever; -1 stays for rows that are other cohorts'.
        one = np.full(int(row.max(initial=-1)) + 1, -1, label.dtype)
        one[row[row >= 0]] = label[row >= 0]
        differs = (row >= 0) & (one[row] != label)
        places = np.flatnonzero(differs).tolist()
        twice |= {(found.cohort.name, found.digest[place].tobytes().hex()) for place in places}
    return sorted(twice)
