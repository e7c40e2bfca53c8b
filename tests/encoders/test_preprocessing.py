"""Pictures are fitted as PIL and torchvision fit them, to the byte."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import fit, normalise
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.images.thumbnail import thumbnail

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: Width and height of wide, tall, square, odd and thin pictures.
SIZES = [(40, 30), (30, 41), (24, 24), (57, 33), (90, 3), (13, 7)]


def noise(size: tuple[int, int], mode: str = "RGB", seed: int = 0) -> Image.Image:
    width, height = size
    shape = (height, width) if mode == "L" else (height, width, 3)
    values = np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)
    return Image.fromarray(values)


def how(**changes: Any) -> Preprocessing:
    usual: dict[str, Any] = {"height": 24, "width": 24, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return Preprocessing(**{**usual, **changes})


def channels_first(picture: Image.Image) -> np.ndarray:
    return np.moveaxis(np.asarray(picture), -1, 0)


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("size", SIZES)
def test_squash_is_pil_s_resize(size: tuple[int, int], resample: str) -> None:
    picture = noise(size)
    expected = channels_first(picture.resize((20, 28), FILTERS[resample]))
    assert np.array_equal(fit(picture, how(height=28, width=20, resample=resample)), expected)


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("size", SIZES)
def test_pad_square_centres_on_black_before_it_resizes(
    size: tuple[int, int], resample: str
) -> None:
    pixels = np.asarray(noise(size))
    side = max(size)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + size[1], left : left + size[0]] = pixels
    expected = Image.fromarray(square).resize((24, 24), FILTERS[resample])
    found = fit(noise(size), how(fit="pad-square", resample=resample))
    assert np.array_equal(found, channels_first(expected))


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("size", SIZES)
def test_long_side_resizes_then_pads_right_and_bottom(size: tuple[int, int], resample: str) -> None:
    scale = min(24 / size[0], 24 / size[1])
    scaled = tuple(max(1, math.floor(edge * scale)) for edge in size)
    inner = np.asarray(noise(size).resize(scaled, FILTERS[resample]))
    expected = np.zeros((24, 24, 3), np.uint8)
    expected[: scaled[1], : scaled[0]] = inner
    found = fit(noise(size), how(fit="long-side", resample=resample))
    assert np.array_equal(found, np.moveaxis(expected, -1, 0))


def test_long_side_fills_a_frame_that_is_no_square() -> None:
    found = fit(noise((40, 10)), how(height=30, width=20, fit="long-side"))
    assert np.array_equal(found[:, :5], channels_first(noise((40, 10)).resize((20, 5), 3)))
    assert not found[:, 5:].any()


@pytest.mark.parametrize("resample", ["nearest", "bilinear", "bicubic"])
@pytest.mark.parametrize("crop", [1.0, 0.95, 0.875, 0.8])
@pytest.mark.parametrize("size", SIZES)
def test_centre_crop_is_torchvision_s_resize_and_center_crop(
    size: tuple[int, int], crop: float, resample: str
) -> None:
    repair_torchvision()
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode

    reference = transforms.Compose(
        [
            transforms.Resize(math.floor(24 / crop), InterpolationMode(resample)),
            transforms.CenterCrop(24),
        ]
    )
    found = fit(noise(size), how(fit="centre-crop", crop=crop, resample=resample))
    assert np.array_equal(found, channels_first(reference(noise(size))))


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", SIZES)
def test_a_crop_is_timm_s_evaluation_transform(size: tuple[int, int], mode: str) -> None:
    repair_torchvision()
    from timm.data import create_transform

    reference = create_transform(
        (3, 24, 24), interpolation="bicubic", crop_pct=0.9, crop_mode=mode, normalize=False
    )
    ours = how(fit={"center": "centre-crop", "squash": "squash"}[mode], crop=0.9)
    assert np.array_equal(fit(noise(size), ours), reference(noise(size)).numpy())


def test_normalising_is_torchvision_s_to_tensor_and_normalize() -> None:
    repair_torchvision()
    import torch
    from torchvision import transforms

    prepared = how(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    reference = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize(prepared.mean, prepared.std)]
    )
    picture = noise((24, 24))
    batch = torch.from_numpy(fit(picture, prepared))[None]
    assert torch.equal(normalise(batch, prepared)[0], reference(picture))


def test_normalising_leaves_the_pixels_as_they_were() -> None:
    import torch

    batch = torch.from_numpy(fit(noise((24, 24)), how()))[None]
    before = batch.clone()
    normalise(batch, how())
    assert torch.equal(batch, before)


fits = st.sampled_from(["squash", "pad-square", "long-side", "centre-crop"])
sides = st.integers(3, 60)


@settings(max_examples=60, deadline=None)
@given(fits, st.sampled_from(sorted(FILTERS)), sides, sides, st.integers(0, 2**32 - 1))
def test_a_grey_picture_gives_the_bytes_of_its_rgb_copy(
    kind: str, resample: str, width: int, height: int, seed: int
) -> None:
    grey = noise((width, height), mode="L", seed=seed)
    prepared = how(fit=kind, resample=resample, crop=0.9 if kind == "centre-crop" else 1.0)
    found = fit(grey, prepared)
    assert found.shape == (3, 24, 24)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(found, fit(grey.convert("RGB"), prepared))


def test_a_colour_picture_under_a_grey_contract_becomes_luma_first() -> None:
    picture = noise((40, 30))
    expected = np.asarray(picture.convert("L").resize((24, 24), Image.Resampling.BICUBIC))
    found = fit(picture, how(colour="grey", mean=(0.0,), std=(1.0,)))
    assert np.array_equal(found, expected[None])


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_box_to_16_in_grey_is_the_thumbnail(mode: str) -> None:
    picture = noise((61, 47), mode=mode)
    grey = how(height=16, width=16, colour="grey", resample="box", mean=(0.0,), std=(1.0,))
    assert np.array_equal(fit(picture, grey)[0], thumbnail(picture, 16))


def test_a_mode_that_decoding_never_gives_is_refused() -> None:
    with pytest.raises(ValueError, match="not RGBA"):
        fit(Image.new("RGBA", (8, 8)), how())
