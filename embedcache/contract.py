"""What decides an encoder's numbers and nothing else: its contract, and the feature id it gives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from embedcache.schema import LATER, sha256_json

Fit = Literal["squash", "pad-square", "long-side", "centre-crop"]
Resample = Literal["nearest", "box", "bilinear", "bicubic", "cv2-bilinear", "cv2-bicubic"]
Colour = Literal["grey", "rgb", "mean"]
Standardise = Literal["channel", "picture"]
Pad = Literal["before", "after"]
Precision = Literal["fp32", "bf16", "fp16"]
StoredDtype = Literal["float32", "float16"]

#: Largest difference, relative to the vector's norm, that two machines may show for one contract.
#: fp32: rounding through a few dozen layers (upstream against timm on the same weights: 1e-6).
#: bf16, fp16: 1 - cosine of 5e-5 and 2e-6 was measured over six encoders, so sqrt(2 (1 - cosine))
#: is .01 and .002; ten and five times that leaves room for other kernels.
TOLERANCE: dict[Precision, float] = {"fp32": 1e-4, "bf16": 1e-1, "fp16": 1e-2}

#: Starts `weights` of an encoder that nobody trained.
RANDOM = "random:"
#: `weights` of an encoder that has none.
NO_WEIGHTS = "none"


@dataclass(frozen=True, kw_only=True, slots=True)
class Preprocessing:
    """How a decoded picture becomes a tensor; each step is exact to PIL or to OpenCV.

    A field that a later version added is left out of the canonical JSON at its default, so that
    contracts from before it keep their feature ids (docs/decisions/0074).

    Attributes:
        height: rows of the tensor, pixels.
        width: columns of the tensor, pixels.
        colour: `grey` keeps one channel, PIL's luma; `rgb` three (a grey picture's are equal);
            `mean` averages R, G and B, rounds nothing, and gives the average three times.
        fit: `squash` resizes to (height, width) whatever the aspect; `pad-square` first pads
            with black to a centred square; `long-side` resizes the longer side, then pads right
            and bottom; `centre-crop` resizes the shorter side to `height / crop`, then crops.
        resample: the filter: of PIL's resize, antialiased, or `cv2-…` of OpenCV's, which is not.
        crop: share of each side that is kept: `centre-crop` and `squash` resize to the size
            divided by it, rounded down, then crop the centre; 1 for the other fits.
        mean: subtracted after division by 255, one value a channel (R, G, B or grey); none where
            each picture is standardised by its own.
        std: divided by, likewise.
        standardise: `channel` by `mean` and `std`; `picture` by the mean and standard deviation of
            all values of the picture itself, its padding included.
        pad: whether what `long-side` pads is zero `before` normalising (and so ends as -mean/std)
            or `after` it.
    """

    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    colour: Colour = "rgb"
    fit: Fit = "squash"
    resample: Resample = "bicubic"
    crop: float = 1.0
    standardise: Standardise = field(default="channel", metadata=LATER)
    pad: Pad = field(default="before", metadata=LATER)


@dataclass(frozen=True, kw_only=True, slots=True)
class Contract:
    """All that decides the numbers of one feature. Known without importing torch.

    Attributes:
        architecture: the network, such as `timm:tf_efficientnet_lite0`.
        code: our family's version number, a plugin's distribution and version, or the sha256 of
            a `file.py`.
        weights: `sha256:HEX` of the published file, `random:SEED`, or `none`.
        preprocessing: how a picture becomes a tensor.
        pooling: how tokens or maps become one vector.
        dim: length of the vector.
        precision: arithmetic of the forward pass.
        dtype: dtype of the stored vector.
        parent: feature id of the encoder that this one was tuned from, or None.
        version: of this record's own layout.
    """

    architecture: str
    code: str
    weights: str
    preprocessing: Preprocessing
    pooling: str
    dim: int
    precision: Precision = "fp32"
    dtype: StoredDtype = "float32"
    parent: str | None = None
    version: int = 1

    @property
    def feature_id(self) -> str:
        """First 16 hex digits of the sha256 of the canonical JSON."""
        return sha256_json(self)[:16]

    @property
    def random_weights(self) -> bool:
        """Whether nobody trained this encoder: its results say nothing about any model."""
        return self.weights.startswith(RANDOM)


def shortest_references(named: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """What each of several features is called: `NAME`, or `NAME#ID` where some share the name.

    Args:
        named: encoder's name and feature id of each.
    """
    shared = Counter(name for name, _ in named)
    return tuple(name if shared[name] == 1 else f"{name}#{own}" for name, own in named)
