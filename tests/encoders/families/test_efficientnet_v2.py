"""EfficientNet-V2 against its paper's maths, with TensorFlow's padding where it was trained so."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
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
HALF = ((0.5,) * 3, (0.5,) * 3)

#: Kind, blocks, stride, expansion and width of each stage, of a narrow S and of the whole family.
#: `plain` is one convolution, `fused` expands by a 3x3, `inverted` filters each channel apart.
Stages = tuple[tuple[str, int, int, int, int], ...]
NARROW: Stages = (
    ("plain", 1, 1, 1, 8),
    ("fused", 1, 2, 4, 16),
    ("fused", 1, 2, 4, 16),
    ("inverted", 2, 2, 4, 32),
    ("inverted", 2, 1, 6, 40),
    ("inverted", 3, 2, 6, 64),
)
NARROW_RW: Stages = (("fused", 1, 1, 1, 8), *NARROW[1:-1], ("inverted", 3, 2, 6, 72))
S: Stages = (
    ("plain", 2, 1, 1, 24),
    ("fused", 4, 2, 4, 48),
    ("fused", 4, 2, 4, 64),
    ("inverted", 6, 2, 4, 128),
    ("inverted", 9, 1, 6, 160),
    ("inverted", 15, 2, 6, 256),
)
RW_S: Stages = (("fused", 2, 1, 1, 24), *S[1:-1], ("inverted", 15, 2, 6, 272))
M: Stages = (
    ("plain", 3, 1, 1, 24),
    ("fused", 5, 2, 4, 48),
    ("fused", 5, 2, 4, 80),
    ("inverted", 7, 2, 4, 160),
    ("inverted", 14, 1, 6, 176),
    ("inverted", 18, 2, 6, 304),
    ("inverted", 5, 1, 6, 512),
)
L: Stages = (
    ("plain", 4, 1, 1, 32),
    ("fused", 7, 2, 4, 64),
    ("fused", 7, 2, 4, 96),
    ("inverted", 10, 2, 4, 192),
    ("inverted", 19, 1, 6, 224),
    ("inverted", 25, 2, 6, 384),
    ("inverted", 7, 1, 6, 640),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    encoder: str
    spec: str
    narrow: Stages
    full: Stages
    last: tuple[int, int]
    how: dict[str, Any]


TENSORFLOW = {"statistics": HALF, "eps": 1e-3, "same": True}
TORCH = {"statistics": plain.IMAGENET, "eps": 1e-5, "same": False}
CASES = [
    Case(
        encoder="efficientnet-v2-s",
        spec="S",
        narrow=NARROW,
        full=S,
        last=(320, 1280),
        how=TENSORFLOW,
    ),
    Case(
        encoder="efficientnet-v2-s-in1k",
        spec="S_IN1K",
        narrow=NARROW,
        full=S,
        last=(320, 1280),
        how=TENSORFLOW,
    ),
    Case(
        encoder="efficientnet-v2-rw-s",
        spec="RW_S",
        narrow=NARROW_RW,
        full=RW_S,
        last=(448, 1792),
        how=TORCH,
    ),
    Case(
        encoder="efficientnet-v2-m",
        spec="M",
        narrow=(
            ("plain", 1, 1, 1, 8),
            ("fused", 1, 2, 4, 16),
            ("fused", 1, 2, 4, 24),
            ("inverted", 2, 2, 4, 40),
            ("inverted", 3, 1, 6, 48),
            ("inverted", 4, 2, 6, 80),
            ("inverted", 1, 1, 6, 128),
        ),
        full=M,
        last=(1280, 1280),
        how=TENSORFLOW | {"side": 480, "squash": True},
    ),
    Case(
        encoder="efficientnet-v2-l",
        spec="L",
        narrow=(
            ("plain", 1, 1, 1, 8),
            ("fused", 2, 2, 4, 16),
            ("fused", 2, 2, 4, 24),
            ("inverted", 2, 2, 4, 48),
            ("inverted", 4, 1, 6, 56),
            ("inverted", 5, 2, 6, 96),
            ("inverted", 2, 1, 6, 160),
        ),
        full=L,
        last=(1280, 1280),
        how=TENSORFLOW | {"side": 480, "squash": True},
    ),
]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.encoder)


def normed(name: str, width: int) -> dict[str, tuple[int, ...]]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": (width,) for part in parts} | {f"{name}.num_batches_tracked": ()}


def shapes_of(stages: Stages, stem: int, last: int, classes: int) -> dict[str, tuple[int, ...]]:
    """The tensors of timm's model.safetensors."""
    shapes: dict[str, tuple[int, ...]] = {"conv_stem.weight": (stem, 3, 3, 3)} | normed("bn1", stem)
    before = stem
    for stage, (kind, blocks, _, expansion, width) in enumerate(stages):
        for number in range(blocks):
            name, inner = f"blocks.{stage}.{number}", expansion * before
            if kind == "plain":
                shapes[f"{name}.conv.weight"] = (width, before, 3, 3)
                shapes |= normed(f"{name}.bn1", width)
            elif kind == "fused":
                shapes[f"{name}.conv_exp.weight"] = (inner, before, 3, 3)
                shapes |= normed(f"{name}.bn1", inner)
                shapes[f"{name}.conv_pwl.weight"] = (width, inner, 1, 1)
                shapes |= normed(f"{name}.bn2", width)
            else:
                squeezed = round(before / 4)
                shapes[f"{name}.conv_pw.weight"] = (inner, before, 1, 1)
                shapes |= normed(f"{name}.bn1", inner)
                shapes[f"{name}.conv_dw.weight"] = (inner, 1, 3, 3)
                shapes |= normed(f"{name}.bn2", inner)
                shapes[f"{name}.se.conv_reduce.weight"] = (squeezed, inner, 1, 1)
                shapes[f"{name}.se.conv_reduce.bias"] = (squeezed,)
                shapes[f"{name}.se.conv_expand.weight"] = (inner, squeezed, 1, 1)
                shapes[f"{name}.se.conv_expand.bias"] = (inner,)
                shapes[f"{name}.conv_pwl.weight"] = (width, inner, 1, 1)
                shapes |= normed(f"{name}.bn3", width)
            before = width
    shapes |= {"conv_head.weight": (last, before, 1, 1)} | normed("bn2", last)
    return shapes | {"classifier.weight": (classes, last), "classifier.bias": (classes,)}


