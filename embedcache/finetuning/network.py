"""The network that is tuned: an encoder's own, its pooling, and a linear head on its feature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch  # noqa: TID253  # nothing here runs without it
from torch import Tensor, nn  # noqa: TID253  # nothing here runs without it

from embedcache.encoders.network import NetworkEncoder
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.errors import EncoderUnusableError
from embedcache.finetuning.adapters import adapt
from embedcache.finetuning.recipe import Recipe, Tune

#: A feature that varies less than this share of what features do on average counts as varying so
#: much: a nearly dead channel, divided by its own deviation, would outweigh the living.
_DEAD = 1e-2


class Head(nn.Module):
    """A linear classifier on standardised features.

    It starts at zero, so that the first steps move the head alone: a random one would send noise
    into a pretrained network (Kumar et al., Fine-tuning can distort pretrained features, ICLR
    2022). Standardising makes one learning rate serve encoders whose features differ in scale by
    hundreds; it is folded into the weights when training ends.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(classes, dim))
        self.bias = nn.Parameter(torch.zeros(classes))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def forward(self, feature: Tensor) -> Tensor:
        """(b, dim) -> logits, (b, classes) float32, whatever the precision around."""
        with torch.autocast(feature.device.type, enabled=False):
            standard = (feature.float() - self.mean) / self.std
            return nn.functional.linear(standard, self.weight, self.bias)

    def standardise_by(self, feature: Tensor) -> None:
        """Take mean and deviation from the features of the training pictures, (n, dim)."""
        exact = feature.double()
        std, mean = torch.std_mean(exact, dim=0, correction=0)
        floor = _DEAD * std.square().mean().sqrt()
        # Features that are all equal have no deviation at all.
        self.std.copy_(std.clamp(min=floor) if floor > 0 else torch.ones_like(std))
        self.mean.copy_(mean)

    def folded(self) -> dict[str, Tensor]:
        """Weight and bias for the feature as the encoder gives it."""
        weight = self.weight.detach().double() / self.std.double()
        bias = self.bias.detach().double() - weight @ self.mean.double()
        return {"weight": weight, "bias": bias}


class Tuned(nn.Module):
    """Trunk, pooling and head; see `build`."""

    def __init__(self, encoder: NetworkEncoder, classes: int) -> None:
        super().__init__()
        self.trunk = encoder.module
        self.pool = nn.Identity() if encoder.pool is None else encoder.pool
        self.head = Head(encoder.contract.dim, classes).to(encoder.device)

    def feature(self, picture: Tensor) -> Tensor:
        """Normalised (b, channels, h, w) float32 -> (b, dim)."""
        vector: Tensor = self.pool(
            self.trunk(picture.contiguous(memory_format=torch.channels_last))
        )
        return vector

    def forward(self, picture: Tensor) -> Tensor:
        """Normalised (b, channels, h, w) float32 -> logits, (b, classes) float32."""
        logits: Tensor = self.head(self.feature(picture))
        return logits


def build(encoder: ResolvedEncoder, tune: Tune, recipe: Recipe, classes: int, device: str) -> Tuned:
    """Put an encoder's network and a head on a device, with what is tuned asking for gradients.

    Draws from torch's global generator (adapters alone do).

    Raises:
        EncoderUnusableError: if it has no network.
        PackageMissingError: if adapters are asked for and peft is not installed.
        What `ResolvedEncoder.build` raises.
    """
    built = encoder.build(device)
    if not isinstance(built, NetworkEncoder):
        raise EncoderUnusableError(encoder.name, "it has no network that could be tuned")
    network = Tuned(built, classes)
    for part in (network.trunk, network.pool):
        part.requires_grad_(requires_grad=tune == "full")
    if tune == "lora":
        adapt(network.trunk, encoder.name, rank=recipe.rank, alpha=recipe.alpha)
        network.trunk.to(device)
    return network


def set_learning(network: Tuned, tune: Tune, recipe: Recipe) -> None:
    """Put a network into the mode that it learns in.

    Frozen batch norms normalise by their running statistics, as they will when it is used.
    """
    network.train(mode=True)
    if tune == "head":
        network.trunk.eval()
        network.pool.eval()
    if tune != "full" or recipe.batch_norm == "frozen":
        for module in network.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):  # noqa: SLF001  # torch's only common class of them
                module.eval()


def changing(network: Tuned, tune: Tune, recipe: Recipe) -> dict[str, Tensor]:
    """All tensors that training changes, and the head's standardisation, by name."""
    names = {name for name, value in network.named_parameters() if value.requires_grad}
    tracked = tune == "full" and recipe.batch_norm == "tracked"
    state = network.state_dict()
    return {
        name: value
        for name, value in state.items()
        if name in names
        or name.startswith("head.")
        or (tracked and name.endswith(("running_mean", "running_var", "num_batches_tracked")))
    }


def restore(network: Tuned, state: Mapping[str, Tensor]) -> None:
    """Put tensors back in place; the names are some of the network's."""
    own = network.state_dict()
    for name, value in state.items():
        own[name].copy_(value)


def finished(network: Tuned) -> dict[str, Tensor]:
    """What `Trained.state` holds, from a network whose adapters are merged; on the CPU.

    The head stays float64: folding it into float32 would round what standardising kept apart.
    """
    parts: dict[str, Callable[[], Mapping[str, Any]]] = {
        "trunk": network.trunk.state_dict,
        "pool": network.pool.state_dict,
        "head": network.head.folded,
    }
    return {
        f"{part}.{name}": value.detach().cpu().clone()
        for part, state in parts.items()
        for name, value in state().items()
    }


def tuned_encoder(
    state: Mapping[str, Tensor], encoder: ResolvedEncoder, device: str
) -> NetworkEncoder:
    """See `loop.tuned_encoder`."""
    built = encoder.build(device)
    assert isinstance(built, NetworkEncoder)  # what has no network was never tuned
    for part, module in (("trunk", built.module), ("pool", built.pool)):
        if module is not None:
            start = f"{part}."
            inside = {
                name.removeprefix(start): value
                for name, value in state.items()
                if name.startswith(start)
            }
            module.load_state_dict(inside, strict=True)
    return built
