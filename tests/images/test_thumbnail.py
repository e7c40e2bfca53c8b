"""A thumbnail is the mean of each cell, in grey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from embedcache.images.thumbnail import thumbnail


def test_a_cell_is_the_mean_of_its_pixels() -> None:
    pixels = np.array(
        [[10, 30, 0, 0], [20, 40, 0, 4], [255, 255, 7, 7], [255, 255, 9, 9]], np.uint8
    )
    assert thumbnail(Image.fromarray(pixels), side=2).tolist() == [[25, 1], [255, 8]]


@pytest.mark.parametrize(
    ("colour", "grey"),
    [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((90, 90, 90), 90)],
)
def test_colour_becomes_luma_of_itu_r_601(colour: tuple[int, int, int], grey: int) -> None:
    # 0.299 R + 0.587 G + 0.114 B, rounded.
    assert np.all(thumbnail(Image.new("RGB", (40, 30), colour)) == grey)


@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_a_stretched_copy_has_the_same_thumbnail_to_a_grey_level(
    across: int, down: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (32, 32), np.uint8)
    stretched = np.repeat(np.repeat(pixels, down, axis=0), across, axis=1)
    one, other = (thumbnail(Image.fromarray(p)).astype(int) for p in (pixels, stretched))
    assert np.abs(one - other).max() <= 1


@given(st.integers(1, 90), st.integers(1, 90))
def test_any_picture_gives_the_side_that_was_asked_for(width: int, height: int) -> None:
    small = thumbnail(Image.new("L", (width, height), 200), side=16)
    assert small.shape == (16, 16)
    assert small.dtype == np.uint8
    assert np.all(small == 200)
