"""The images of a run: 18 bytes each while they wait, a value when their turn comes."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.survey import Survey
from embedcache.extraction.pictures import Wanted


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class WantedImages(Sequence[Wanted]):
    """Distinct readable images, in row order; digest and source stay where the surveys have them.

    Attributes:
        surveys: of the run's cohorts.
        row: in the image table, ascending, (k,) int64.
        survey: index of the survey that has the image, (k,) int16.
        place: in that survey, (k,) int64.
    """

    surveys: tuple[Survey, ...]
    row: NDArray[np.int64]
    survey: NDArray[np.int16]
    place: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    @overload
    def __getitem__(self, index: int) -> Wanted: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Wanted, ...]: ...
    def __getitem__(self, index: int | slice) -> Wanted | tuple[Wanted, ...]:
        if isinstance(index, slice):
            return tuple(self[one] for one in range(*index.indices(len(self))))
        found, place = self.surveys[self.survey[index]], self.place[index]
        digest = found.digest[place].tobytes()
        return Wanted(int(self.row[index]), digest, found.cohort.images[place])

    def only(self, chosen: NDArray[np.bool_]) -> Self:
        """Those that are chosen, (k,) bool."""
        if chosen.all():
            return self  # the common case, without a copy
        return dataclasses.replace(
            self, row=self.row[chosen], survey=self.survey[chosen], place=self.place[chosen]
        )


def wanted_images(surveys: Sequence[Survey], rows: Sequence[NDArray[np.int64]]) -> WantedImages:
    """Every distinct readable image once, from the first place that has it.

    Args:
        surveys: of the run's cohorts.
        rows: of the image table, for each survey (m,) int64; -1 where unreadable.
    """
    row, first = np.unique(np.concatenate([np.zeros(0, np.int64), *rows]), return_index=True)
    readable = row >= 0
    ends = np.cumsum([len(each) for each in rows])
    survey = np.searchsorted(ends, first[readable], side="right")
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    return WantedImages(
        surveys=tuple(surveys),
        row=row[readable],
        survey=survey.astype(np.int16),
        place=first[readable] - begins[survey],
    )
