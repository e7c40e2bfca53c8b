"""UltraSAM: SAM's ViT-B image encoder, trained on to segment ultrasound of many organs.

Meyer et al., UltraSam: a foundation model for ultrasound using large open-access segmentation
datasets (CAMMA-public/UltraSam @458ec79). The file is mmengine's: tensors under `state_dict`, those
of the encoder under `backbone.` in mmpretrain's names; the prompt encoder, decoder and mask head
are left out on purpose.

Pooling. The authors' own classifier (configs/_base_/models/sam_classification.py) averages the
tokens of the last block, 768 numbers, before the neck and without a norm: the default. `@neck`
averages the 256 channels behind the neck, which is what their segmenter reads. timm's forward pass
gives the latter, and would pass for the feature. The two share a forward pass.

Preprocessing. The longer side becomes 1024 by mmdet's `FixScaleResize` (OpenCV, bilinear, no
antialiasing; both sides rounded down, see `preprocessing`), zeros fill the frame at the right and
bottom, ImageNet's mean and std are taken off. Where zeros enter, the authors disagree with
themselves: their classifier pads before it normalises (sam_dataset_classification.py), so that the
frame ends as -mean/std; their segmenter, with which the encoder was trained, and SAM pad after, so
that it is 0. The classifier's way is the default, because the feature is the classifier's too;
`@pad-after` is the other. mmcv also turns a JPEG by its EXIF orientation, which decoding here does
not.

`@512` and `@256` run at a smaller size, 10 and 38 times as fast on a CPU. Positions are resized as
mmpretrain does: those of the map bicubically, without antialiasing (timm's own resize has it), and
the relative ones of the four blocks that see the whole map linearly. Both were compared with
mmpretrain 1.2.0 on random weights: 3.6e-5 of a scale of 7.6 at most.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.contract import Preprocessing
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families.imagenet import MEAN, STD
from embedcache.encoders.families.seen import not_listed
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.families.untrained import Layout, draw
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.encoders.weights import HttpsFile

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Pixels a side that the weights were trained at, and of a token.
SIDE, PATCH = 1024, 16
#: Before every name of the encoder.
PREFIX = "backbone."
#: What else the file holds, and no feature depends on.
UNUSED = ("decoder.", "bbox_head.", "prompt_encoder.")

#: mmpretrain's names in timm's, one after another.
_RENAMES = (
    (r"^layers\.", "blocks."),
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"\.ln([12])\.", r".norm\1."),
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
    (r"^channel_reduction\.", "neck."),
)

LONG_1024 = Preprocessing(
    height=SIDE, width=SIDE, mean=MEAN, std=STD, fit="long-side", resample="cv2-bilinear"
)


def build(state: dict[str, Tensor], side: int = SIDE, **shape: Any) -> nn.Module:
    """Make the encoder from the whole network's checkpoint, strictly; it gives its last tokens.

    Args:
        state: tensors in mmpretrain's names, under `backbone.`.
        side: pixels of the square that it will see.
        shape: of a smaller network of the same layout, in timm's words.

    Returns:
        (b, 3, side, side) -> (b, width, side / 16, side / 16).

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    import torch

    class Tokens(torch.nn.Module):
        def __init__(self, trunk: Any) -> None:
            super().__init__()
            self.trunk = trunk

        def forward(self, pixels: Tensor) -> Tensor:
            last: Tensor = self.trunk.forward_intermediates(
                pixels, indices=1, norm=False, intermediates_only=True
            )[0]
            return last

    trunk: Any = create("samvit_base_patch16", img_size=side, **shape)
    # Loaded under its prefix, so that a SAM in timm's names does not pass for this.
    around = torch.nn.ModuleDict({PREFIX.removesuffix("."): trunk})
    wanted = {name: tensor.shape for name, tensor in around.state_dict().items()}
    load_strict(around, _resized(_renamed(state), wanted), unused=UNUSED)
    # Checked above like the rest; whoever pools behind it has one of his own.
    trunk.neck = torch.nn.Identity()
    return Tokens(trunk)


def average(state: dict[str, Tensor]) -> nn.Module:  # noqa: ARG001  # the interface's argument
    """The mean of all tokens, those of the frame's padding among them, as the authors' is."""
    import torch

    return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())


def neck_average(state: dict[str, Tensor]) -> nn.Module:
    """The mean of the map behind the neck: (b, width, h, w) -> (b, neck)."""
    import torch

    start = f"{PREFIX}neck."
    own = {
        name.removeprefix(start): tensor
        for name, tensor in _renamed(state).items()
        if name.startswith(start)
    }
    neck, width = own["0.weight"].shape[:2]
    model: Any = create("samvit_base_patch16", embed_dim=width, depth=0, neck_chans=neck)
    return torch.nn.Sequential(load_strict(model.neck, own), average(state))


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors in timm's names; what is not under `backbone.` keeps its own."""
    renamed = {}
    for key, tensor in state.items():
        name = key.removeprefix(PREFIX)
        if name == key:
            renamed[key] = tensor
            continue
        for pattern, to in _RENAMES:
            name = re.sub(pattern, to, name)
        renamed[PREFIX + name] = tensor
    return renamed


