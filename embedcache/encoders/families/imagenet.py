"""What encoders trained on ImageNet's statistics share: means, deviations and two ways to fit."""

from __future__ import annotations

from embedcache.contract import Preprocessing, Resample

#: Of ImageNet's training images on 0 to 1, as torchvision and timm state them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def squash(side: int, resample: Resample = "bicubic") -> Preprocessing:
    """The whole picture on a square of `side` pixels, whatever its aspect."""
    return Preprocessing(height=side, width=side, mean=MEAN, std=STD, resample=resample)


def centre(side: int, crop: float, resample: Resample = "bicubic") -> Preprocessing:
    """The centre of the picture, `crop` of the shorter side."""
    return Preprocessing(
        height=side,
        width=side,
        mean=MEAN,
        std=STD,
        fit="centre-crop",
        resample=resample,
        crop=crop,
    )
