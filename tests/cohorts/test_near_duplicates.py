"""Near-duplicates are found through what happens to images, and strangers are left alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from embedcache.cohorts.near_duplicates import SIDE, blank, near_duplicates
from embedcache.images.thumbnail import thumbnail


def hexed(number: int) -> str:
    return f"{number:064x}"


def pictures(count: int, seed: int = 0, side: int = 256) -> list[Image.Image]:
    """Blurred noise: no two alike, each with detail of the size of anatomy."""
    noise = np.random.default_rng(seed).normal(size=(count, side, side))
    smooth = gaussian_filter(noise, (0, side / 40, side / 40))
    levels = 128 + 40 * smooth / smooth.std(axis=(1, 2), keepdims=True)
    return [Image.fromarray(one) for one in np.clip(levels, 0, 255).astype(np.uint8)]


def thumbnails(images: list[Image.Image]) -> NDArray[np.uint8]:
    return np.stack([thumbnail(image, SIDE) for image in images])


def pairs_of(images: list[Image.Image]) -> list[tuple[int, int]]:
    found = near_duplicates([hexed(i) for i in range(len(images))], thumbnails(images))
    return [(int(pair.first, 16), int(pair.second, 16)) for pair in found]


def compressed(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=20)
    return Image.open(file).convert("L")


def moved(image: Image.Image) -> Image.Image:
    """Moves the picture by half a pixel of its thumbnail, as between two frames."""
    return Image.fromarray(np.roll(np.asarray(image), image.width // (2 * SIDE), axis=1))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "stretched": lambda image: image.resize((640, 300), Image.Resampling.BICUBIC),
    "made small": lambda image: image.resize((100, 80), Image.Resampling.BILINEAR),
    "compressed": compressed,
    "brighter": lambda image: image.point(lambda level: min(level + 25, 255)),
    "flatter": lambda image: image.point(lambda level: level * 0.6),
    "in colour mode": lambda image: image.convert("RGB"),
    "moved a little": moved,
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_found_though_it_was(change: str) -> None:
    images = pictures(6)
    images += [CHANGES[change](image) for image in images]
    assert pairs_of(images) == [(row, row + 6) for row in range(6)]


def test_other_pictures_are_not_near() -> None:
    assert pairs_of(pictures(40)) == []


@pytest.mark.parametrize("count", [12, 60, 240])
def test_a_fan_that_all_share_makes_no_near_duplicates(count: int) -> None:
    down, across = np.mgrid[0:256, 0:256]
    inside = np.hypot(down + 60, across - 128) < 290
    inside &= np.abs(np.arctan2(across - 128, down + 60)) < 0.4
    images = [
        Image.fromarray(np.where(inside, 60 + np.asarray(image) // 4, 0).astype(np.uint8))
        for image in pictures(count, side=256)
    ]
    # The fan's edge is all that a plain correlation of the pictures sees.
    flat = np.stack([np.asarray(image).ravel() for image in images[:12]])
    assert np.corrcoef(flat).min() > 0.95
    assert pairs_of([*images, images[0].resize((300, 200))]) == [(0, count)]


def test_a_negative_is_not_near() -> None:
    image = pictures(1)[0]
    assert pairs_of([image, image.point(lambda level: 255 - level)]) == []


def test_pairs_are_found_wherever_their_rows_lie() -> None:
    # More rows than are compared at once, so that pairs lie within and between blocks.
    small = np.random.default_rng(0).integers(0, 256, (2100, SIDE, SIDE), np.uint8)
    planted = [(0, 1), (5, 1023), (6, 1024), (7, 2099), (1500, 1501), (2047, 2048)]
    for one, other in planted:
        small[other] = small[one]
    found = near_duplicates([hexed(i) for i in range(len(small))], small)
    assert [(int(pair.first, 16), int(pair.second, 16)) for pair in found] == planted
    assert all(pair.score == pytest.approx(1, abs=1e-4) for pair in found)


@settings(max_examples=10, deadline=None)
@given(st.permutations(range(8)))
def test_the_order_of_images_changes_nothing(order: list[int]) -> None:
    images = pictures(4, side=64)
    images += [compressed(image) for image in images]
    small, digests = thumbnails(images), [hexed(17 * i % 8) for i in range(8)]
    shuffled = near_duplicates([digests[i] for i in order], small[order])
    straight = near_duplicates(digests, small)
    assert [(p.first, p.second) for p in shuffled] == [(p.first, p.second) for p in straight]
    assert len(straight) == 4
    assert all(pair.first < pair.second for pair in straight)


def test_flat_pictures_are_blank_and_have_no_near_duplicates() -> None:
    images = [Image.new("L", (50, 50), level) for level in (0, 0, 90, 255)] + pictures(1)
    assert blank(thumbnails(images)).tolist() == [True, True, True, True, False]
    assert pairs_of(images) == []


def test_no_images_have_no_near_duplicates() -> None:
    assert near_duplicates([], np.zeros((0, SIDE, SIDE), np.uint8)) == ()


#: Under two patients, and one scene by eye: the first two in Barcelona's data, where nothing said
#: so; Egypt's patients 1 and 3, 2 and 23, 5 and 8 are known copies, 1 and 6 in one plane.
ONE_SCENE = {
    ("Patient00786_Plane2_1_of_1", "Patient00799_Plane2_1_of_1"),
    ("Patient00820_Plane6_5_of_5", "Patient00830_Plane6_2_of_3"),
    ("patient001_EGY_plane0", "patient003_EGY_plane0"),
    ("patient001_EGY_plane1", "patient006_EGY_plane1"),
    ("patient001_EGY_plane3", "patient003_EGY_plane3"),
    ("patient002_EGY_plane1", "patient023_EGY_plane1"),
    ("patient002_EGY_plane2", "patient023_EGY_plane2"),
    ("patient002_EGY_plane3", "patient023_EGY_plane3"),
    ("patient005_EGY_plane1", "patient008_EGY_plane1"),
    ("patient005_EGY_plane2", "patient008_EGY_plane2"),
}


def test_every_reencoded_original_is_found_without_a_false_alarm(shared_cohorts: Path) -> None:
    paths = [
        *shared_cohorts.glob("fetal_planes_db_*/Images/*"),
        *shared_cohorts.glob("*/*/*_EGY_*"),
    ]
    files = {path.read_bytes(): path for path in sorted(paths)}  # identical ones once
    stems = [path.stem for path in files.values()]
    small = thumbnails([Image.open(path).convert("L") for path in files.values()])
    found = near_duplicates([hexed(i) for i in range(len(files))], small)
    named = [tuple(sorted((stems[int(p.first, 16)], stems[int(p.second, 16)]))) for p in found]
    # Ground truth by name: 33 images lie in two folders, as JPEG of 640 x 640 and as original PNG.
    twice = {stem for stem in stems if stems.count(stem) == 2}
    assert len(twice) == 33
    assert {one for one, other in named if one == other} == twice
    patients = [(one.rsplit("_", 1 if "EGY" in one else 4)[0], one, other) for one, other in named]
    apart = {(one, other) for patient, one, other in patients if not other.startswith(patient)}
    assert apart == ONE_SCENE