def _resized(state: dict[str, Tensor], wanted: dict[str, Any]) -> dict[str, Tensor]:
    """Resize positions to another size of the map; at the trained one nothing changes."""
    from torch.nn import functional

    resized = dict(state)
    for name, tensor in state.items():
        to = wanted.get(name)
        if to is None or tensor.shape == to:
            continue
        if name == f"{PREFIX}pos_embed" and tensor.ndim == 4:
            map_ = tensor.permute(0, 3, 1, 2)
            map_ = functional.interpolate(map_, to[1:3], mode="bicubic", align_corners=False)
            resized[name] = map_.permute(0, 2, 3, 1)
        elif re.search(r"\.attn\.rel_pos_[hw]$", name) and tensor.ndim == 2:
            line = functional.interpolate(tensor.T[None], to[0], mode="linear")
            resized[name] = line[0].T
    return resized


def layout(
    width: int = 768,
    depth: int = 12,
    heads: int = 12,
    neck: int = 256,
    window: int = 14,
    whole: tuple[int, ...] = (2, 5, 8, 11),
) -> Layout:
    """Names and shapes of the encoder in UltraSam.pth; `whole` are blocks that see all tokens."""
    grid, size = SIDE // PATCH, width // heads
    names: dict[str, tuple[int, ...]] = {
        "pos_embed": (1, grid, grid, width),
        "patch_embed.projection.weight": (width, 3, PATCH, PATCH),
        "patch_embed.projection.bias": (width,),
    }
    for block in range(depth):
        reach = 2 * (grid if block in whole else window) - 1
        inside = {
            "ln1.weight": (width,),
            "ln1.bias": (width,),
            "attn.rel_pos_h": (reach, size),
            "attn.rel_pos_w": (reach, size),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "ln2.weight": (width,),
            "ln2.bias": (width,),
            "ffn.layers.0.0.weight": (4 * width, width),
            "ffn.layers.0.0.bias": (4 * width,),
            "ffn.layers.1.weight": (width, 4 * width),
            "ffn.layers.1.bias": (width,),
        }
        names |= {f"layers.{block}.{name}": shape for name, shape in inside.items()}
    names |= {
        "channel_reduction.0.weight": (neck, width, 1, 1),
        "channel_reduction.1.weight": (neck,),
        "channel_reduction.1.bias": (neck,),
        "channel_reduction.2.weight": (neck, neck, 3, 3),
        "channel_reduction.3.weight": (neck,),
        "channel_reduction.3.bias": (neck,),
    }
    return {PREFIX + name: shape for name, shape in names.items()}


def untrained(seed: int, **size: Any) -> dict[str, Tensor]:
    """The encoder's part of the published file, from a seed alone; `size` as in `layout`."""
    return draw(layout(**size), seed)


def padded_after(how: Preprocessing) -> Preprocessing:
    """Zeros enter the frame once the picture is normalised."""
    return replace(how, pad="after")


def sized(how: Preprocessing, side: int) -> Preprocessing:
    """A frame of another size."""
    return replace(how, height=side, width=side)


def _at(side: int) -> Variant:
    return Variant(
        about=f"at {side} pixels, positions resized as mmpretrain does",
        preprocessing=partial(sized, side=side),
        build=partial(build, side=side),
    )


ULTRASAM = EncoderSpec(
    name="ultrasam",
    dim=768,
    architecture="timm:samvit_base_patch16 before its neck",
    preprocessing=LONG_1024,
    pooling="average",
    build=build,
    pool=average,
    sources=(
        HttpsFile(
            url="https://s3.unistra.fr/camma_public/github/ultrasam/UltraSam.pth",
            # Measured by a third party from that address; the authors publish none.
            sha256="d7c223dd03f56b0b77cd246aa3edfae651e99f0ee2dde2e8c50eda7b21fa8a0c",
        ),
    ),
    wrapper="state_dict",
    untrained=untrained,
    variants={
        "neck": Variant(
            about="mean of the map behind the neck, which the authors' segmenter reads",
            pooling="neck-then-average",
            dim=256,
            pool=neck_average,
        ),
        "pad-after": Variant(
            about="padded after normalising, as in the authors' training and in SAM",
            preprocessing=padded_after,
        ),
        "512": _at(512),
        "256": _at(256),
    },
    licence="CC-BY-NC-SA-4.0",
    citation="Meyer et al., UltraSam: a foundation model for ultrasound using large open-access "
    "segmentation datasets, 2024, arXiv:2411.16222",
    pretraining=(
        "43 public segmentation sets; of the fetus ACOUSLIC, FASS, Fast-U-Net, FH-PS-AOP and HC",
    ),
    overlap=not_listed("README of CAMMA-public/UltraSam @458ec79, its table of 43 sets"),
    domain="ultrasound, many organs",
    parameters=88_883_456,
    notes=(
        "the sha256 that its file must have was published by a third party, not by its authors",
    ),
)
