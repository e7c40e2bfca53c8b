"""The readable rows of a stored cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache.protocol.judged import About, Rows, listed
from embedcache.store.stored_cohort import StoredCohort


def readable_rows(
    cohort: StoredCohort, digest: NDArray[np.uint8], merges: Mapping[str, Sequence[str]]
) -> Rows:
    """Take the rows of a cohort whose image the store knows.

    Args:
        cohort: as stored.
        digest: of the image table, (n, 32) uint8.
        merges: old classes by new one.
    """
    known = np.flatnonzero(cohort.row >= 0)
    row = cohort.row[known]
    return listed(
        About(
            name=cohort.name,
            reader=cohort.reader,
            citation=cohort.citation,
            licence=cohort.licence,
            synthetic=cohort.synthetic,
            rows=len(cohort),
            key_id=cohort.key_id,
            unreadable=dict(cohort.unreadable),
        ),
        cohort.classes,
        merges,
        row=row,
        image=digest[row],
        label=cohort.label[known],
        patient=[f"{cohort.key_id} {p.tobytes().hex()}" for p in cohort.patient[known]],
        strata={name: values[known] for name, values in cohort.strata.items()},
    )
