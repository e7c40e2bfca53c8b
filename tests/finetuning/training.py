"""Small encoders and pictures that the tests of training share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from embedcache.contract import Contract, Preprocessing
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.network import seeded
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.spec import EncoderSpec
from embedcache.finetuning.recipe import NO_AUGMENT, Recipe
from embedcache.finetuning.task import Pictures, Task

if TYPE_CHECKING:
    from torch import Tensor, nn

SIDE = 32
CLASSES = ("brain", "femur", "thorax")
#: A grey picture's contract: one plane, three channels.
SHAPE = Preprocessing(height=SIDE, width=SIDE, mean=(0.5,) * 3, std=(0.25,) * 3)

#: A transformer, a network with batch norms, and one of a single convolution.
TRANSFORMER: dict[str, Any] = {
    "architecture": "vit_tiny_patch16_224",
    "img_size": SIDE,
    "patch_size": 8,
    "embed_dim": 24,
    "depth": 3,
    "num_heads": 2,
    "proj_drop_rate": 0.1,
}
RESNET: dict[str, Any] = {
    "architecture": "resnet18",
    "layers": (1, 1, 1, 1),
    "channels": (16, 16, 32, 64),
    "stem_width": 16,
}


def build(state: dict[str, Tensor], *, architecture: str, **shape: Any) -> nn.Module:
    model = create(architecture, **shape)
    model.load_state_dict(state)
    return model


def untrained(seed: int, *, architecture: str, **shape: Any) -> dict[str, Tensor]:
    with seeded(seed):
        return dict(create(architecture, **shape).state_dict())


def encoder(dim: int, preprocessing: Preprocessing = SHAPE, **shape: Any) -> ResolvedEncoder:
    """A small network of timm's, untrained."""
    spec = EncoderSpec(
        name="small",
        dim=dim,
        architecture=f"small:{shape['architecture']}",
        preprocessing=preprocessing,
        pooling="timm's",
        build=partial(build, **shape),
        untrained=partial(untrained, **shape),
    )
    return resolved(spec)


def resolved(spec: EncoderSpec) -> ResolvedEncoder:
    """A specification with random weights, as `resolve` would give it."""
    contract = Contract(
        architecture=spec.architecture,
        code=spec.code,
        weights="random:0",
        preprocessing=spec.preprocessing,
        pooling=spec.pooling,
        dim=spec.dim,
    )
    return ResolvedEncoder(
        name=spec.name, contract=contract, spec=spec, file=None, licence="", citation=""
    )


def convolution() -> ResolvedEncoder:
    """One layer, for tests that run it often."""

    def make(state: dict[str, Tensor]) -> nn.Module:
        network = _convolution()
        network.load_state_dict(state)
        return network

    def drawn(seed: int) -> dict[str, Tensor]:
        with seeded(seed):
            return dict(_convolution().state_dict())

    spec = EncoderSpec(
        name="small",
        dim=12,
        architecture="small:convolution",
        preprocessing=SHAPE,
        pooling="average",
        build=make,
        untrained=drawn,
    )
    return resolved(spec)


def _convolution() -> nn.Module:
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(3, 12, 8, stride=6), nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )


def transformer() -> ResolvedEncoder:
    return encoder(TRANSFORMER["embed_dim"], **TRANSFORMER)


def resnet() -> ResolvedEncoder:
    return encoder(RESNET["channels"][-1], **RESNET)


MADE: dict[str, Callable[[], ResolvedEncoder]] = {
    "transformer": transformer,
    "resnet": resnet,
    "convolution": convolution,
}


def pictures(count: int, side: int = SIDE, planes: int = 1, seed: int = 0) -> Pictures:
    """Speckles with a bright band where their class says; classes take turns."""
    rng = np.random.default_rng(seed)
    label = np.arange(count) % len(CLASSES)
    pixels = rng.integers(0, 120, (count, planes, side, side), np.uint8)
    band = side // len(CLASSES)
    for one, own in zip(pixels, label, strict=True):
        one[:, own * band : (own + 1) * band] += 100
    return Pictures(
        planes=pixels,
        row=np.arange(count),
        label=label.astype(np.int64),
        digest=rng.integers(0, 256, (count, 32), np.uint8),
    )


#: Reached in a second: six steps of eight pictures, three times over.
SHORT = Recipe(epochs=3, batch=8, patience=0)
#: Learns by heart.
BY_HEART = Recipe(
    epochs=16, batch=16, patience=0, augment=NO_AUGMENT, layer_decay=1.0, batch_norm="frozen"
)


def task(folder: Path, made: str = "transformer", **changes: Any) -> Task:
    """A training of some seconds, of which any setting may be another."""
    recipe = dataclasses.replace(
        SHORT, **{name: changes.pop(name) for name in list(changes) if name in RECIPE}
    )
    settings: dict[str, Any] = {
        "encoder": MADE[made](),
        "tune": "full",
        "recipe": recipe,
        "rate": 1e-3,
        "classes": CLASSES,
        "training": pictures(24),
        "validation": pictures(9, seed=1),
        "folder": folder,
        **changes,
    }
    return Task(**settings)


RECIPE = {field.name for field in dataclasses.fields(Recipe)}
