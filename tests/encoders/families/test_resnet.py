"""ResNet-50 against its paper's maths, with each recipe's own preprocessing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plain_transformer as plain
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor  # noqa: TID253  # nothing here runs without it
from torch.nn import functional  # noqa: TID253  # nothing here runs without it

from embedcache import registry
from embedcache.encoders.resolve import load_encoder
from embedcache.errors import WeightsMismatchError

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC

LAYERS, CHANNELS = (1, 2, 1, 1), (8, 16, 24, 32)
FULL = ((3, 4, 6, 3), (64, 128, 256, 512))


def shapes_of(
    layers: tuple[int, ...], channels: tuple[int, ...], classes: int = 10
) -> dict[str, tuple[int, ...]]:
    """The tensors of timm's model.safetensors and of torchvision's files."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)} | normed("bn1", 64)
    before = 64
    for stage, (blocks, inner) in enumerate(zip(layers, channels, strict=True), start=1):
        for number in range(blocks):
            name = f"layer{stage}.{number}"
            shapes[f"{name}.conv1.weight"] = (inner, before, 1, 1)
            shapes[f"{name}.conv2.weight"] = (inner, inner, 3, 3)
            shapes[f"{name}.conv3.weight"] = (4 * inner, inner, 1, 1)
            for norm, width in (("bn1", inner), ("bn2", inner), ("bn3", 4 * inner)):
                shapes |= normed(f"{name}.{norm}", width)
            if number == 0:
                shapes[f"{name}.downsample.0.weight"] = (4 * inner, before, 1, 1)
                shapes |= normed(f"{name}.downsample.1", 4 * inner)
            before = 4 * inner
    return shapes | {"fc.weight": (classes, before), "fc.bias": (classes,)}


def normed(name: str, width: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> plain.State:
    rng = np.random.default_rng(seed)
    state = {}
    for name, shape in shapes.items():
        noise = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        elif name.endswith("running_var"):
            # Small, so that the number added to it shows.
            state[name] = 0.02 + 0.03 * noise.abs()
        elif len(shape) > 1:
            state[name] = 0.3 * noise / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("weight"):
            state[name] = 1 + 0.3 * noise
        else:
            state[name] = 0.1 * noise
    return state


def checkpoint() -> plain.State:
    return drawn(shapes_of(LAYERS, CHANNELS), seed=7)


def standard(x: Tensor, state: plain.State, name: str, eps: float) -> Tensor:
    """Batch norm with the statistics of training."""
    mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    scale = state[f"{name}.weight"] / (variance + eps).sqrt()
    return x * scale[:, None, None] + (state[f"{name}.bias"] - mean * scale)[:, None, None]


def reference(
    state: plain.State,
    picture: Image.Image,
    *,
    side: int = 224,
    resized: int | None = 235,
    resample: int = BICUBIC,
    statistics: tuple[tuple[float, ...], ...] = plain.IMAGENET,
    eps: float = 1e-5,
    early_stride: bool = False,
) -> np.ndarray:
    """The mean of the last map; the whole picture is squashed where `resized` is None."""
    state = plain.double(state)
    fitted = (
        picture.resize((side, side), resample)
        if resized is None
        else plain.centre(picture, resized, side, resample)
    )
    x = plain.values(fitted, *statistics)[None]
    x = functional.conv2d(x, state["conv1.weight"], stride=2, padding=3)
    x = functional.max_pool2d(standard(x, state, "bn1", eps).relu(), 3, stride=2, padding=1)
    for name in [key.removesuffix(".conv1.weight") for key in state if ".conv1." in key]:
        stride = 2 if name.endswith(".0") and not name.startswith("layer1.") else 1
        strides = (stride, 1) if early_stride else (1, stride)
        inner = functional.conv2d(x, state[f"{name}.conv1.weight"], stride=strides[0])
        inner = standard(inner, state, f"{name}.bn1", eps).relu()
        inner = functional.conv2d(
            inner, state[f"{name}.conv2.weight"], stride=strides[1], padding=1
        )
        inner = standard(inner, state, f"{name}.bn2", eps).relu()
        inner = functional.conv2d(inner, state[f"{name}.conv3.weight"])
        inner = standard(inner, state, f"{name}.bn3", eps)
        if f"{name}.downsample.0.weight" in state:
            x = functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride)
            x = standard(x, state, f"{name}.downsample.1", eps)
        x = (x + inner).relu()
    return x.mean((2, 3))[0].numpy()


def feature(name: str, state: plain.State, folder: Path, picture: Image.Image) -> np.ndarray:
    save_file(state, folder / "model.safetensors")
    encoder = load_encoder(f"{name}={folder / 'model.safetensors'}")
    return encoder.encode(encoder.prepare(picture)[None])[0]


