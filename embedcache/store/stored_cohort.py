"""A cohort as the store keeps it: codes, pseudonyms and rows of the image table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredCohort:
    """A cohort without its images: m rows, one an entry of the publisher's table.

    Attributes:
        name: what commands call it.
        classes: the class list.
        row: row in the image table, (m,) int64; -1: the image could not be read.
        label: index into `classes`, (m,) int16; -1: unlabelled.
        patient: pseudonym, (m, 16) uint8; never anonymous, see `pseudonyms`.
        strata: text value of each stratum by name, (m,) str.
        reader: kind of the reader that made it.
        citation: how to cite it; empty for private data.
        licence: SPDX name, or empty.
        synthetic: whether the pictures were drawn.
        key_id: of the key behind the pseudonyms; cohorts of one key id may be compared.
        unreadable: how many images could not be read, by reason.
    """

    name: str
    classes: tuple[str, ...]
    row: NDArray[np.int64]
    label: NDArray[np.int16]
    patient: NDArray[np.uint8]
    strata: dict[str, NDArray[np.str_]]
    reader: str
    citation: str
    licence: str
    synthetic: bool
    key_id: str
    unreadable: dict[str, int]

    def __len__(self) -> int:
        return len(self.row)
