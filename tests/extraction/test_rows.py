"""Rows held in bytes are a set of numbers."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from embedcache.extraction.rows import Rows, in_any

sets = st.sets(st.integers(0, 60))


def held(rows: set[int]) -> Rows:
    return Rows.of(np.array(list(rows), np.int64))


@given(sets, sets)
def test_rows_are_a_set(one: set[int], other: set[int]) -> None:
    rows = held(one)
    assert [row for row in range(70) if row in rows] == sorted(one)
    assert len(rows) == len(one)
    assert bool(rows) == bool(one)
    assert (rows == held(other)) == (one == other)
    assert len({rows, held(one)}) == 1
    every = np.arange(70)
    assert np.flatnonzero(rows.holds(every)).tolist() == sorted(one)
    assert np.flatnonzero(in_any((rows, held(other)), every)).tolist() == sorted(one | other)
