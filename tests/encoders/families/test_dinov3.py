"""DINOv3 against its paper's maths: rotary positions, registers, LayerScale, two kinds of MLP."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import plain_transformer as plain
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor  # noqa: TID253  # nothing here runs without it

from embedcache import registry
from embedcache.encoders.families import dinov3
from embedcache.encoders.network import encode_together
from embedcache.encoders.resolve import load_encoder
from embedcache.errors import WeightsMismatchError

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
WIDTH, DEPTH, HEADS = 48, 2, 3

#: Listed name, its constant, whether its MLP is gated, heads at full size.
SIZES = [
    ("dinov3-s", "S", False, 6),
    ("dinov3-s-plus", "S_PLUS", True, 6),
    ("dinov3-b", "B", False, 12),
    ("dinov3-l", "L", False, 16),
    ("dinov3-h-plus", "H_PLUS", True, 20),
]


def shapes_of(*, gated: bool, width: int, depth: int) -> dict[str, tuple[int, ...]]:
    """The tensors of timm's model.safetensors: no biases of q, k, v."""
    hidden = 4 * width
    shapes = {
        "cls_token": (1, 1, width),
        "reg_token": (1, 4, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    mlp = (
        {"fc1_g": hidden, "fc1_x": hidden, "fc2": width} if gated else {"fc1": hidden, "fc2": width}
    )
    for number in range(depth):
        block = plain.block_shapes("b", width)
        for name in ("gamma_1", "gamma_2", "norm1.weight", "norm1.bias", "norm2.weight"):
            shapes[f"blocks.{number}.{name}"] = (width,)
        for name in ("norm2.bias", "attn.proj.bias"):
            shapes[f"blocks.{number}.{name}"] = (width,)
        for name in ("attn.qkv.weight", "attn.proj.weight"):
            shapes[f"blocks.{number}.{name}"] = block[f"b.{name}"]
        for name, out in mlp.items():
            into = width if out == hidden else hidden
            shapes[f"blocks.{number}.mlp.{name}.weight"] = (out, into)
            shapes[f"blocks.{number}.mlp.{name}.bias"] = (out,)
    return shapes


def checkpoint(*, gated: bool, width: int = WIDTH, depth: int = DEPTH) -> plain.State:
    return plain.draw(shapes_of(gated=gated, width=width, depth=depth), seed=5)


def metas(state: plain.State, heads: int = HEADS) -> plain.State:
    """The same network as Meta writes it, with biases of queries and values, keys' masked."""
    width = state["cls_token"].shape[-1]
    named = {
        "mask_token": torch.zeros(1, width),
        "rope_embed.periods": periods(width // heads, rounded=True).to(torch.bfloat16),
    }
    names = {
        "reg_token": "storage_tokens",
        "gamma_1": "ls1.gamma",
        "gamma_2": "ls2.gamma",
        "mlp.fc1_g": "mlp.w1",
        "mlp.fc1_x": "mlp.w2",
    }
    gated = any("fc1_g" in key for key in state)
    for key, tensor in state.items():
        for ours, theirs in names.items():
            key = key.replace(ours, theirs)  # noqa: PLW2901  # one name, translated in steps
        named[key.replace("mlp.fc2", "mlp.w3") if gated else key] = tensor
    for number in range(plain.depth(state)):
        bias = torch.randn(3 * width, generator=torch.Generator().manual_seed(number))
        mask = torch.ones(3 * width)
        mask[width : 2 * width] = 0
        named[f"blocks.{number}.attn.qkv.bias"] = bias
        named[f"blocks.{number}.attn.qkv.bias_mask"] = mask
    return named


def periods(size: int, *, rounded: bool) -> Tensor:
    """Of the rotation, for heads of a size: from 1 to nearly 100, a quarter as many."""
    exact = torch.tensor([100.0 ** (4 * number / size) for number in range(size // 4)])
    return exact.to(torch.bfloat16).double() if rounded else exact.double()


@cache
def angles(grid: int, size: int, rounded: bool) -> Tensor:
    """How far each pair of a head's numbers turns at each place, row by row: (patches, size / 2).

    Half of the pairs turn by the row, half by the column, both from -1 to 1.
    """
    places = [2 * (number + 0.5) / grid - 1 for number in range(grid)]
    turns = 2 * math.pi / periods(size, rounded=rounded)
    return torch.stack(
        [torch.cat((row * turns, column * turns)) for row in places for column in places]
    )


def rotated(x: Tensor, grid: int, heads: int, rounded: bool) -> Tensor:
    """Turn each patch's pairs of numbers: the first half of a head's with the second."""
    size = x.shape[1] // heads
    angle = angles(grid, size, rounded)[:, None]
    first, second = x.reshape(len(x), heads, 2, size // 2).unbind(2)
    turned = (
        first * angle.cos() - second * angle.sin(),
        second * angle.cos() + first * angle.sin(),
    )
    return torch.stack(turned, dim=2).flatten(1)


def reference(
    state: plain.State,
    picture: Image.Image,
    *,
    heads: int = HEADS,
    side: int = 256,
    resample: int = BILINEAR,
    cropped: bool = False,
    statistics: tuple[tuple[float, ...], ...] = plain.IMAGENET,
    eps: float = 1e-5,
    rounded: bool = True,
    registers: bool = True,
    rule: str = "cls",
    biases: plain.State | None = None,
) -> np.ndarray:
    state = plain.double(state)
    fitted = (
        plain.centre(picture, side, side, resample)
        if cropped
        else picture.resize((side, side), resample)
    )
    before = 5 if registers else 1
    prefix = torch.cat((state["cls_token"][0], state["reg_token"][0]))[:before]
    x = torch.cat((prefix, plain.patches(plain.values(fitted, *statistics), state)))

    def turned(vectors: Tensor) -> Tensor:
        places = rotated(vectors[before:], side // 16, heads, rounded)
        return torch.cat((vectors[:before], places))

    for name in (f"blocks.{number}" for number in range(plain.depth(state))):
        projected = plain.norm(x, state, f"{name}.norm1", eps) @ state[f"{name}.attn.qkv.weight"].T
        query, key, value = projected.chunk(3, dim=1)
        if biases is not None:
            of_query, _, of_value = biases[f"{name}.attn.qkv.bias"].double().chunk(3)
            query, value = query + of_query, value + of_value
        mixed = plain.attention(turned(query), turned(key), value, heads, None)
        x = x + state[f"{name}.gamma_1"] * plain.linear(mixed, state, f"{name}.attn.proj")
        inner = plain.norm(x, state, f"{name}.norm2", eps)
        if f"{name}.mlp.fc1_g.weight" in state:
            gate = plain.linear(inner, state, f"{name}.mlp.fc1_g")
            inner = gate * gate.sigmoid() * plain.linear(inner, state, f"{name}.mlp.fc1_x")
        else:
            inner = plain.gelu(plain.linear(inner, state, f"{name}.mlp.fc1"))
        x = x + state[f"{name}.gamma_2"] * plain.linear(inner, state, f"{name}.mlp.fc2")
    normed = plain.norm(x, state, "norm", eps)
    cls, mean = normed[0], normed[before:].mean(0)
    return {"cls": cls, "mean": mean, "cls+mean": torch.cat((cls, mean))}[rule].numpy()


def feature(name: str, state: plain.State, folder: Path, picture: Image.Image) -> np.ndarray:
    save_file(state, folder / "model.safetensors")
    encoder = load_encoder(f"{name}={folder / 'model.safetensors'}")
    return encoder.encode(encoder.prepare(picture)[None])[0]


def smaller(narrow: Callable[..., str], spec: str) -> str:
    shape = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    if spec in ("S_PLUS", "H_PLUS"):
        shape["mlp_ratio"] = 4
    return narrow("dinov3", spec, WIDTH, **shape)


@pytest.mark.parametrize(("encoder", "spec", "gated", "heads"), SIZES)
def test_the_feature_is_the_authors(
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    encoder: str,
    spec: str,
    gated: bool,
    heads: int,
) -> None:
    state = checkpoint(gated=gated)
    found = feature(smaller(narrow, spec), state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture)) < 1e-4


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("mean", {"rule": "mean"}),
    ("cls+mean", {"rule": "cls+mean"}),
    ("224", {"side": 224}),
    ("timm", {"resample": BICUBIC, "cropped": True, "rounded": False}),
    ("timm@mean", {"resample": BICUBIC, "cropped": True, "rounded": False, "rule": "mean"}),
]


@pytest.mark.parametrize(("variant", "changes"), VARIANTS, ids=[case[0] for case in VARIANTS])
def test_a_variant_is_what_it_says(
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    variant: str,
    changes: dict[str, Any],
) -> None:
    state = checkpoint(gated=False)
    found = feature(f"{smaller(narrow, 'B')}@{variant}", state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, **changes)) < 1e-4


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("bicubic for bilinear", {"resample": BICUBIC}),
    ("a crop", {"cropped": True}),
    ("mean and std of a half", {"statistics": ((0.5,) * 3, (0.5,) * 3)}),
    ("timm's pooling", {"rule": "mean"}),
    ("another number of heads", {"heads": 6}),
    ("the eps of other transformers", {"eps": 1e-6}),
    ("periods that are not rounded", {"rounded": False}),
    ("no registers", {"registers": False}),
]


@pytest.mark.parametrize(("mistake", "changes"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_comparison_notices(
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    mistake: str,
    changes: dict[str, Any],
) -> None:
    state = checkpoint(gated=False)
    found = feature(smaller(narrow, "B"), state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, **changes)) > 1e-4


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("blocks.0.gamma_1", "blocks.0.gamma_2"),
        ("blocks.0.mlp.fc1_g.weight", "blocks.0.mlp.fc1_x.weight"),
        ("blocks.1.norm1.bias", "blocks.1.norm2.bias"),
    ],
)
def test_the_comparison_notices_two_tensors_that_change_places(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image, first: str, second: str
) -> None:
    state = checkpoint(gated=True)
    moved = plain.swapped(state, first, second)
    found = feature(smaller(narrow, "S_PLUS"), moved, tmp_path, picture)
    assert plain.apart(found, reference(state, picture)) > 1e-4


@pytest.mark.parametrize(("spec", "gated"), [("B", False), ("S_PLUS", True)])
def test_meta_s_own_file_is_read_with_its_biases_and_periods(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image, spec: str, gated: bool
) -> None:
    state = checkpoint(gated=gated)
    theirs = metas(state)
    torch.save(theirs, tmp_path / "dinov3.pth")
    encoder = load_encoder(f"{smaller(narrow, spec)}={tmp_path / 'dinov3.pth'}")
    found = encoder.encode(encoder.prepare(picture)[None])[0]
    assert plain.apart(found, reference(state, picture, biases=theirs)) < 1e-4
    assert plain.apart(found, reference(state, picture)) > 1e-4


def test_poolings_share_a_forward_pass(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    save_file(checkpoint(gated=False), tmp_path / "model.safetensors")
    name, file = smaller(narrow, "B"), tmp_path / "model.safetensors"
    encoders = [load_encoder(f"{name}{variant}={file}") for variant in ("", "@mean", "@cls+mean")]
    batch = encoders[0].prepare(picture)[None]
    cls, mean, both = encode_together(encoders, batch)
    assert np.array_equal(np.concatenate((cls, mean), axis=1), both)
    assert np.array_equal(both, encoders[2].encode(batch))


@pytest.mark.parametrize("lost", ["reg_token", "norm.bias", "blocks.1.gamma_2"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image, lost: str
) -> None:
    state = checkpoint(gated=False)
    del state[lost]
    with pytest.raises(WeightsMismatchError, match=lost):
        feature(smaller(narrow, "B"), state, tmp_path, picture)


def test_some_biases_without_others_are_refused(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    state = {**checkpoint(gated=False), "blocks.0.attn.q_bias": torch.zeros(WIDTH)}
    with pytest.raises(WeightsMismatchError, match="v_bias"):
        feature(smaller(narrow, "B"), state, tmp_path, picture)


@pytest.mark.parametrize(("encoder", "spec", "gated", "heads"), SIZES)
def test_parameters_are_those_of_the_published_layout(
    encoder: str, spec: str, gated: bool, heads: int
) -> None:
    depth = {"dinov3-l": 24, "dinov3-h-plus": 32}.get(encoder, 12)
    listed = registry.load("encoders", encoder)
    assert listed is getattr(dinov3, spec)
    shapes = shapes_of(gated=gated, width=listed.dim, depth=depth).values()
    assert listed.parameters == sum(math.prod(shape) for shape in shapes)


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "spec", "gated", "heads"), SIZES)
def test_at_full_size_the_feature_is_the_authors(
    tmp_path: Path, picture: Image.Image, encoder: str, spec: str, gated: bool, heads: int
) -> None:
    depth = {"dinov3-l": 24, "dinov3-h-plus": 32}.get(encoder, 12)
    width = registry.load("encoders", encoder).dim
    state = checkpoint(gated=gated, width=width, depth=depth)
    found = feature(encoder, state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, heads=heads)) < 1e-4
