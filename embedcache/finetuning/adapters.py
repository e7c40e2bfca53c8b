"""Low-rank adapters (Hu et al., LoRA, ICLR 2022) on a network, by peft.

Which layers. In a transformer every linear layer of its blocks: queries, keys, values, projection
and both layers of the MLP, since attention alone is a smaller model at the same rank (Dettmers et
al., QLoRA, 2023, section 4). In a convolutional network every convolution that mixes channels:
those by depth (one channel a group) have no rank to lower. Dilated ones are left out, for peft
would put an undilated one beside them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

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

    names = targets(trunk)
    if not names:
        raise EncoderUnusableError(encoder, "it has no layer that LoRA could adapt")
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=names)  # type: ignore[arg-type]  # a whole number is not needed
    peft.inject_adapter_in_model(config, trunk)


def targets(trunk: nn.Module) -> list[str]:
    """Names of the layers that get an adapter."""
    from torch import nn

    names = []
    within = "nothing yet"  # the attention passed last, whose inner projection is its own to run
    for name, module in trunk.named_modules():
        if name.startswith(within):
            continue
        if isinstance(module, nn.MultiheadAttention):
            names.append(name)
            within = f"{name}."
        elif isinstance(module, nn.Linear) or (isinstance(module, nn.Conv2d) and _mixes(module)):
            names.append(name)
    return names


def merge(trunk: nn.Module) -> None:
    """Add adapters to the weights that they lie beside, in place; none are left."""
    repair_torchvision()
    from peft.tuners.tuners_utils import BaseTunerLayer

    beside = [name for name, module in trunk.named_modules() if isinstance(module, BaseTunerLayer)]
    # Outer ones first: an attention merges its inner projection itself.
    for name in beside:
        try:
            layer: Any = trunk.get_submodule(name)
        except AttributeError:
            continue
        parent, _, last = name.rpartition(".")
        setattr(trunk.get_submodule(parent), last, _merged(layer))


def _merged(layer: Any) -> nn.Module:
    """The layer below an adapter, with the adapter in its weights."""
    unload = getattr(layer, "unload_and_optionally_merge_module", None)
    if unload is None:
        layer.merge()
        base: nn.Module = layer.get_base_layer()
        return base
    # An attention's weights are no parameters while peft holds them; it makes them so again.
    attention: nn.Module = unload(merge=True, safe_merge=False, adapter_names=None)
    return attention


def _mixes(layer: nn.Conv2d) -> bool:
    return layer.groups == 1 and set(layer.dilation) == {1}
