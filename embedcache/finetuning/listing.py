"""The rows of cohorts as their files give them: what a store would have kept, without a store.

Every image is read once and hashed; what cannot be read counts as it would in a store. Patients are
the hospital's own numbers here and never leave the process: they only say who is one person.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.survey import Survey
from embedcache.errors import UnknownNameError
from embedcache.images.source import Source
from embedcache.protocol.clusters import digest_keys
from embedcache.protocol.judged import About, Rows, listed
from embedcache.protocol.protocol import Protocol


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Listing:
    """The readable rows of a protocol's cohorts, and where their images are.

    Attributes:
        cohorts: the training cohort's rows, then those of each external one; `Rows.row` indexes
            `image` and `source`.
        image: distinct digests, ascending, (n, 32) uint8.
        source: the first place that has each, n of them.
    """

    cohorts: tuple[Rows, ...]
    image: NDArray[np.uint8]
    source: tuple[Source, ...]


def named_first(protocol: Protocol, names: Sequence[str]) -> tuple[int, ...]:
    """Find a protocol's cohorts among those read: the training cohort, then the external ones.

    Raises:
        UnknownNameError: if one of them is not there.
    """
    for name in (protocol.train, *protocol.external):
        if name not in names:
            raise UnknownNameError("cohort", name, tuple(names))
    return tuple(names.index(name) for name in (protocol.train, *protocol.external))


def list_rows(surveys: Sequence[Survey], merges: Mapping[str, Sequence[str]]) -> Listing:
    """Bring the readable rows of surveyed cohorts.

    Args:
        surveys: of the training cohort, then of each external one.
        merges: old classes by new one.
    """
    digest = np.concatenate([found.digest[found.readable] for found in surveys])
    _, first, place = np.unique(digest_keys(digest), return_index=True, return_inverse=True)
    source = [
        found.cohort.images[row] for found in surveys for row in np.flatnonzero(found.readable)
    ]
    ends = np.cumsum([int(found.readable.sum()) for found in surveys])[:-1]
    parts = zip(surveys, np.split(place.astype(np.int64), ends), strict=True)
    return Listing(
        cohorts=tuple(_rows(found, row, merges) for found, row in parts),
        image=digest[first],
        source=tuple(source[index] for index in first),
    )


def _rows(found: Survey, row: NDArray[np.int64], merges: Mapping[str, Sequence[str]]) -> Rows:
    cohort, readable = found.cohort, found.readable
    return listed(
        About(
            name=cohort.name,
            reader=cohort.reader,
            citation=cohort.citation,
            licence=cohort.licence,
            synthetic=cohort.synthetic,
            rows=len(cohort),
            # One key would give all of these their pseudonyms: none differs.
            key_id="",
            unreadable=dict(sorted(Counter(found.unreadable.values()).items())),
        ),
        cohort.classes,
        merges,
        row=row,
        image=found.digest[readable],
        label=cohort.label[readable],
        # What a pseudonym is the HMAC of: equal for the same persons.
        patient=[f"{cohort.namespace}\0{patient}" for patient in cohort.patient[readable]],
        strata={name: values[readable] for name, values in cohort.strata.items()},
    )