def drawn(shapes: dict[str, tuple[int, ...]], least: float = 0.2) -> plain.State:
    """Random tensors; `least` is the smallest variance that a norm divides by.

    Forty blocks (L has eighty) that each double what passes blow a rounding up to the feature's
    own size: whole networks need a larger one than narrow ones, which it would make deaf.
    """
    rng = np.random.default_rng(8)
    state = {}
    for name, shape in shapes.items():
        noise = torch.tensor(rng.normal(size=shape), dtype=torch.float32)
        if name.endswith("num_batches_tracked"):
            state[name] = torch.tensor(1000)
        elif name.endswith("running_var"):
            state[name] = least * (1 + 1.5 * noise.abs())
        elif len(shape) > 1:
            state[name] = noise / math.sqrt(math.prod(shape[1:]))
        elif name.endswith("weight"):
            state[name] = 1 + 0.3 * noise
        else:
            state[name] = 0.1 * noise
    return state


def checkpoint(case: Case) -> plain.State:
    stem = 8
    return drawn(shapes_of(case.narrow, stem, case.last[0], classes=10))


def reference(
    state: plain.State,
    stages: Stages,
    picture: Image.Image,
    *,
    side: int = 384,
    squash: bool = False,
    resample: int = BICUBIC,
    statistics: tuple[tuple[float, ...], ...] = HALF,
    eps: float = 1e-3,
    same: bool = True,
    squeezed: bool = True,
) -> np.ndarray:
    """The mean of the map after the last 1x1 convolution."""
    state = plain.double(state)
    fitted = (
        picture.resize((side, side), resample)
        if squash
        else plain.centre(picture, side, side, resample)
    )

    def convolve(x: Tensor, name: str, stride: int = 1) -> Tensor:
        weight = state[f"{name}.weight"]
        kernel, length = weight.shape[-1], x.shape[-1]
        # TensorFlow pads what is missing, the odd pixel right and bottom; PyTorch both sides.
        missing = max((math.ceil(length / stride) - 1) * stride + kernel - length, 0)
        left, right = (missing // 2, missing - missing // 2) if same else (kernel // 2,) * 2
        padded = functional.pad(x, (left, right, left, right))
        groups = x.shape[1] if weight.shape[1] == 1 else 1
        return functional.conv2d(padded, weight, stride=stride, groups=groups)

    def standard(x: Tensor, name: str) -> Tensor:
        scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + eps).sqrt()
        shift = state[f"{name}.bias"] - state[f"{name}.running_mean"] * scale
        return x * scale[:, None, None] + shift[:, None, None]

    def swish(x: Tensor) -> Tensor:
        return x * x.sigmoid()

    def excited(x: Tensor, name: str) -> Tensor:
        means = x.mean((2, 3))
        reduced = means @ state[f"{name}.conv_reduce.weight"].flatten(1).T
        reduced = swish(reduced + state[f"{name}.conv_reduce.bias"])
        gate = reduced @ state[f"{name}.conv_expand.weight"].flatten(1).T
        return x * (gate + state[f"{name}.conv_expand.bias"]).sigmoid()[:, :, None, None]

    x = plain.values(fitted, *statistics)[None]
    x = swish(standard(convolve(x, "conv_stem", 2), "bn1"))
    for stage, (kind, blocks, first, _, _) in enumerate(stages):
        for number in range(blocks):
            name, stride = f"blocks.{stage}.{number}", first if number == 0 else 1
            if kind == "plain":
                inner = swish(standard(convolve(x, f"{name}.conv", stride), f"{name}.bn1"))
            elif kind == "fused":
                inner = swish(standard(convolve(x, f"{name}.conv_exp", stride), f"{name}.bn1"))
                inner = standard(convolve(inner, f"{name}.conv_pwl"), f"{name}.bn2")
            else:
                inner = swish(standard(convolve(x, f"{name}.conv_pw"), f"{name}.bn1"))
                inner = swish(standard(convolve(inner, f"{name}.conv_dw", stride), f"{name}.bn2"))
                inner = excited(inner, f"{name}.se") if squeezed else inner
                inner = standard(convolve(inner, f"{name}.conv_pwl"), f"{name}.bn3")
            x = x + inner if inner.shape == x.shape else inner
    return swish(standard(convolve(x, "conv_head"), "bn2")).mean((2, 3))[0].numpy()


