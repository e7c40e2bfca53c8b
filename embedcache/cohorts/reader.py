"""What a cohort reader offers; found by entry point (`embedcache.cohorts`), ours as well."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.cohort_file import Options


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """One kind of cohort.

    Attributes:
        kind: what stands before the colon in `KIND:PLACE`.
        read: reads the place, as told by the options; name, citation and licence are filled in by
            `read_cohort`.
        citation: how to cite the data; empty for private data.
        licence: SPDX name; empty for private data.
        synthetic: whether the pictures are drawn.
        heeds: names of the `Options` that `read` looks at; any other is refused beforehand.
        place: `path`: expanded and made relative to the cohort file; `name`: one of the reader's
            own words.
    """

    kind: str
    read: Callable[[Path, Options], Cohort]
    citation: str = ""
    licence: str = ""
    synthetic: bool = False
    heeds: tuple[str, ...] = ()
    place: Literal["path", "name"] = "path"
