"""MOFO: the CSWin-S encoder of a network that segments many organs in ultrasound.

Chen et al., Multi-Organ Foundation Model for Universal Ultrasound Image Segmentation with Task
Prompt and Anatomical Prior, IEEE TMI (Git-HB-CHEN/MOFO @c5076f0, GPL-3.0: nothing of it is copied
here). The published file `mofo_weight_sel.pth` is the whole network's state dict, 772 tensors. The
encoder's 660 start with `_backbone_encoder.`: a stem of two convolutions (3x3 of stride 2, then
3x3, each with an InstanceNorm that learns nothing and a LeakyReLU of slope .01) at 112x112 and 32
channels, `merge0` to 56x56 and 64, then CSWin-S under the names of microsoft/CSWin-Transformer.
Its `norm` and `head` are in the file and are not used; nor is the decoder.

Two of its names could not be read anywhere but in the file: what the two stem convolutions are
called. They are found by their shapes, which no other tensor outside the named modules has; their
biases add a constant to each channel, which the InstanceNorm takes away again. That `merge0` names
its layers as the published `merge1` to `merge3` do (`conv`, `norm`) is by analogy: the counts
fit (652 of CSWin-S, 4 of the stem, 4 of `merge0` are 660). A file that is otherwise is refused,
with its first names.

Feature. Upstream defines none, for it segments. We average the last map, 512 channels at 7x7, as
CSWin does before its classifier and as all hierarchical networks here are read; the LayerNorm that
CSWin puts before its average is left out, because MOFO's training never ran it.

Preprocessing (infer.py of upstream): RGB, PIL's bicubic squash to 224, values from 0 to 1, no mean,
no std. The stripes fit 224 and no other size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.contract import Preprocessing
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families.seen import not_listed
from embedcache.encoders.families.untrained import draw
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import DriveFile

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Before every name of the encoder; what lacks it is prompts, decoder and heads.
PREFIX = "_backbone_encoder."
#: In the file, and never run by upstream.
UNUSED = (f"{PREFIX}norm.", f"{PREFIX}head.")

#: Names that are known; what is left of the encoder is its stem.
_NAMED = (*(f"{PREFIX}stage{stage}." for stage in range(1, 5)), f"{PREFIX}merge", *UNUSED)
#: Where the stem's two convolutions lie in our network.
_STEM = (f"{PREFIX}stem.0", f"{PREFIX}stem.3")

SQUASH_224 = Preprocessing(height=224, width=224, mean=(0.0,) * 3, std=(1.0,) * 3)

#: Of the encoder without `norm` and `head`.
PARAMETERS = 34_148_448


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Sizes of a MOFO encoder; each stage has half the map and twice the channels of the last.

    Attributes:
        dim: channels of the first stage; the stem has half.
        depth: blocks of each stage.
        split: width of each stage's stripes, tokens.
        heads: attention heads of each stage, both directions together.
    """

    dim: int = 64
    depth: tuple[int, ...] = (2, 4, 32, 2)
    split: tuple[int, ...] = (1, 2, 7, 7)
    heads: tuple[int, ...] = (2, 4, 8, 16)

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of each stage."""
        return tuple(self.dim * 2**stage for stage in range(len(self.depth)))


#: CSWin-S, which the published weights are.
SMALL = Shape()


def build(state: dict[str, Tensor], shape: Shape = SMALL) -> nn.Module:
    """Make the encoder from the whole network's checkpoint, strictly; it gives its last map.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    import torch

    encoder = network(shape)
    # Loaded under its prefix, so that a bare CSWin does not pass for it. What MOFO has besides is
    # dropped unseen; without a name of the encoder's all names stay, to be refused.
    around = torch.nn.ModuleDict({PREFIX.removesuffix("."): encoder})
    inside = {key: tensor for key, tensor in state.items() if key.startswith(PREFIX)}
    load_strict(around, _stem_found(inside or state, shape), unused=UNUSED)
    return encoder


