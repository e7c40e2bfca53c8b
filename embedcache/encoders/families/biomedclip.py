"""BiomedCLIP: ViT-B/16 and PubMedBERT, trained on figures of biomedical articles.

Zhang et al., NEJM AI 2025. The checkpoint is open_clip's: `visual.trunk.` holds timm's
`vit_base_patch16_224`, pooled by its CLS token, and `visual.head.proj.` the projection to the 512
numbers that captions lie beside. That projected vector is the feature, not normalised, as
open_clip's `encode_image` gives it; `@cls` takes the 768 numbers before it.

Preprocessing is open_clip's: the shorter side to 224 by PIL's bicubic filter, the centre cropped,
CLIP's mean and std.

Its text half is not offered: PubMedBERT comes from the package transformers, and the words that its
tokens stand for lie in files beside the weights, not in them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.contract import Preprocessing
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families.clip import (
    CLIP_MEAN,
    CLIP_STD,
    LOGIT_SCALE,
    identity,
    linear,
    part,
)
from embedcache.encoders.network import seeded
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.encoders.text import NoText
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.encoders.weights import HubFile
from embedcache.provenance import Overlap

if TYPE_CHECKING:
    from torch import Tensor, nn

TRUNK = "visual.trunk."
PROJECTION = "visual.head.proj.weight"

CROP_224 = Preprocessing(
    height=224, width=224, mean=CLIP_MEAN, std=CLIP_STD, fit="centre-crop", resample="bicubic"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrunkSize:
    """Sizes of the vision transformer, and of the space that captions lie in."""

    width: int
    layers: int
    heads: int
    dim: int


SIZE = TrunkSize(width=768, layers=12, heads=12, dim=512)


def build(size: TrunkSize, state: dict[str, Tensor]) -> nn.Module:
    """Make the image half without its projection, strictly.

    Returns:
        A network whose forward gives the normalised CLS token, (b, width).

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    others = {key: tensor for key, tensor in state.items() if not key.startswith(TRUNK)}
    trunk = {**others, **part(state, TRUNK)}
    model: nn.Module = load_strict(_create(size), trunk, unused=("text.", LOGIT_SCALE, PROJECTION))
    return model


def project(state: dict[str, Tensor]) -> nn.Module:
    """The projection, (b, width) -> (b, dim)."""
    return linear(state[PROJECTION])


def untrained(size: TrunkSize, seed: int) -> dict[str, Tensor]:
    """The image half as timm initialises it, from a seed alone, in the checkpoint's names."""
    import torch

    with seeded(seed):
        state = _create(size).state_dict()
        projection = torch.nn.Linear(size.width, size.dim, bias=False).weight.detach()
    return {**{TRUNK + key: tensor for key, tensor in state.items()}, PROJECTION: projection}


def _create(size: TrunkSize) -> Any:
    repair_torchvision()
    import timm

    return timm.create_model(
        "vit_base_patch16_224",
        pretrained=False,
        num_classes=0,
        global_pool="token",
        embed_dim=size.width,
        depth=size.layers,
        num_heads=size.heads,
    )


def specify(size: TrunkSize) -> EncoderSpec:
    """The encoder in a size; the authors published one, tests take a narrow one."""
    source = "figures of PubMed Central's articles (arXiv:2303.00915), which are not listed singly"
    return EncoderSpec(
        name="biomedclip",
        dim=size.dim,
        architecture="timm:vit_base_patch16_224",
        preprocessing=CROP_224,
        pooling="cls-layer-norm-projected",
        build=partial(build, size),
        pool=project,
        text=NoText("PubMedBERT's vocabulary is not in its weight file"),
        sources=(
            HubFile(
                repository="microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
                names=("open_clip_pytorch_model.bin",),
                sha256="52cc993c5c5ff962bd0c60931874bc001e7e9b41666a385530f4a036294576be",
            ),
        ),
        untrained=partial(untrained, size),
        variants={
            "cls": Variant(
                about="the CLS token before its projection",
                pool=identity,
                pooling="cls-layer-norm",
                dim=size.width,
            )
        },
        licence="MIT",
        citation="Zhang et al., BiomedCLIP, NEJM AI 2025, doi:10.1056/AIoa2400640",
        pretraining=("PMC-15M: figures of biomedical articles with their captions",),
        overlap=tuple(
            Overlap(cohort=cohort, answer="unknown", source=source, checked="2026-11-24")
            for cohort in ("fetal-planes-db", "african-planes")
        ),
        domain="biomedical figures",
        parameters=86_191_872,
    )


SPEC = specify(SIZE)
