"""From a decoded picture to what a network reads: fitted by PIL or OpenCV, normalised on device.

The order is that of torchvision's transforms on PIL pictures (resize, crop, to tensor, normalise)
and so are the rounding rules, which the tests compare with torchvision's own.

What travels between the two halves is uint8 *planes*, (planes, height, width). They are the
picture's channels, save in two cases where 8 bits do not tell all that `normalise` must know:
under colour `mean` they are the four bytes of one float32, and where padding comes after
normalising a last plane is 255 inside the picture and 0 in its padding. A shape beside the batch
would have been smaller, and a second thing to carry through every queue (docs/decisions/0075).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedcache.contract import Fit, Preprocessing, Resample
from embedcache.errors import PackageMissingError

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor

_FILTERS: dict[Resample, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: OpenCV's names of its filters.
_CV2 = {"cv2-bilinear": "INTER_LINEAR", "cv2-bicubic": "INTER_CUBIC"}

#: What brings cv2 without a window system.
OPENCV = "opencv-python-headless"

#: On 0 to 1: less deviation is what resizing a picture of one value leaves by rounding (6e-8).
_FLAT = 1e-6
#: The bytes of colour `mean`, the same on every machine.
_FLOAT = np.dtype("<f4")


def require_libraries(encoder: str, how: Preprocessing) -> None:
    """Check that what a preprocessing runs on is installed; imports nothing.

    Raises:
        PackageMissingError: if it is not.
    """
    if how.resample in _CV2 and find_spec("cv2") is None:
        raise PackageMissingError(f"{encoder}, which resizes as OpenCV does,", OPENCV)


def fit(picture: Picture, how: Preprocessing) -> NDArray[np.uint8]:
    """Fit a decoded picture: colour, resize, crop or pad, as PIL or OpenCV does it.

    Args:
        picture: as `images.decode` gives it, mode L or RGB.
        how: the contract's preprocessing; its mean and std are not looked at.

    Returns:
        (planes, height, width) uint8, C order, memory of its own.

    Raises:
        ValueError: as `fit_narrow`.
    """
    return widen(fit_narrow(picture, how), how)


def widen(planes: NDArray[np.uint8], how: Preprocessing) -> NDArray[np.uint8]:
    """Repeat the one plane of a grey picture where the contract is rgb; others as they are."""
    if how.colour != "rgb" or len(planes) - (how.pad == "after") == 3:
        return planes
    return np.concatenate([np.repeat(planes[:1], 3, axis=0), planes[1:]])


def fit_narrow(picture: Picture, how: Preprocessing) -> NDArray[np.uint8]:
    """Fit a decoded picture, and leave a grey one under an rgb contract one plane.

    Resized as one channel it gives the same bytes as converted first (channels are resized apart)
    for a third of the work; `normalise` repeats it.

    Args:
        picture: as `images.decode` gives it, mode L or RGB.
        how: the contract's preprocessing; its mean and std are not looked at.

    Returns:
        (planes, height, width) uint8, C order, memory of its own.

    Raises:
        ValueError: if the picture has another mode, or the preprocessing contradicts itself.
    """
    if picture.mode not in ("L", "RGB"):
        raise ValueError(f"a decoded picture has mode L or RGB, not {picture.mode}")
    fitted = _FITS[how.fit](_coloured(picture, how), how)
    planes = _planes(np.asarray(fitted), how)
    if how.pad == "after":
        if how.fit != "long-side":
            raise ValueError(f"{how.fit} has no padding that could come after normalising")
        inside = np.zeros((1, how.height, how.width), np.uint8)
        width, height = _long_side_size(picture.size, how)
        inside[:, :height, :width] = 255
        return np.concatenate([planes, inside])
    return planes


def normalise(batch: Tensor, how: Preprocessing) -> Tensor:
    """Scale to [0, 1], subtract the mean, divide by the std, on the batch's device.

    A picture of one value has no standard deviation: standardised by its own it comes out as NaN,
    for whoever encodes it to report.

    Args:
        batch: (b, planes, height, width) uint8, as `fit` gives them, or all as `fit_narrow` does.
        how: the contract's preprocessing.

    Returns:
        (b, channels, height, width) float32.
    """
    return standardise(*unit(batch, how), how)


def unit(batch: Tensor, how: Preprocessing) -> tuple[Tensor, Tensor | None]:
    """The first half of `normalise`: planes as values from 0 to 1, where they may be augmented.

    Returns:
        (b, channels, height, width) float32, one channel of a narrow batch; and where padding
        comes after normalising what is picture, (b, 1, height, width) bool, else None.
    """
    inside = None
    if how.pad == "after":
        batch, inside = batch[:, :-1], batch[:, -1:] > 0
    return _values(batch, how).div_(255), inside


def standardise(scaled: Tensor, inside: Tensor | None, how: Preprocessing) -> Tensor:
    """The second half of `normalise`, on what `unit` gives."""
    import torch

    if how.standardise == "picture":
        # Before the sums: a third of the terms would round to other bits.
        scaled = scaled.repeat(1, 3, 1, 1) if _is_narrow(scaled, how) else scaled
        std, mean = torch.std_mean(scaled, dim=(1, 2, 3), correction=0, keepdim=True)
        std = std.masked_fill_(std < _FLAT, torch.nan)
    else:
        mean = torch.tensor(how.mean, dtype=torch.float32, device=scaled.device)[:, None, None]
        std = torch.tensor(how.std, dtype=torch.float32, device=scaled.device)[:, None, None]
    # Out of place: here a narrow batch gets its three channels, to the bits that repeating gives.
    normal = (scaled - mean).div_(std)
    return normal if inside is None else normal.mul_(inside)


def _is_narrow(scaled: Tensor, how: Preprocessing) -> bool:
    return how.colour == "rgb" and scaled.shape[1] == 1


def _coloured(picture: Picture, how: Preprocessing) -> Picture:
    if how.colour == "grey":
        return picture.convert("L")
    if how.colour == "mean":
        values = np.asarray(picture, np.float32)
        # The sum of three bytes is exact, so that the mean is rounded once.
        return Image.fromarray(values if values.ndim == 2 else values.sum(axis=2) / np.float32(3))
    return picture


def _planes(fitted: NDArray[Any], how: Preprocessing) -> NDArray[np.uint8]:
    """Lay channels, or the bytes of a float, before rows and columns."""
    if how.colour == "mean":
        bytes_ = fitted.astype(_FLOAT)[:, :, None].view(np.uint8)
        return np.ascontiguousarray(bytes_.transpose(2, 0, 1))
    if fitted.ndim == 2:
        return np.array(fitted[np.newaxis], order="C")
    return np.ascontiguousarray(fitted.transpose(2, 0, 1))


def _values(planes: Tensor, how: Preprocessing) -> Tensor:
    """What `_planes` laid out, as numbers from 0 to 255: (b, channels, h, w) float32, a copy."""
    import torch

    if how.colour == "mean":
        values = planes.permute(0, 2, 3, 1).contiguous().view(torch.float32)
        return values.permute(0, 3, 1, 2).repeat(1, 3, 1, 1)
    return planes.to(torch.float32)


def _resize(picture: Picture, size: tuple[int, int], how: Preprocessing) -> Picture:
    """Resize to (width, height) by the contract's filter."""
    if how.resample not in _CV2:
        return picture.resize(size, _FILTERS[how.resample])
    import cv2

    # Intel's library inside OpenCV rounds bicubic bytes in another way, on Intel's machines alone
    # (docs/decisions/0076). The switch is this thread's own.
    before = cv2.ipp.useIPP()
    cv2.ipp.setUseIPP(False)
    try:
        filter_ = getattr(cv2, _CV2[how.resample])
        return Image.fromarray(cv2.resize(np.asarray(picture), size, interpolation=filter_))
    finally:
        cv2.ipp.setUseIPP(before)


