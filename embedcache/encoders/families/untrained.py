"""Checkpoints that nobody trained, in the layout of a published file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from embedcache.encoders.network import seeded

if TYPE_CHECKING:
    from torch import Tensor

#: Names of the tensors of a layout with their shapes.
Layout = Mapping[str, tuple[int, ...]]

#: Added or looked up, not multiplied by: of the order of what they are added to.
_ADDED = re.compile(r"(^|\.)(\w*_tokens?|\w*pos_embed|relative_position_bias_table)$")


def draw(layout: Layout, seed: int) -> dict[str, Tensor]:
    """Fill a layout from a seed alone.

    Weights keep the scale of what passes through them. Norms, biases, layer scales and running
    statistics lie off their usual zeros and ones, so that a tensor in the wrong place shows.

    Args:
        layout: names and shapes, as the published file has them.
        seed: of all that is drawn.

    Returns:
        float32 by name; counters of batches are int64.
    """
    with seeded(seed):
        return {name: _drawn(name, shape) for name, shape in layout.items()}


def _drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    import torch

    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if name.endswith("running_var"):
        return torch.rand(shape) + 0.5
    noise = torch.randn(shape)
    if _ADDED.search(name):
        return noise
    if len(shape) > 1:
        return noise / math.sqrt(math.prod(shape[1:]))
    scale = name.endswith((".weight", "gamma_1", "gamma_2", ".gamma"))
    return 1 + 0.1 * noise if scale else 0.1 * noise