def smaller(narrow: Callable[..., str], spec: str) -> str:
    return narrow("resnet", spec, 128, layers=LAYERS, channels=CHANNELS)


RECIPES: list[tuple[str, str, dict[str, Any]]] = [
    ("RESNET50", "", {}),
    ("RESNET50", "@squash", {"resized": None}),
    ("RESNET50", "@288", {"side": 288, "resized": 288}),
    ("TV", "", {"resized": 256, "resample": BILINEAR}),
    ("TV", "@squash", {"resized": None, "resample": BILINEAR}),
    ("TV2", "", {"resized": 232, "resample": BILINEAR}),
    ("TV2", "@squash", {"resized": None, "resample": BILINEAR}),
]


@pytest.mark.parametrize(
    ("spec", "variant", "changes"), RECIPES, ids=[spec + variant for spec, variant, _ in RECIPES]
)
def test_the_feature_is_the_recipe_s(
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    spec: str,
    variant: str,
    changes: dict[str, Any],
) -> None:
    state = checkpoint()
    found = feature(smaller(narrow, spec) + variant, state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, **changes)) < 1e-4


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("bilinear for bicubic", {"resample": BILINEAR}),
    ("torchvision's crop", {"resized": 256}),
    ("no crop", {"resized": None}),
    ("mean and std of a half", {"statistics": ((0.5,) * 3, (0.5,) * 3)}),
    ("TensorFlow's eps", {"eps": 1e-3}),
    ("the paper's first stride", {"early_stride": True}),
]


@pytest.mark.parametrize(("mistake", "changes"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_comparison_notices(
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    mistake: str,
    changes: dict[str, Any],
) -> None:
    state = checkpoint()
    found = feature(smaller(narrow, "RESNET50"), state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, **changes)) > 1e-4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("layer2.0.bn1.weight", "layer2.0.bn2.weight"),
        ("layer2.1.bn1.running_mean", "layer2.1.bn1.bias"),
        ("layer3.0.bn3.weight", "layer3.0.downsample.1.weight"),
    ],
)
def test_the_comparison_notices_two_tensors_that_change_places(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image, first: str, second: str
) -> None:
    state = checkpoint()
    # A copy: safetensors refuses two names for one memory.
    moved = {key: value.clone() for key, value in plain.swapped(state, first, second).items()}
    found = feature(smaller(narrow, "RESNET50"), moved, tmp_path, picture)
    assert plain.apart(found, reference(state, picture)) > 1e-4


def test_torchvision_s_old_file_without_counters_loads(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    state = checkpoint()
    old = {key: value for key, value in state.items() if "num_batches" not in key}
    torch.save(old, tmp_path / "resnet50-0676ba61.pth")
    encoder = load_encoder(f"{smaller(narrow, 'TV')}={tmp_path / 'resnet50-0676ba61.pth'}")
    found = encoder.encode(encoder.prepare(picture)[None])[0]
    expected = reference(state, picture, resized=256, resample=BILINEAR)
    assert plain.apart(found, expected) < 1e-4


@pytest.mark.parametrize("lost", ["conv1.weight", "layer4.0.bn3.running_var", "layer2.1.bn2.bias"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image, lost: str
) -> None:
    state = checkpoint()
    del state[lost]
    with pytest.raises(WeightsMismatchError, match=lost):
        feature(smaller(narrow, "RESNET50"), state, tmp_path, picture)


def test_a_deeper_network_s_file_is_refused_by_name(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    state = drawn(shapes_of((1, 3, 1, 1), CHANNELS), seed=7)
    with pytest.raises(WeightsMismatchError, match=r"layer2\.2.*a ResNet"):
        feature(smaller(narrow, "RESNET50"), state, tmp_path, picture)


@pytest.mark.parametrize("encoder", ["resnet50", "resnet50-tv", "resnet50-tv2"])
def test_parameters_are_those_before_the_classifier(encoder: str) -> None:
    left_out = ("running_mean", "running_var", "num_batches_tracked")
    kept = [
        shape
        for name, shape in shapes_of(*FULL).items()
        if not name.endswith(left_out) and not name.startswith("fc.")
    ]
    assert registry.load("encoders", encoder).parameters == sum(math.prod(one) for one in kept)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoder", "changes"),
    [
        ("resnet50", {}),
        ("resnet50-tv", {"resized": 256, "resample": BILINEAR}),
        ("resnet50-tv2", {"resized": 232, "resample": BILINEAR}),
    ],
)
def test_at_full_size_the_feature_is_the_recipe_s(
    tmp_path: Path, picture: Image.Image, encoder: str, changes: dict[str, Any]
) -> None:
    state = drawn(shapes_of(*FULL, classes=1000), seed=7)
    found = feature(encoder, state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, **changes)) < 1e-4