def feature(name: str, state: plain.State, folder: Path, picture: Image.Image) -> np.ndarray:
    save_file(state, folder / "model.safetensors")
    encoder = load_encoder(f"{name}={folder / 'model.safetensors'}")
    return encoder.encode(encoder.prepare(picture)[None])[0]


def smaller(narrow: Callable[..., str], case: Case) -> str:
    shape = {"channel_multiplier": 0.25, "depth_multiplier": 0.2}
    return narrow("efficientnet_v2", case.spec, case.last[0], **shape)


@each
def test_the_feature_is_the_published_evaluation_s(
    case: Case, narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    state = checkpoint(case)
    found = feature(smaller(narrow, case), state, tmp_path, picture)
    assert plain.apart(found, reference(state, case.narrow, picture, **case.how)) < 1e-4


VARIANTS: list[tuple[int, str, dict[str, Any]]] = [
    (0, "squash", {"squash": True}),
    (0, "300", {"side": 300}),
    (2, "squash", {"squash": True}),
    (2, "288", {"side": 288}),
    (3, "384", {"side": 384}),
]


@pytest.mark.parametrize(("number", "variant", "changes"), VARIANTS)
def test_a_variant_is_what_it_says(
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    number: int,
    variant: str,
    changes: dict[str, Any],
) -> None:
    case = CASES[number]
    state = checkpoint(case)
    found = feature(f"{smaller(narrow, case)}@{variant}", state, tmp_path, picture)
    expected = reference(state, case.narrow, picture, **(case.how | changes))
    assert plain.apart(found, expected) < 1e-4


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("bilinear for bicubic", {"resample": BILINEAR}),
    ("ImageNet's mean and std", {"statistics": plain.IMAGENET}),
    ("PyTorch's padding", {"same": False}),
    ("PyTorch's eps", {"eps": 1e-5}),
    ("no squeeze and excite", {"squeezed": False}),
    ("no crop", {"squash": True}),
    ("the size of training", {"side": 300}),
]


@pytest.mark.parametrize(("mistake", "changes"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_comparison_notices(
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    mistake: str,
    changes: dict[str, Any],
) -> None:
    case = CASES[0]
    state = checkpoint(case)
    found = feature(smaller(narrow, case), state, tmp_path, picture)
    expected = reference(state, case.narrow, picture, **(case.how | changes))
    assert plain.apart(found, expected) > 1e-4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("blocks.3.1.bn1.weight", "blocks.3.1.bn2.weight"),
        ("blocks.4.1.conv_dw.weight", "blocks.5.0.conv_dw.weight"),
        ("bn2.bias", "bn2.running_mean"),
    ],
)
def test_the_comparison_notices_two_tensors_that_change_places(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image, first: str, second: str
) -> None:
    case = CASES[0]
    state = checkpoint(case)
    moved = plain.swapped(state, first, second)
    found = feature(smaller(narrow, case), moved, tmp_path, picture)
    assert plain.apart(found, reference(state, case.narrow, picture, **case.how)) > 1e-4


@pytest.mark.parametrize("lost", ["conv_head.weight", "blocks.5.2.se.conv_expand.bias"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image, lost: str
) -> None:
    state = checkpoint(CASES[0])
    del state[lost]
    with pytest.raises(WeightsMismatchError, match=lost):
        feature(smaller(narrow, CASES[0]), state, tmp_path, picture)


def test_timm_s_own_s_and_google_s_refuse_each_other(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    with pytest.raises(WeightsMismatchError, match="a timm EfficientNet"):
        feature(smaller(narrow, CASES[0]), checkpoint(CASES[2]), tmp_path, picture)


@each
def test_parameters_are_those_before_the_classifier(case: Case) -> None:
    left_out = ("running_mean", "running_var", "num_batches_tracked")
    stem = case.full[0][-1]
    kept = [
        shape
        for name, shape in shapes_of(case.full, stem, case.last[1], classes=1000).items()
        if not name.endswith(left_out) and not name.startswith("classifier.")
    ]
    listed = registry.load("encoders", case.encoder)
    assert listed.parameters == sum(math.prod(one) for one in kept)
    assert listed.dim == case.last[1]


@pytest.mark.slow
@each
def test_at_full_size_the_feature_is_the_published_evaluation_s(
    case: Case, tmp_path: Path, picture: Image.Image
) -> None:
    shapes = shapes_of(case.full, case.full[0][-1], case.last[1], classes=1000)
    state = drawn(shapes, least=0.55 if case.spec == "L" else 0.4)
    found = feature(case.encoder, state, tmp_path, picture)
    assert plain.apart(found, reference(state, case.full, picture, **case.how)) < 1e-4
