"""From a vision transformer's tokens to one vector: the rules of pooling, by their contract's name.

A network here gives its last block's tokens before any norm, so that every rule is a few products
on them and variants of one encoder share a forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn

#: What becomes of the tokens. A *layer norm* carries the checkpoint's own weights; an *untrained*
#: one has weight 1 and bias 0, as where authors add it and load nothing into it.
Rule = Literal[
    "layer-norm-then-cls",
    "layer-norm-then-mean",
    "layer-norm-then-cls+mean",
    "mean-then-layer-norm",
    "mean-then-untrained-layer-norm",
]


def bare(model: nn.Module) -> nn.Module:
    """Make a timm transformer give the tokens of its last block, without norm or pooling, in place.

    Whatever norm it had has been loaded before, so that a checkpoint that lacks it was refused.
    """
    import torch

    model.norm = model.fc_norm = torch.nn.Identity()
    model.global_pool = ""  # type: ignore[assignment]  # timm keeps a word here, not a tensor
    return model


def pool(
    state: Mapping[str, Tensor], *, rule: Rule, eps: float, prefix: int = 1, norm: str = "norm"
) -> nn.Module:
    """Make what turns tokens into vectors: (b, prefix + patches, width) -> (b, dim).

    Args:
        state: tensors in the network's names.
        rule: how.
        eps: added to the variance by the norm.
        prefix: tokens that are no patches: the class token first, then registers.
        norm: name of the norm in the state.

    Returns:
        a module that holds the norm.
    """
    import torch

    class Pool(torch.nn.Module):
        def __init__(self, norm: nn.Module) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, tokens: Tensor) -> Tensor:
            if rule.startswith("mean-then"):
                vector: Tensor = self.norm(tokens[:, prefix:].mean(dim=1))
                return vector
            tokens = self.norm(tokens)
            cls, mean = tokens[:, 0], tokens[:, prefix:].mean(dim=1)
            if rule == "layer-norm-then-cls+mean":
                return torch.cat((cls, mean), dim=1)
            return cls if rule == "layer-norm-then-cls" else mean

    layer = torch.nn.LayerNorm(state["cls_token"].shape[-1], eps=eps)
    if rule != "mean-then-untrained-layer-norm":
        layer.load_state_dict({part: state[f"{norm}.{part}"] for part in ("weight", "bias")})
    return Pool(layer)
