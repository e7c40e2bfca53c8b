"""Which parameter learns how fast, and which decays.

Learning rates fall from the head to the first layer (BEiT; Clark et al., ELECTRA, ICLR 2020), by a
factor a block. timm knows the layers of its own networks; in others they are found by looking for
the blocks that attend, in the order in which they stand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedcache.finetuning.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from embedcache.finetuning.network import Tuned

#: Blocks of the networks that published decays were chosen for, ViT-B's.
_BLOCKS = 12
#: Ends the names of weights that attention has and convolutions lack.
_ATTENDS = (".qkv", ".in_proj_weight", ".q_proj", ".attn.")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Group:
    """Parameters that learn alike.

    Attributes:
        names: in the tuned network.
        scale: of the learning rate, 1 for the head.
        weight_decay: of AdamW.
    """

    names: tuple[str, ...]
    scale: float
    weight_decay: float


def groups(network: Tuned, recipe: Recipe) -> tuple[Group, ...]:
    """All parameters that ask for gradients, by learning rate and decay."""
    scale = scales(network.trunk, recipe.layer_decay)
    found: dict[tuple[float, float], list[str]] = {}
    for name, value in network.named_parameters():
        if not value.requires_grad:
            continue
        # Adapters are all new, and as far from what they should be at every depth.
        own = 1.0 if ".lora_" in name else scale.get(name.removeprefix("trunk."), 1.0)
        # Norms and biases have one dimension; tokens and position tables are not called weights.
        decays = value.ndim > 1 and name.endswith("weight")
        key = (own, recipe.weight_decay if decays else 0.0)
        found.setdefault(key, []).append(name)
    return tuple(
        Group(names=tuple(names), scale=scale, weight_decay=decay)
        for (scale, decay), names in found.items()
    )


def scales(trunk: nn.Module, layer_decay: float) -> dict[str, float]:
    """Factor of the learning rate of each parameter of a transformer; empty for other networks."""
    if not any(_attends(name) for name, _ in trunk.named_parameters()):
        return {}
    layer, blocks = layers(trunk)
    share = _BLOCKS / blocks
    return {name: layer_decay ** ((blocks + 1 - own) * share) for name, own in layer.items()}


def layers(trunk: nn.Module) -> tuple[dict[str, int], int]:
    """The layer of each parameter of a transformer, and how many blocks there are.

    Layer 0 lies before the blocks, which count from 1; one more than there are lies behind them.
    """
    for start, module in trunk.named_modules():
        matcher = getattr(module, "group_matcher", None)
        if callable(matcher):
            return _by_matcher(trunk, module, f"{start}." if start else "")
    return _by_blocks(trunk)


def _by_matcher(trunk: nn.Module, module: Any, start: str) -> tuple[dict[str, int], int]:
    """As timm groups a network's layers; what is around the network lies behind its blocks."""
    from timm.models import group_parameters

    inside = group_parameters(module, module.group_matcher(coarse=False), reverse=True)
    # Not the largest number: a family may have taken the last norm off, and a layer with it.
    blocks = max(layer for name, layer in inside.items() if _attends(name))
    own = {start + name: min(layer, blocks + 1) for name, layer in inside.items()}
    return {name: own.get(name, blocks + 1) for name, _ in trunk.named_parameters()}, blocks


def _by_blocks(trunk: nn.Module) -> tuple[dict[str, int], int]:
    """Layers of a network that timm does not know: members of lists that attend are blocks."""
    from torch import nn

    found = [
        f"{outer}.{inner}."
        for outer, module in trunk.named_modules()
        if outer and isinstance(module, nn.ModuleList | nn.Sequential)
        for inner, child in module.named_children()
        if any(_attends(name) for name, _ in child.named_parameters())
    ]
    # A block may hold lists whose members attend too: those are parts of it.
    blocks = [one for one in found if not any(one.startswith(x) for x in found if x != one)]
    place = {
        name: next((i for i, block in enumerate(blocks, 1) if name.startswith(block)), None)
        for name, _ in trunk.named_parameters()
    }
    layer, reached = {}, 0
    for name, own in place.items():
        # What lies between two blocks goes with the first; behind the last it is a layer.
        reached = own or reached
        layer[name] = reached + (own is None and reached == len(blocks))
    return layer, len(blocks)


def _attends(name: str) -> bool:
    return any(mark in f".{name}" for mark in _ATTENDS)


def rate_scale(step: int, *, steps: int, warmup: int) -> float:
    """Factor of the peak learning rate at a step from 0: a line up, then half a cosine down to 0.

    Args:
        step: which.
        steps: there are.
        warmup: steps of the line; fewer than all.
    """
    if step < warmup:
        return (step + 1) / warmup
    return (1 + math.cos(math.pi * (step - warmup) / max(steps - warmup, 1))) / 2


def optimiser(network: Tuned, recipe: Recipe) -> Any:
    """AdamW over the groups; each keeps its `scale` and the names of its parameters."""
    import torch

    parameters = dict(network.named_parameters())
    return torch.optim.AdamW(
        [
            {
                "params": [parameters[name] for name in group.names],
                "names": group.names,
                "scale": group.scale,
                "weight_decay": group.weight_decay,
                "lr": 0.0,
            }
            for group in groups(network, recipe)
        ]
    )
