"""Augmentation for ultrasound: small turns and sizes, gain, contrast, speckle, shadows.

What is done to a picture follows from the seed, the epoch and the image's digest alone, so that
neither the number of workers nor a restart changes a bit. Numbers are drawn on the CPU and applied
on the device to a whole batch at once: torchvision's transforms (v2) take one angle a call, which
on a GPU costs more than the network does at a batch of 32. What is done to one picture is the same
as theirs, and the tests compare the two (docs/decisions/0102).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch  # noqa: TID253  # nothing here runs without it
from numpy.typing import NDArray
from torch import Tensor  # noqa: TID253  # nothing here runs without it
from torch.nn import functional  # noqa: TID253  # nothing here runs without it

from embedcache.finetuning.recipe import Augment

#: Side of a grain of speckle, pixels.
GRAIN = 2
#: Deviations of a shadow, as shares of the sides, and how much of the light it takes at its centre;
#: ours.
_SHADOW_SIDE, _SHADOW_DEPTH = (0.1, 0.4), (0.25, 0.8)

#: What each picture draws, uniform from 0 to 1, in this order.
_COLUMNS = (
    *("turn", "size", "right", "down", "mirror", "contrast", "gain", "speckle"),
    *("shadow", "shadow x", "shadow y", "shadow width", "shadow height", "shadow depth"),
)
#: By name, (b,) float64 each.
Chances = dict[str, NDArray[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Drawn:
    """What is done to each picture of a batch; a None: nothing of that kind.

    Attributes:
        matrix: from a place in the new picture to one in the old, both in -1 to 1 from side to
            side, (b, 2, 3) float32.
        exponent: of the grey values, (b,) float32.
        gain: factor of them, (b,) float32.
        shadow: centre (x, y), deviations (x, y), depth, as shares of the sides, (b, 5) float32;
            depth 0: no shadow.
        noise: of speckle, deviation included, (b, 1, h / 2, w / 2) float32.
    """

    matrix: Tensor
    exponent: Tensor
    gain: Tensor
    shadow: Tensor
    noise: Tensor | None

    def only(self, part: slice) -> Drawn:
        """What is done to some pictures of the batch."""
        return self._mapped(lambda value: value[part])

    def to(self, device: str) -> Drawn:
        """The same on a device."""
        return self._mapped(lambda value: value.to(device, non_blocking=True))

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Drawn:
        return Drawn(
            matrix=change(self.matrix),
            exponent=change(self.exponent),
            gain=change(self.gain),
            shadow=change(self.shadow),
            noise=None if self.noise is None else change(self.noise),
        )


def draw(
    augment: Augment,
    digest: NDArray[np.uint8],
    shape: tuple[int, int],
    *,
    seed: int,
    epoch: int,
) -> Drawn:
    """Draw what is done to the pictures of a batch.

    Args:
        augment: how much at most.
        digest: of each image, (b, 32) uint8.
        shape: height and width, pixels.
        seed: of the training.
        epoch: from 1.
    """
    each = [
        np.random.default_rng([seed, epoch, *np.ascontiguousarray(one).view("<u4").tolist()])
        for one in digest
    ]
    # All are drawn whatever is asked for: turning one part off leaves the others as they are.
    uniform = np.array([rng.random(len(_COLUMNS)) for rng in each])
    chance = dict(zip(_COLUMNS, uniform.T, strict=True))
    noise = None
    if augment.speckle:
        grains = (-(-shape[0] // GRAIN), -(-shape[1] // GRAIN))
        field = np.stack([rng.standard_normal((1, *grains), np.float32) for rng in each])
        deviation = (augment.speckle * chance["speckle"]).astype(np.float32)
        noise = torch.from_numpy(field * deviation[:, None, None, None])
    return Drawn(
        matrix=_floats(_matrices(augment, chance, shape)),
        exponent=_floats(np.exp(augment.contrast * _either(chance["contrast"]))),
        gain=_floats(np.exp(augment.gain * _either(chance["gain"]))),
        shadow=_floats(_shadows(augment, chance)),
        noise=noise,
    )


def apply(drawn: Drawn, picture: Tensor, inside: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Augment a batch between the two halves of `normalise`; see `preprocessing.unit`.

    Args:
        drawn: what to do, on the batch's device.
        picture: (b, channels, h, w) float32 in [0, 1].
        inside: where the picture is, (b, 1, h, w) bool, or None.

    Returns:
        picture and inside, moved alike; black comes in from outside.
    """
    grid = functional.affine_grid(
        drawn.matrix, [len(picture), 1, *picture.shape[2:]], align_corners=False
    )
    picture = functional.grid_sample(picture, grid, mode="bilinear", align_corners=False)
    if inside is not None:
        moved = functional.grid_sample(inside.float(), grid, mode="nearest", align_corners=False)
        inside = moved > 0.5
    # Exponent and gain keep black black, so that a frame stays one.
    picture = picture.pow(_each(drawn.exponent)) * _each(drawn.gain)
    picture = picture * _light(drawn.shadow, (picture.shape[2], picture.shape[3]))
    if drawn.noise is not None:
        size = (picture.shape[2], picture.shape[3])
        noise = functional.interpolate(drawn.noise, size, mode="bilinear", align_corners=False)
        picture = picture * (1 + noise)
    return picture.clamp_(0, 1), inside


