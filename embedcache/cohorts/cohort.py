"""A cohort in memory: images, labels, patients and strata, and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.images.source import Source


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cohort:
    """Labelled images with patients; m rows, one an entry of the publisher's table.

    Attributes:
        name: what the commands and the store call it.
        classes: the class list; `label` indexes it.
        images: one source a row, m of them.
        label: index into `classes`, (m,) int16.
        patient: the patient as the hospital writes it, (m,) str; never stored, see `namespace`.
        strata: text values by stratum name (`machine`, `site`, `split`, …), (m,) str each.
        namespace: pseudonyms are comparable within one; the cohort file's `patients`, else `name`.
        reader: kind of the reader that made it.
        citation: how to cite it; empty for private data.
        licence: SPDX name, or empty for private data.
        synthetic: whether the pictures were drawn and not taken.
    """

    name: str
    classes: tuple[str, ...]
    images: tuple[Source, ...]
    label: NDArray[np.int16]
    patient: NDArray[np.str_]
    strata: dict[str, NDArray[np.str_]]
    namespace: str
    reader: str
    citation: str = ""
    licence: str = ""
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.images)