def _squash(picture: Picture, how: Preprocessing) -> Picture:
    """Resize whatever the aspect; with a crop below 1 to more than is wanted, then crop."""
    size = (int(how.width / how.crop), int(how.height / how.crop))
    return _centre(_resize(picture, size, how), how)


def _pad_square(picture: Picture, how: Preprocessing) -> Picture:
    """Lay on a black square as wide as the longer side, then resize.

    An odd margin is smaller at left and top, as in FetalCLIP's
    `make_image_square_with_zero_padding`.
    """
    side = max(picture.size)
    square = Image.new(picture.mode, (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return _resize(square, (how.width, how.height), how)


def _long_side(picture: Picture, how: Preprocessing) -> Picture:
    """Resize to the largest size that fits; pad right and bottom."""
    canvas = Image.new(picture.mode, (how.width, how.height))
    canvas.paste(_resize(picture, _long_side_size(picture.size, how), how), (0, 0))
    return canvas


def _long_side_size(size: tuple[int, int], how: Preprocessing) -> tuple[int, int]:
    """Width and height of the picture in its frame, rounded as mmdet's `FixScaleResize` does.

    Both sides are floors of a product of floats, which for some sizes (98 or 956 pixels to 1024:
    the product is 1023.99…) leaves a line of the frame empty on the longer side too.
    """
    width, height = size
    scale = min(how.width / width, how.height / height)
    # mmdet would ask OpenCV for a side of no pixels, and fail, where a picture is a thousand times
    # as wide as high.
    return max(1, int(width * scale)), max(1, int(height * scale))


def _centre_crop(picture: Picture, how: Preprocessing) -> Picture:
    """Resize the shorter side (the longer one rounded down, as torchvision's Resize), then crop."""
    if how.height != how.width:
        raise ValueError(f"centre-crop gives squares, not {how.height}x{how.width}")
    short, side = min(picture.size), int(how.height / how.crop)
    size = (side * picture.width // short, side * picture.height // short)
    return _centre(_resize(picture, size, how), how)


def _centre(picture: Picture, how: Preprocessing) -> Picture:
    # Halves are rounded to even, as Python's round does and torchvision's CenterCrop with it.
    left = round((picture.width - how.width) / 2)
    top = round((picture.height - how.height) / 2)
    return picture.crop((left, top, left + how.width, top + how.height))


_FITS: dict[Fit, Callable[[Picture, Preprocessing], Picture]] = {
    "squash": _squash,
    "pad-square": _pad_square,
    "long-side": _long_side,
    "centre-crop": _centre_crop,
}
