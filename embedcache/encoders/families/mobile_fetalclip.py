"""MobileFetalCLIP: FetalCLIP distilled into a FastViT of 11.4 million parameters.

Saeed, Maani and Yaqub, 2026 (numanai/MobileFetalCLIP @b2b837d). The checkpoint is a trainer's
(`epoch`, `state_dict`, `optimizer`, …) and holds Apple's MCi0 under `visual.trunk.`, in the names
of Apple's ml-mobileclip; timm's `fastvit_mci0` is the same network under other names and knows how
to translate them. The authors instead replace timm's class of that name in the whole process.

Feature. The embedding of 512 numbers, which the authors' zero-shot uses; which layer their linear
probe reads is not published, so `@pre-head` offers the 1,024 pooled numbers before it.

Preprocessing. A centred black square, then 256 by PIL's bicubic filter, ImageNet's mean and std
(evaluation/zero_shot.py and models/factory.py). open_clip's own tag of this network,
MobileCLIP2-S0, says mean 0, std 1 and bilinear: not these weights.

Its text half is not offered (docs/decisions/0079). Of its 74,855,553 parameters, all that the image
half does not hold is a transformer of width 512, 12 layers and 117 tokens, to the last parameter.
But heads and attention mask stand in a configuration file of the authors that we could not read,
and neither shows in the weights; MobileCLIP2-S0 has 8 heads and no mask. A wrong guess would give
probabilities all the same.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from embedcache.contract import Preprocessing
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families.clip import LOGIT_SCALE, identity, linear, part
from embedcache.encoders.network import seeded
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.encoders.text import NoText
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.encoders.weights import HubFile
from embedcache.provenance import Overlap

if TYPE_CHECKING:
    from torch import Tensor, nn

TRUNK = "visual.trunk."
DIM = 512

PAD_SQUARE_256 = Preprocessing(
    height=256,
    width=256,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    fit="pad-square",
    resample="bicubic",
)

#: Apple numbers stages, the steps between them and the position encoding through; timm does not.
_PLACES = {
    "stages.0.blocks": "network.0",
    "stages.1.downsample.proj": "network.1.proj",
    "stages.1.blocks": "network.2",
    "stages.2.downsample.proj": "network.3.proj",
    "stages.2.blocks": "network.4",
    "stages.3.downsample.proj": "network.5.proj",
    "stages.3.pos_emb.pos_enc": "network.6.pe",
    "stages.3.blocks": "network.7",
}
#: Apple's words for timm's.
_WORDS = {
    "stem.": "patch_embed.",
    "final_conv.": "conv_exp.",
    "conv_kxk.": "rbr_conv.",
    "conv_scale.": "rbr_scale.",
    "identity.": "rbr_skip.",
    "large_conv.": "lkb_origin.",
    "mlp.": "convffn.",
    "se.fc1.": "se.reduce.",
    "se.fc2.": "se.expand.",
    "head.fc.": "head.",
    ".gamma": "",
}


def build(state: dict[str, Tensor]) -> nn.Module:
    """Make the image half without its last layer, strictly.

    Returns:
        A network whose forward gives the pooled map, (b, 1024).

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    model = _create()
    trunk = _translated(part(state, TRUNK), model)
    others = {key: tensor for key, tensor in state.items() if not key.startswith(TRUNK)}
    load_strict(model, {**others, **trunk}, unused=("text.", LOGIT_SCALE))
    model.reset_classifier(0)
    image: nn.Module = model
    return image


def embed(state: dict[str, Tensor]) -> nn.Module:
    """The last layer, (b, 1024) -> (b, 512)."""
    return linear(state[f"{TRUNK}head.weight"], state[f"{TRUNK}head.bias"])


def untrained(seed: int) -> dict[str, Tensor]:
    """The image half as timm initialises it, from a seed alone, in the checkpoint's names."""
    with seeded(seed):
        state = _create().state_dict()
    return {TRUNK + apple_name(key): tensor for key, tensor in state.items()}


def apple_name(key: str) -> str:
    """Translate the name of one tensor of timm's `fastvit_mci0` into Apple's."""
    place = re.match(r"stages\.\d+\.(?:blocks|downsample\.proj|pos_emb\.pos_enc)", key)
    if place:
        key = _PLACES[place[0]] + key.removeprefix(place[0])
    for timm_word, word in _WORDS.items():
        key = key.replace(timm_word, word)
    return key


def _translated(trunk: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    from timm.models.fastvit import checkpoint_filter_fn

    return dict(checkpoint_filter_fn(trunk, model))  # type: ignore[no-untyped-call]  # timm is untyped here


def _create() -> Any:
    repair_torchvision()
    import timm

    return timm.create_model("fastvit_mci0", pretrained=False, num_classes=DIM, global_pool="avg")


SPEC = EncoderSpec(
    name="mobile-fetalclip",
    dim=DIM,
    architecture="timm:fastvit_mci0",
    preprocessing=PAD_SQUARE_256,
    pooling="average-projected",
    build=build,
    pool=embed,
    text=NoText("the authors' file of its attention mask and heads could not be read"),
    sources=(
        HubFile(
            repository="numansaeed/MobileFetalCLIP",
            names=("mobile_fetal_clip_weights.pt",),
            size=899_205_165,
            sha256="50ab0669d2f5de80e8d75ef2f3bda054410e3af7db85ac2fa7f045550daf46f1",
        ),
    ),
    untrained=untrained,
    variants={
        "pre-head": Variant(
            about="the pooled map before the last layer",
            pool=identity,
            pooling="average",
            dim=1024,
        )
    },
    licence="CC-BY-NC-4.0",
    citation="Saeed, Maani and Yaqub, MobileFetalCLIP, 2026, arXiv:2603.05421",
    pretraining=(
        "246,349 fetal ultrasound images with captions, unnamed; distilled from FetalCLIP",
    ),
    overlap=(
        Overlap(
            cohort="fetal-planes-db",
            answer="selection",
            source="numanai/MobileFetalCLIP @b2b837d: the trainer keeps the checkpoint that does "
            "best on FETAL_PLANES_DB and HC18; its training images are not named",
            checked="2026-11-24",
        ),
        Overlap(
            cohort="african-planes",
            answer="unknown",
            source="numanai/MobileFetalCLIP @b2b837d: its training images are not named",
            checked="2026-11-24",
        ),
    ),
    domain="fetal ultrasound",
    parameters=11_406_976,
)
