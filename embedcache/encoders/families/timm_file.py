"""Weight files that lie on the Hugging Face hub in timm's own names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.families.untrained import draw
from embedcache.encoders.weights import HubFile

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Counts training steps; no feature depends on it, and files of old torch versions lack it.
_COUNTER = "num_batches_tracked"


def hub_file(model: str) -> HubFile:
    """Where timm publishes a model: architecture and tag."""
    return HubFile(repository=f"timm/{model}", names=("model.safetensors", "pytorch_model.bin"))


def load_named(
    model: nn.Module, state: Mapping[str, Tensor], unused: Iterable[str] = ()
) -> nn.Module:
    """Load strictly, but for counters of training steps that an old file lacks.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    counters = {key: old for key, old in model.state_dict().items() if key.endswith(_COUNTER)}
    return load_strict(model, {**counters, **state}, unused)


def untrained(seed: int, *, architecture: str, **settings: Any) -> dict[str, Tensor]:
    """A checkpoint in timm's layout of an architecture, from a seed alone."""
    import torch

    with torch.device("meta"):
        model = create(architecture, **settings)
    return draw({key: tuple(value.shape) for key, value in model.state_dict().items()}, seed)
