"""The images of a run: each distinct one once, from the first place that has it."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.survey import survey
from embedcache.errors import ImageUnreadableError
from embedcache.extraction.pictures import Wanted
from embedcache.extraction.wanted import wanted_images
from embedcache.images.source import Layout, RawImage
from embedcache.progress import Silent


@dataclass(frozen=True, slots=True)
class Told:
    """A picture of one number, as one place of a cohort has it; none for a negative number."""

    number: int
    place: str = ""

    def read(self) -> RawImage:
        if self.number < 0:
            raise ImageUnreadableError("there is none")
        pixels = self.number.to_bytes(4, "little")
        return RawImage(pixels, Layout(shape=(2, 2), dtype="uint8", photometric="grey"))


def cohort_of(numbers: list[int], name: str = "home") -> Cohort:
    return Cohort(
        name=name,
        classes=("a",),
        images=tuple(Told(number, f"{name} {place}") for place, number in enumerate(numbers)),
        label=np.zeros(len(numbers), np.int16),
        patient=np.array([f"p{place}" for place in range(len(numbers))], np.str_),
        strata={},
        namespace=name,
        reader="folder",
    )


cohorts = st.lists(st.lists(st.integers(-1, 9), max_size=12), max_size=3)


@given(cohorts, st.integers(0, 9), st.sets(st.integers(0, 9)))
def test_each_image_is_wanted_once_in_row_order_from_where_it_first_lies(
    numbers: list[list[int]], offset: int, chosen: set[int]
) -> None:
    named = [cohort_of(each, f"home{index}") for index, each in enumerate(numbers)]
    surveys = [survey(cohort, 1, Silent()) for cohort in named]
    row_of = {number: (number * 7 + offset) % 10 for number in range(10)} | {-1: -1}
    rows = [np.array([row_of[one] for one in each], np.int64) for each in numbers]
    first: dict[int, Told] = {}
    for found in surveys:
        for source in found.cohort.images:
            assert isinstance(source, Told)
            first.setdefault(row_of[source.number], source)
    expected = [
        Wanted(row, first[row].read().digest, first[row]) for row in sorted(first) if row >= 0
    ]
    images = wanted_images(surveys, rows)
    assert list(images) == expected
    assert images[1:4] == tuple(expected[1:4])
    some = images.only(np.isin(images.row, list(chosen)))
    assert list(some) == [image for image in expected if image.row in chosen]


def test_an_image_that_waits_takes_few_bytes_beside_its_source() -> None:
    cohort = cohort_of(list(range(5_000)))
    survey(cohort, 1, Silent())  # what only the first call takes
    tracemalloc.start()
    found = survey(cohort, 1, Silent())
    wanted = wanted_images([found], [np.arange(len(cohort))])
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(wanted) == len(cohort)
    assert now < 100 * len(cohort)  # digest, size, kind, row, survey and place: 60