def _matrices(augment: Augment, chance: Chances, shape: tuple[int, int]) -> NDArray[np.float64]:
    """(b, 2, 3): turn about the centre, size, displacement, then perhaps left for right."""
    angle = np.deg2rad(augment.rotation) * _either(chance["turn"])
    size = 1 + augment.scale * _either(chance["size"])
    shift = 2 * augment.shift * _either(np.stack([chance["right"], chance["down"]], axis=1))
    height, width = shape
    cos, sin = np.cos(angle) / size, np.sin(angle) / size
    # Turned in pixels, which are not square shares of a picture that is not.
    turn = np.stack([cos, sin * height / width, -sin * width / height, cos], axis=1)
    turn = turn.reshape(-1, 2, 2)
    move = -np.einsum("bij,bj->bi", turn, shift)
    matrix = np.concatenate([turn, move[:, :, None]], axis=2)
    matrix[chance["mirror"] < augment.mirror, 0] *= -1
    return matrix


def _shadows(augment: Augment, chance: Chances) -> NDArray[np.float64]:
    side = [_between(_SHADOW_SIDE, chance[name]) for name in ("shadow width", "shadow height")]
    depth = _between(_SHADOW_DEPTH, chance["shadow depth"])
    cast = np.where(chance["shadow"] < augment.shadow, depth, 0)
    return np.stack([chance["shadow x"], chance["shadow y"], *side, cast], axis=1)


def _light(shadow: Tensor, shape: tuple[int, int]) -> Tensor:
    """What a shadow leaves of each pixel, (b, 1, h, w)."""
    height, width = shape
    across = _bell(shadow[:, 0], shadow[:, 2], width)
    down = _bell(shadow[:, 1], shadow[:, 3], height)
    return 1 - _each(shadow[:, 4]) * across[:, None, None, :] * down[:, None, :, None]


def _bell(centre: Tensor, deviation: Tensor, pixels: int) -> Tensor:
    """A Gaussian of height 1 along one side, (b, pixels)."""
    place = (torch.arange(pixels, device=centre.device) + 0.5) / pixels
    return torch.exp(-((place - centre[:, None]) / deviation[:, None]).square() / 2)


def _either(chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """From 0 to 1 to both sides of zero."""
    return 2 * chance - 1


def _between(ends: tuple[float, float], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    return ends[0] + (ends[1] - ends[0]) * chance


def _each(value: Tensor) -> Tensor:
    return value[:, None, None, None]


def _floats(value: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(value.astype(np.float32))
