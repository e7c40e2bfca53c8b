"""Cohorts of other sizes, made of the images that there are."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.cohort import Cohort
from embedcache.images.source import RawImage, Source


@dataclass(frozen=True, slots=True)
class Again:
    """An image with a number behind its last byte: another digest, the same picture."""

    source: Source
    number: int

    def read(self) -> RawImage:
        """Read it; see `Source.read`."""
        raw = self.source.read()
        if raw.layout is None:
            return RawImage(raw.data + self.number.to_bytes(3, "little"))
        # Bare pixels: there is nothing behind the last of them.
        return RawImage(self.number.to_bytes(3, "little") + raw.data[3:], raw.layout)


def only(cohort: Cohort, row: NDArray[np.intp]) -> Cohort:
    """The cohort's rows that are named, (k,), in this order."""
    return replace(
        cohort,
        images=tuple(cohort.images[at] for at in row.tolist()),
        label=cohort.label[row],
        patient=cohort.patient[row],
        strata={name: values[row] for name, values in cohort.strata.items()},
    )


def first(cohort: Cohort, end: int) -> Cohort:
    """The cohort's first rows, as many as there are of them."""
    return only(cohort, np.arange(min(end, len(cohort))))


def again(cohort: Cohort, number: int) -> Cohort:
    """So many distinct images: the cohort's, as often as it takes."""
    made = only(cohort, np.arange(number) % len(cohort))
    return replace(made, images=tuple(Again(one, at) for at, one in enumerate(made.images)))
