"""EfficientNet-V2, sizes S, M and L of Google's, and timm's own S.

`efficientnet-v2-s` is what timm gives for the bare name of Google's S: trained on ImageNet-21k,
then tuned on ImageNet-1k. `-in1k` was trained on ImageNet-1k alone; `-m` and `-l` as the first.
`-rw-s` is timm's S, built from the paper's figure before Google's code came out: another network
(1792 numbers, symmetric padding). The benchmark's paper does not say which it ran.

Preprocessing is that of the published evaluation. Google's weights want (x - 0.5) / 0.5, not
ImageNet's mean and std, and TensorFlow's padding; S is trained at 300 and evaluated at 384, the
shorter side resized and the centre kept, bicubic; M and L at 480, squashed. `@squash` keeps the
borders that S's crop loses; `@300` (`@288` for `-rw-s`) is the size of training, three fifths of
the pixels.

The feature is the mean of the map after the last 1x1 convolution, before the classifier.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.contract import Preprocessing
from embedcache.encoders.families.imagenet import centre
from embedcache.encoders.families.seen import not_listed
from embedcache.encoders.families.timm_file import hub_file, load_named, untrained
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.spec import EncoderSpec, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

HALF = (0.5, 0.5, 0.5)

TAN = "Tan and Le, EfficientNetV2, ICML 2021, arXiv:2104.00298"
WIGHTMAN = "Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861"

BOTH = ("ImageNet-21k", "ImageNet-1k")


def build(state: dict[str, Tensor], *, architecture: str, **shape: Any) -> nn.Module:
    """Make the network from a checkpoint with its classifier, strictly.

    Args:
        state: tensors in timm's names.
        architecture: timm's name of the size.
        shape: of a smaller network of the same layout, in timm's words.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    return load_named(create(architecture, **shape), state, unused=("classifier.",))


def _variants(how: Preprocessing, trained: int) -> dict[str, Variant]:
    """The other fit where the default crops, and the size of training."""
    smaller = Variant(
        about=f"at {trained}, the size of training",
        preprocessing=replace(how, height=trained, width=trained),
    )
    if how.fit == "squash":
        return {str(trained): smaller}
    whole = replace(how, fit="squash")
    return {
        "squash": Variant(about="the whole picture, not its centre", preprocessing=whole),
        str(trained): smaller,
    }


def _spec(
    name: str,
    model: str,
    how: Preprocessing,
    *,
    trained: int,
    parameters: int,
    dim: int = 1280,
    pretraining: tuple[str, ...] = BOTH,
    citation: str = TAN,
) -> EncoderSpec:
    architecture = model.partition(".")[0]
    return EncoderSpec(
        name=name,
        dim=dim,
        architecture=f"timm:{architecture}",
        preprocessing=how,
        pooling="average",
        build=partial(build, architecture=architecture),
        sources=(hub_file(model),),
        untrained=partial(untrained, architecture=architecture, num_classes=1000),
        variants=_variants(how, trained),
        licence="Apache-2.0",
        citation=citation,
        pretraining=pretraining,
        overlap=not_listed(
            f"trained on {' and '.join(pretraining)} alone, as the tag of its weights says"
        ),
        domain="everyday photographs",
        parameters=parameters,
    )


SMALL = replace(centre(384, 1.0), mean=HALF, std=HALF)
LARGE = replace(SMALL, height=480, width=480, fit="squash")

S = _spec(
    "efficientnet-v2-s",
    "tf_efficientnetv2_s.in21k_ft_in1k",
    SMALL,
    trained=300,
    parameters=20_177_488,
)
S_IN1K = _spec(
    "efficientnet-v2-s-in1k",
    "tf_efficientnetv2_s.in1k",
    SMALL,
    trained=300,
    parameters=20_177_488,
    pretraining=("ImageNet-1k",),
)
RW_S = _spec(
    "efficientnet-v2-rw-s",
    "efficientnetv2_rw_s.ra2_in1k",
    centre(384, 1.0),
    trained=288,
    parameters=22_148_296,
    dim=1792,
    pretraining=("ImageNet-1k",),
    citation=f"{TAN}; {WIGHTMAN}",
)
M = _spec(
    "efficientnet-v2-m",
    "tf_efficientnetv2_m.in21k_ft_in1k",
    LARGE,
    trained=384,
    parameters=52_858_356,
)
L = _spec(
    "efficientnet-v2-l",
    "tf_efficientnetv2_l.in21k_ft_in1k",
    LARGE,
    trained=384,
    parameters=117_234_272,
)
