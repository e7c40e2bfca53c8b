"""What single authors do to a picture: OpenCV's resize, padding after normalising, own z-score."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from embedcache.contract import Contract, Preprocessing
from embedcache.encoders.preprocessing import fit, normalise, require_libraries
from embedcache.errors import PackageMissingError

#: ImageNet's, which UltraSAM and USFM take from it.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CV2 = {"cv2-bilinear": cv2.INTER_LINEAR, "cv2-bicubic": cv2.INTER_CUBIC}
#: Width and height of wide, tall, square, odd and thin pictures; two that float rounding shortens.
SIZES = [(40, 30), (30, 41), (24, 24), (57, 33), (90, 3), (13, 7), (98, 60), (49, 49)]


@pytest.fixture(autouse=True)
def _without_ipp() -> Iterator[None]:
    """Compare with OpenCV's own arithmetic, which does not depend on the maker of the processor."""
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    yield
    cv2.ipp.setUseIPP(before)


def noise(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    width, height = size
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def how(**changes: Any) -> Preprocessing:
    usual: dict[str, Any] = {"height": 32, "width": 32, "mean": MEAN, "std": STD}
    return Preprocessing(**{**usual, **changes})


def ready(pixels: np.ndarray, prepared: Preprocessing) -> np.ndarray:
    """Both halves, as an encoder runs them."""
    batch = torch.from_numpy(fit(Image.fromarray(pixels), prepared))[None]
    return normalise(batch, prepared)[0].numpy()


def channels_first(pixels: np.ndarray) -> np.ndarray:
    return np.moveaxis(pixels, -1, 0)


@pytest.mark.parametrize("resample", CV2)
@pytest.mark.parametrize("size", SIZES)
def test_squash_by_opencv_is_its_resize(size: tuple[int, int], resample: str) -> None:
    pixels = noise(size)
    expected = cv2.resize(pixels, (20, 28), interpolation=CV2[resample])
    found = fit(Image.fromarray(pixels), how(height=28, width=20, resample=resample))
    assert np.array_equal(found, channels_first(expected))


@pytest.mark.parametrize("size", SIZES)
def test_pad_square_by_opencv_is_its_resize_of_the_square(size: tuple[int, int]) -> None:
    pixels = noise(size)
    side = max(size)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square = np.zeros((side, side, 3), np.uint8)
    square[top : top + size[1], left : left + size[0]] = pixels
    expected = cv2.resize(square, (32, 32), interpolation=cv2.INTER_CUBIC)
    found = fit(Image.fromarray(pixels), how(fit="pad-square", resample="cv2-bicubic"))
    assert np.array_equal(found, channels_first(expected))


@pytest.mark.parametrize("resample", CV2)
def test_intel_s_library_is_one_grey_level_away_at_most_and_stays_as_it_was(resample: str) -> None:
    pixels = noise((410, 300))
    cv2.ipp.setUseIPP(True)
    before = cv2.ipp.useIPP()  # false where OpenCV was built without it
    found = fit(Image.fromarray(pixels), how(height=224, width=224, resample=resample))
    assert cv2.ipp.useIPP() == before
    theirs = cv2.resize(pixels, (224, 224), interpolation=CV2[resample])
    apart = np.abs(found.astype(int) - channels_first(theirs))
    assert apart.max() <= (0 if resample == "cv2-bilinear" else 1)


def test_opencv_s_bilinear_reads_two_pixels_where_pil_s_reads_all() -> None:
    row = np.array([[200, 100, 50, 0, 0, 0, 0, 80]], np.uint8)
    eighth = Preprocessing(
        height=1, width=1, colour="grey", mean=(0.0,), std=(1.0,), resample="cv2-bilinear"
    )
    # The middle of eight pixels lies between the fourth and the fifth, both black.
    assert fit(Image.fromarray(row), eighth).item() == 0


@pytest.mark.parametrize("resample", CV2)
def test_a_grey_picture_gives_the_bytes_of_its_rgb_copy_by_opencv_too(resample: str) -> None:
    grey = noise((57, 33))[:, :, 0]
    prepared = how(fit="long-side", resample=resample, pad="after")
    found = fit(Image.fromarray(grey), prepared)
    assert np.array_equal(found, fit(Image.fromarray(np.dstack([grey] * 3)), prepared))


def ultrasam_size(width: int, height: int, side: int) -> tuple[int, int]:
    """What mmdet's FixScaleResize resizes to under a scale of (side, side), keeping the ratio."""
    factor = min(side / max(height, width), side / min(height, width))
    return int(width * factor), int(height * factor)


@pytest.mark.parametrize("size", SIZES)
def test_padding_before_normalising_is_ultrasam_s_classification_pipeline(
    size: tuple[int, int],
) -> None:
    pixels = noise(size)
    width, height = ultrasam_size(*size, side=32)
    canvas = np.zeros((32, 32, 3), np.uint8)
    canvas[:height, :width] = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    expected = (canvas - np.array([123.675, 116.28, 103.53])) / np.array([58.395, 57.12, 57.375])
    prepared = how(fit="long-side", resample="cv2-bilinear")
    assert np.array_equal(fit(Image.fromarray(pixels), prepared), channels_first(canvas))
    np.testing.assert_allclose(ready(pixels, prepared), channels_first(expected), atol=2e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_padding_after_normalising_is_zero_and_leaves_the_picture_alone(
    width: int, height: int, seed: int
) -> None:
    if 32 * min(width, height) < max(width, height):
        return  # mmdet itself fails where a side comes to no pixels
    pixels = noise((width, height), seed)
    inside = ultrasam_size(width, height, side=32)
    before = ready(pixels, how(fit="long-side", resample="cv2-bilinear"))
    after = ready(pixels, how(fit="long-side", resample="cv2-bilinear", pad="after"))
    expected = np.zeros_like(before)
    expected[:, : inside[1], : inside[0]] = before[:, : inside[1], : inside[0]]
    assert np.array_equal(after, expected)


def test_black_inside_the_picture_is_no_padding() -> None:
    black = np.zeros((16, 32, 3), np.uint8)
    found = ready(black, how(fit="long-side", pad="after"))
    # -0.485 / 0.229 = -2.1179
    np.testing.assert_allclose(found[0, :16], -2.1179, atol=1e-4)
    assert not found[:, 16:].any()


def test_only_a_padding_can_come_after_normalising() -> None:
    with pytest.raises(ValueError, match="squash has no padding"):
        fit(Image.fromarray(noise((9, 9))), how(pad="after"))


ZSCORE = Preprocessing(
    height=24,
    width=20,
    mean=(),
    std=(),
    colour="mean",
    resample="cv2-bilinear",
    standardise="picture",
)


@pytest.mark.parametrize("size", SIZES)
def test_the_z_score_is_that_of_usfm_s_extractor(size: tuple[int, int]) -> None:
    pixels = noise(size)
    # tools/extractor.py of openmedlab/USFM (pull request 13eef5e), in float64 throughout
    grey = cv2.resize(np.mean(pixels, axis=2), (20, 24)) / 255.0
    expected = np.repeat(((grey - grey.mean()) / grey.std())[None], 3, axis=0)
    found = ready(pixels, ZSCORE)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=5e-6)


def test_the_average_of_channels_is_not_rounded() -> None:
    pixels = np.array([[[0, 0, 1], [255, 255, 255]]], np.uint8)
    plain = Preprocessing(height=1, width=2, colour="mean", mean=(0.0,) * 3, std=(1.0,) * 3)
    found = ready(pixels, plain)
    np.testing.assert_allclose(found[:, 0], [[1 / 765, 1]] * 3, rtol=1e-6)


@pytest.mark.parametrize("kind", ["squash", "pad-square", "long-side", "centre-crop"])
@pytest.mark.parametrize("resample", ["nearest", "box", "bilinear", "cv2-bilinear"])
def test_the_average_of_a_grey_picture_is_the_picture(kind: str, resample: str) -> None:
    grey = noise((57, 33))[:, :, 0]
    prepared = how(fit=kind, resample=resample)
    averaged = how(fit=kind, resample=resample, colour="mean")
    # Resized bytes are rounded, resized averages are not; a grey level is 1/255, .0175 after std.
    # (Bicubic is left out: it overshoots, and bytes are clipped at black and white on each axis.)
    np.testing.assert_allclose(ready(grey, averaged), ready(grey, prepared), atol=0.02)


def test_a_picture_of_one_value_has_no_z_score() -> None:
    assert np.isnan(ready(np.full((8, 8, 3), 7, np.uint8), ZSCORE)).all()


def test_a_picture_s_z_score_does_not_depend_on_its_neighbours() -> None:
    pictures = [noise((40, 30), seed) for seed in range(3)]
    batch = torch.from_numpy(np.stack([fit(Image.fromarray(one), ZSCORE) for one in pictures]))
    together = normalise(batch, ZSCORE).numpy()
    for pixels, found in zip(pictures, together, strict=True):
        assert np.array_equal(found, ready(pixels, ZSCORE))


@pytest.mark.parametrize(
    "change",
    [{"standardise": "picture"}, {"pad": "after"}, {"colour": "mean"}, {"resample": "cv2-bicubic"}],
    ids=str,
)
def test_each_is_another_feature_id(change: dict[str, Any]) -> None:
    def feature_id(prepared: Preprocessing) -> str:
        return Contract(
            architecture="a",
            code="1",
            weights="none",
            preprocessing=prepared,
            pooling="p",
            dim=1,
        ).feature_id

    assert feature_id(how(**change)) != feature_id(how())


def test_a_missing_opencv_is_an_error_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "embedcache.encoders.preprocessing.find_spec",
        lambda name: None if name == "cv2" else importlib.util.find_spec(name),
    )
    require_libraries("usfm", how())
    with pytest.raises(PackageMissingError, match="pip install opencv-python-headless"):
        require_libraries("ultrasam", how(resample="cv2-bilinear"))
