"""Build a tuned network: from tensors without content, then filled with what was trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.encoder_file import Blank

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Start the names of the network's tensors and of the pooling's.
TRUNK, POOL = "trunk.", "pool."


def blank(blanks: Sequence[Blank]) -> dict[str, Tensor]:
    """Tensors of zeros in the place of a checkpoint's."""
    import torch

    return {one.name: torch.zeros(one.shape, dtype=getattr(torch, one.dtype)) for one in blanks}


def fill(module: nn.Module, pool: nn.Module | None, state: Mapping[str, Tensor]) -> None:
    """Give every parameter and buffer of a network and its pooling its tensor, in place.

    Raises:
        WeightsMismatchError: if a name is missing or left over, or a shape differs.
    """
    load_strict(module, _part(state, TRUNK))
    if pool is not None:
        load_strict(pool, _part(state, POOL))


def _part(state: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {k.removeprefix(start): tensor for k, tensor in state.items() if k.startswith(start)}
