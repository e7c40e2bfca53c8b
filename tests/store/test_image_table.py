"""Rows of the image table are what a dictionary of digests would give."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedcache.store.image_table import rows_of

#: Few, some of them ending in zeros, which numpy's texts drop.
digests = st.tuples(st.integers(1, 9), st.sampled_from([0, 15, 31])).map(
    lambda made: bytes(made[1]) + bytes([made[0]]) * (32 - made[1])
) | st.integers(1, 9).map(lambda first: bytes([first]).ljust(32, b"\0"))


def array(made: list[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(made), np.uint8).reshape(-1, 32)


@given(st.lists(digests, unique=True), st.lists(digests))
def test_an_image_keeps_its_row_and_a_new_one_gets_the_next(
    known: list[bytes], asked: list[bytes]
) -> None:
    row = {digest: number for number, digest in enumerate(known)}
    expected = [row.setdefault(digest, len(row)) for digest in asked]
    assert rows_of(array(known), array(asked)).tolist() == expected


def test_finding_rows_takes_less_than_a_dictionary_would() -> None:
    made = np.random.default_rng(0).integers(0, 256, (20_000, 32), np.uint8)
    tracemalloc.start()
    rows = rows_of(made[:0], made)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows.tolist() == list(range(20_000))
    assert most < 130 * len(made)  # measured: 98; the digests alone are 65 each as dictionary keys