def network(shape: Shape) -> nn.Module:
    """The encoder with torch's own random start: (b, 3, 224, 224) -> (b, dim, 7, 7)."""
    import torch

    from embedcache.encoders.families.cswin import Block, Merge

    half = shape.dim // 2

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Sequential(
                torch.nn.Conv2d(3, half, 3, stride=2, padding=1),
                torch.nn.InstanceNorm2d(half),
                torch.nn.LeakyReLU(0.01),
                torch.nn.Conv2d(half, half, 3, padding=1),
                torch.nn.InstanceNorm2d(half),
                torch.nn.LeakyReLU(0.01),
            )
            self.names = [f"stage{stage + 1}" for stage in range(len(shape.depth))]
            before, side = half, SQUASH_224.height // 2
            stages = zip(shape.dims, shape.depth, shape.split, shape.heads, strict=True)
            for stage, (dim, depth, split, heads) in enumerate(stages):
                side //= 2
                blocks = (Block(dim, heads, side, split) for _ in range(depth))
                setattr(self, f"merge{stage}", Merge(before, dim))
                setattr(self, f"stage{stage + 1}", torch.nn.Sequential(*blocks))
                before = dim

        def forward(self, pixels: Tensor) -> Tensor:
            tokens = self.stem(pixels).permute(0, 2, 3, 1)
            for stage, name in enumerate(self.names):
                tokens = getattr(self, name)(getattr(self, f"merge{stage}")(tokens))
            map_: Tensor = tokens.permute(0, 3, 1, 2)
            return map_

    return Encoder()


def average(state: dict[str, Tensor]) -> nn.Module:  # noqa: ARG001  # the interface's argument
    """The mean of each channel of the map."""
    import torch

    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def untrained(seed: int, shape: Shape = SMALL) -> dict[str, Tensor]:
    """The encoder's part of the published file, drawn from a seed."""
    return draw(layout(shape), seed)


def layout(shape: Shape = SMALL) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the encoder in the published file; the stem is named as CSWin's is."""
    import torch

    with torch.device("meta"):
        inside: dict[str, Any] = network(shape).state_dict()
    names = {
        PREFIX + key.replace("stem.", "stage1_conv_embed."): tuple(tensor.shape)
        for key, tensor in inside.items()
    }
    last = shape.dims[-1]
    names |= {f"{PREFIX}norm.weight": (last,), f"{PREFIX}norm.bias": (last,)}
    return {**names, f"{PREFIX}head.weight": (1000, last), f"{PREFIX}head.bias": (1000,)}


def _stem_found(inside: dict[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """Name the stem's convolutions as our network does; they are known by their shapes.

    Where there is not exactly one of each, all names stay, for strict loading to refuse.
    """
    half = shape.dim // 2
    found = {}
    for place, channels in zip(_STEM, (3, half), strict=True):
        modules = [
            key.removesuffix(".weight")
            for key, tensor in inside.items()
            if not key.startswith(_NAMED) and tuple(tensor.shape) == (half, channels, 3, 3)
        ]
        if len(modules) != 1:
            return inside
        found[modules[0]] = place
    renamed = {}
    for key, tensor in inside.items():
        module, _, name = key.rpartition(".")
        renamed[f"{found.get(module, module)}.{name}"] = tensor
    return renamed


def mofo(shape: Shape = SMALL) -> EncoderSpec:
    """MOFO as published, or a smaller network in the same layout."""
    sizes = ((shape.dim,), shape.depth, shape.split, shape.heads)
    return EncoderSpec(
        name="mofo",
        dim=shape.dims[-1],
        architecture="mofo-cswin:" + "/".join("-".join(map(str, size)) for size in sizes),
        preprocessing=SQUASH_224,
        pooling="average",
        build=partial(build, shape=shape),
        pool=average,
        sources=(
            DriveFile(name="mofo_weight_sel.pth", folder="1SpBRMuM3hCZj9RhriHkMrMIGMcT0TamA"),
        ),
        untrained=partial(untrained, shape=shape),
        licence="not stated for the weights; the code is GPL-3.0",
        citation="Chen et al., MOFO, IEEE Transactions on Medical Imaging; Dong et al., CSWin "
        "Transformer, CVPR 2022, arXiv:2107.00652",
        pretraining=(
            "BUSI",
            "HC18 (fetal heads)",
            "FALLMUD",
            "DDTI",
            "private: Achilles tendon, heart, kidney, lymph node, median nerve, midbrain",
        ),
        overlap=not_listed("README of Git-HB-CHEN/MOFO @c5076f0, its table of training sets"),
        domain="ultrasound, many organs",
        parameters=PARAMETERS if shape == SMALL else 0,
        notes=("MOFO's authors publish no feature: this is the mean of their encoder's last map",),
    )


MOFO = mofo()
