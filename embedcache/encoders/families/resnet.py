"""ResNet-50, trained on ImageNet-1k, in three recipes that differ by more than their name says.

`resnet50` is timm's `a1_in1k` (Wightman, Touvron and Jégou, ResNet strikes back, 2021), which
timm gives for the bare name; `resnet50-tv` and `resnet50-tv2` are torchvision's first weights
(`resnet50-0676ba61`, the baseline of UltraSAM's authors) and its second. The benchmark's paper
does not say which it ran.

Preprocessing is that of each recipe's published evaluation at 224: resize the shorter side to 235
(a1, bicubic), 256 (tv, bilinear) or 232 (tv2, bilinear) and crop the centre. The crop cuts the
borders of an ultrasound fan: `@squash` keeps the whole picture. timm also reports a1 at 288
without a margin: `@288`. torchvision trained tv2 at 176 and evaluates it at 224, and so do we.

The feature is the mean of the last map, 2048 numbers. torchvision's own files load as well: their
names are timm's.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.contract import Preprocessing
from embedcache.encoders.families.imagenet import centre, squash
from embedcache.encoders.families.seen import not_listed
from embedcache.encoders.families.timm_file import hub_file, load_named, untrained
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.spec import EncoderSpec, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

ARCHITECTURE = "resnet50"

SQUASHED = "the whole picture at 224, not its centre"


def build(state: dict[str, Tensor], **shape: Any) -> nn.Module:
    """Make the network from a checkpoint with its classifier, strictly.

    Args:
        state: tensors in timm's and torchvision's names.
        shape: of a smaller network of the same layout, in timm's words.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    return load_named(create(ARCHITECTURE, **shape), state, unused=("fc.",))


def _spec(
    name: str,
    tag: str,
    preprocessing: Preprocessing,
    licence: str,
    citation: str,
    variants: dict[str, Variant],
) -> EncoderSpec:
    return EncoderSpec(
        name=name,
        dim=2048,
        architecture=f"timm:{ARCHITECTURE}",
        preprocessing=preprocessing,
        pooling="average",
        build=build,
        sources=(hub_file(f"{ARCHITECTURE}.{tag}"),),
        untrained=partial(untrained, architecture=ARCHITECTURE, num_classes=1000),
        variants=variants,
        licence=licence,
        citation=f"He et al., Deep residual learning, CVPR 2016, arXiv:1512.03385; {citation}",
        pretraining=("ImageNet-1k",),
        overlap=not_listed("trained on ImageNet-1k alone, as the tag of its weights says"),
        domain="everyday photographs",
        parameters=23_508_032,
    )


RESNET50 = _spec(
    "resnet50",
    "a1_in1k",
    centre(224, 0.95, "bicubic"),
    "Apache-2.0",
    "Wightman, Touvron and Jégou, ResNet strikes back, 2021, arXiv:2110.00476",
    {
        "squash": Variant(about=SQUASHED, preprocessing=squash(224, "bicubic")),
        "288": Variant(
            about="at 288 without a margin, timm's test setting",
            preprocessing=centre(288, 1.0, "bicubic"),
        ),
    },
)
TV = _spec(
    "resnet50-tv",
    "tv_in1k",
    centre(224, 0.875, "bilinear"),
    "BSD-3-Clause",
    "torchvision, IMAGENET1K_V1",
    {"squash": Variant(about=SQUASHED, preprocessing=squash(224, "bilinear"))},
)
TV2 = _spec(
    "resnet50-tv2",
    "tv2_in1k",
    centre(224, 0.965, "bilinear"),
    "BSD-3-Clause",
    "torchvision, IMAGENET1K_V2",
    {"squash": Variant(about=SQUASHED, preprocessing=squash(224, "bilinear"))},
)
