"""Spans of a later pass go to whoever read their images, so long as anybody may take any."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedcache.contract import Preprocessing
from embedcache.extraction.orders import Span
from embedcache.extraction.pictures import Wanted
from embedcache.extraction.steering import Readers, Waiting
from embedcache.testing.paced_run import Speckle

SHAPE = Preprocessing(height=8, width=8, mean=(0.5,) * 3, std=(0.5,) * 3)


def span(*rows: int, kept: bool = True) -> Span:
    later = ((SHAPE, np.array(rows)),) if kept else ()
    return Span(
        images=tuple(Wanted(row, b"", Speckle(row)) for row in rows), wanted=(), later=later
    )


def test_a_span_is_of_whom_has_read_most_of_it_last() -> None:
    readers = Readers(9)
    assert readers.of(span(0, 1, 2)) is None
    readers.note(span(0, 1, 2, 3), "a")
    readers.note(span(3, 4), "b")
    assert [readers.of(span(*rows)) for rows in ((0, 1, 3), (3, 4), (4, 5, 6), (7, 8))] == [
        "a",
        "b",
        "b",
        None,
    ]


def test_what_no_later_pass_wants_is_not_remembered() -> None:
    readers = Readers(2)
    readers.note(span(0, 1, kept=False), "a")
    assert readers.of(span(0, 1)) is None


def first_rows(waiting: Waiting, *workers: str | None) -> list[tuple[int, str | None]]:
    return [
        (found[0].images[0].row, found[1])
        for found in map(waiting.take, workers)
        if found is not None
    ]


def test_a_worker_gets_its_own_spans_then_the_first_of_the_others() -> None:
    readers = Readers(6)
    for row in range(6):
        readers.note(span(row), "ab"[row % 2])
    waiting = Waiting(map(span, range(6)), readers)
    assert first_rows(waiting, None, "b", "b", "b", "b", "a", "a") == [
        (0, "a"),
        (1, "b"),
        (3, "b"),
        (5, "b"),
        (2, "a"),  # nothing of b's is left: whose it is, is said
        (4, "a"),
    ]


def test_what_a_lost_worker_had_comes_first_and_is_nobody_s() -> None:
    readers = Readers(3)
    readers.note(span(1), "a")
    waiting = Waiting(map(span, range(3)), readers)
    assert first_rows(waiting, "a") == [(1, "a")]
    waiting.put_back(span(1))
    assert first_rows(waiting, "a", "a", "a") == [(1, None), (0, None), (2, None)]


@given(
    st.lists(st.sampled_from([None, "a", "b"]), max_size=200),
    st.lists(st.sampled_from([None, "a", "b", "gone"]), min_size=200, max_size=200),
)
def test_every_span_is_handed_out_once_whoever_asks(
    read: list[str | None], asking: list[str | None]
) -> None:
    readers = Readers(len(read))
    for row, worker in enumerate(read):
        if worker is not None:
            readers.note(span(row), worker)
    waiting = Waiting(map(span, range(len(read))), readers)
    given_out = first_rows(waiting, *asking)
    assert sorted(given_out) == sorted(enumerate(read), key=lambda one: one[0])
    assert waiting.take(None) is None
