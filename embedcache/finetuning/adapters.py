"""Low-rank adapters (Hu et al., LoRA, ICLR 2022) on a network, by peft.

Which layers. In a transformer every linear layer of its blocks: queries, keys, values, projection
and both layers of the MLP, since attention alone is a smaller model at the same rank (Dettmers et
al., QLoRA, 2023, section 4). In a convolutional network every convolution that mixes channels:
those by depth (one channel a group) have no rank to lower. Dilated ones are left out, for peft
would put an undilated one beside them.

torch's `MultiheadAttention` runs its projections without their layers; peft adapts it by adding
adapters to its weights and taking them off again at each call, which leaves them rounded: they
would creep, and a resumed training would not end at the same bits. Its projections are therefore
made layers while adapters lie beside them (`attention`).
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.errors import EncoderUnusableError, PackageMissingError

if TYPE_CHECKING:
    from torch import nn


def adapt(trunk: nn.Module, encoder: str, *, rank: int, alpha: float) -> None:
    """Put adapters beside the layers of a network, in place; only they then ask for gradients.

    They start as no change at all. Draws from torch's global generator.

    Raises:
        PackageMissingError: if peft is not installed.
        EncoderUnusableError: if there is no layer to adapt.
    """
    if find_spec("peft") is None:
        raise PackageMissingError("--tune lora", "peft")
    repair_torchvision()  # peft imports it too
    import peft

    _open_attentions(trunk)
    names = targets(trunk)
    if not names:
        raise EncoderUnusableError(encoder, "it has no layer that LoRA could adapt")
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=names)  # type: ignore[arg-type]  # a whole number is not needed
    peft.inject_adapter_in_model(config, trunk)


def targets(trunk: nn.Module) -> list[str]:
    """Names of the layers that get an adapter."""
    from torch import nn

    # The inner projection of an attention that stayed closed is not run as a layer.
    closed = tuple(
        f"{name}."
        for name, module in trunk.named_modules()
        if isinstance(module, nn.MultiheadAttention)
    )
    return [
        name
        for name, module in trunk.named_modules()
        if not name.startswith(closed or ("nothing",))
        and (isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and _mixes(module)))
    ]


def merge(trunk: nn.Module) -> None:
    """Add adapters to the weights that they lie beside, in place; none are left."""
    repair_torchvision()
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(trunk.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            _put(trunk, name, module.get_base_layer())
    _close_attentions(trunk)


def _mixes(layer: nn.Conv2d) -> bool:
    return layer.groups == 1 and set(layer.dilation) == {1}


def _put(trunk: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(trunk.get_submodule(parent), last, module)


def _open_attentions(trunk: nn.Module) -> None:
    from embedcache.finetuning.attention import OpenAttention, can_open

    for name, module in list(trunk.named_modules()):
        if can_open(module):
            _put(trunk, name, OpenAttention(module))


def _close_attentions(trunk: nn.Module) -> None:
    from embedcache.finetuning.attention import OpenAttention

    for name, module in list(trunk.named_modules()):
        if isinstance(module, OpenAttention):
            _put(trunk, name, module.closed())
