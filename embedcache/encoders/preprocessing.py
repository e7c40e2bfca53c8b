"""From a decoded picture to what a network reads: fitted in PIL, normalised on the device.

The order is that of torchvision's transforms on PIL pictures (resize, crop, to tensor, normalise)
and so are the rounding rules, which the tests compare with torchvision's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedcache.contract import Fit, Preprocessing, Resample

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor

_FILTERS: dict[Resample, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def fit(picture: Picture, how: Preprocessing) -> NDArray[np.uint8]:
    """Fit a decoded picture: colour, resize, crop or pad, all in 8 bits as PIL does it.

    A grey picture under an rgb contract is resized as one channel and repeated, which gives the
    same bytes as converting it first (PIL resizes channels apart) for a third of the work.

    Args:
        picture: as `images.decode` gives it, mode L or RGB.
        how: the contract's preprocessing; its mean and std are not looked at.

    Returns:
        (channels, height, width) uint8, C order, memory of its own.

    Raises:
        ValueError: if the picture has another mode.
    """
    if picture.mode not in ("L", "RGB"):
        raise ValueError(f"a decoded picture has mode L or RGB, not {picture.mode}")
    if how.colour == "grey":
        picture = picture.convert("L")
    fitted = np.asarray(_FITS[how.fit](picture, how))
    channels = 1 if how.colour == "grey" else 3
    if fitted.ndim == 2:
        return np.repeat(fitted[np.newaxis], channels, axis=0)
    return np.ascontiguousarray(fitted.transpose(2, 0, 1))


def normalise(batch: Tensor, how: Preprocessing) -> Tensor:
    """Scale to [0, 1], subtract the mean, divide by the std, on the batch's device.

    Args:
        batch: (b, channels, height, width) uint8.
        how: the contract's preprocessing.

    Returns:
        (b, channels, height, width) float32.
    """
    import torch

    mean = torch.tensor(how.mean, dtype=torch.float32, device=batch.device)
    std = torch.tensor(how.std, dtype=torch.float32, device=batch.device)
    scaled = batch.to(torch.float32).div_(255)
    return scaled.sub_(mean[:, None, None]).div_(std[:, None, None])


def _squash(picture: Picture, how: Preprocessing) -> Picture:
    """Resize whatever the aspect; with a crop below 1 to more than is wanted, then crop."""
    size = (int(how.width / how.crop), int(how.height / how.crop))
    return _centre(picture.resize(size, _FILTERS[how.resample]), how)


def _pad_square(picture: Picture, how: Preprocessing) -> Picture:
    """Lay on a black square as wide as the longer side, then resize.

    An odd margin is smaller at left and top, as in FetalCLIP's
    `make_image_square_with_zero_padding`.
    """
    side = max(picture.size)
    square = Image.new(picture.mode, (side, side))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return square.resize((how.width, how.height), _FILTERS[how.resample])


def _long_side(picture: Picture, how: Preprocessing) -> Picture:
    """Resize to the largest size that fits, the shorter side rounded down; pad right and bottom."""
    if picture.width * how.height >= picture.height * how.width:
        size = (how.width, max(1, picture.height * how.width // picture.width))
    else:
        size = (max(1, picture.width * how.height // picture.height), how.height)
    canvas = Image.new(picture.mode, (how.width, how.height))
    canvas.paste(picture.resize(size, _FILTERS[how.resample]), (0, 0))
    return canvas


def _centre_crop(picture: Picture, how: Preprocessing) -> Picture:
    """Resize the shorter side (the longer one rounded down, as torchvision's Resize), then crop."""
    if how.height != how.width:
        raise ValueError(f"centre-crop gives squares, not {how.height}x{how.width}")
    short, side = min(picture.size), int(how.height / how.crop)
    size = (side * picture.width // short, side * picture.height // short)
    return _centre(picture.resize(size, _FILTERS[how.resample]), how)


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
