"""DINOv2 with registers against a ViT written out from its papers, and its resampled positions."""

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

from embedcache import registry
from embedcache.encoders.families import dinov2
from embedcache.encoders.resolve import load_encoder
from embedcache.errors import WeightsMismatchError

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
WIDTH, DEPTH, HEADS = 48, 2, 3
SIZES = [("dinov2-s", "S", 6), ("dinov2", "B", 12), ("dinov2-l", "L", 16)]


def shapes_of(width: int, depth: int, grid: int = 37) -> dict[str, tuple[int, ...]]:
    """The tensors of timm's model.safetensors: positions for 37 x 37 patches."""
    shapes = plain.plain_shapes(width, depth, "norm") | {
        "reg_token": (1, 4, width),
        "pos_embed": (1, grid * grid, width),
        "patch_embed.proj.weight": (width, 3, 14, 14),
    }
    for number in range(depth):
        shapes[f"blocks.{number}.ls1.gamma"] = shapes[f"blocks.{number}.ls2.gamma"] = (width,)
    return shapes


def checkpoint(width: int = WIDTH, depth: int = DEPTH) -> plain.State:
    return plain.draw(shapes_of(width, depth), seed=6)


def metas(state: plain.State) -> plain.State:
    """The same network as Meta writes it: the class token has a position of its own."""
    place = torch.full((1, 1, state["cls_token"].shape[-1]), 0.01)
    named = {key: tensor for key, tensor in state.items() if key != "reg_token"}
    return named | {
        "register_tokens": state["reg_token"],
        "mask_token": torch.zeros(1, state["cls_token"].shape[-1]),
        "cls_token": state["cls_token"] - place,
        "pos_embed": torch.cat((place, state["pos_embed"]), dim=1),
    }


def cubic_rows(old: int, new: int) -> Tensor:
    """Weights (new, old) of an antialiased bicubic resize (a = -0.5), as PIL defines it."""
    scale = old / new
    rows = torch.zeros((new, old), dtype=torch.float64)
    for number in range(new):
        for other in range(old):
            x = abs((other + 0.5 - (number + 0.5) * scale) / scale)
            if x < 1:
                rows[number, other] = 1.5 * x**3 - 2.5 * x**2 + 1
            elif x < 2:
                rows[number, other] = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return rows / rows.sum(1, keepdim=True)


def reference(
    state: plain.State,
    picture: Image.Image,
    *,
    heads: int = HEADS,
    side: int = 224,
    squash: bool = False,
    resample: int = BICUBIC,
    eps: float = 1e-6,
    antialiased: bool = True,
    rule: str = "cls",
) -> np.ndarray:
    state = plain.double(state)
    fitted = (
        picture.resize((side, side), resample)
        if squash
        else plain.centre(picture, 256, 224, resample)
    )
    grid, width = side // 14, state["pos_embed"].shape[-1]
    places = state["pos_embed"].reshape(37, 37, width)
    if not antialiased:
        places = torch.nn.functional.interpolate(
            places.permute(2, 0, 1)[None], (grid, grid), mode="bicubic"
        )[0].permute(1, 2, 0)
    elif grid != 37:
        rows = cubic_rows(37, grid)
        places = torch.einsum("ij,jkd,lk->ild", rows, places, rows)
    patches = plain.patches(plain.values(fitted), state) + places.reshape(-1, width)
    x = torch.cat((state["cls_token"][0], state["reg_token"][0], patches))
    for number in range(plain.depth(state)):
        x = plain.block(x, state, f"blocks.{number}", heads, eps)
    normed = plain.norm(x, state, "norm", eps)
    cls, mean = normed[0], normed[5:].mean(0)
    return {"cls": cls, "mean": mean, "cls+mean": torch.cat((cls, mean))}[rule].numpy()


def feature(name: str, state: plain.State, folder: Path, picture: Image.Image) -> np.ndarray:
    save_file(state, folder / "model.safetensors")
    encoder = load_encoder(f"{name}={folder / 'model.safetensors'}")
    return encoder.encode(encoder.prepare(picture)[None])[0]


@pytest.fixture
def name(narrow: Callable[..., str]) -> str:
    return narrow("dinov2", "B", WIDTH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS)


VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("", {}),
    ("@mean", {"rule": "mean"}),
    ("@cls+mean", {"rule": "cls+mean"}),
    ("@squash", {"squash": True}),
    ("@518", {"squash": True, "side": 518}),
]


@pytest.mark.parametrize(("variant", "changes"), VARIANTS, ids=[case[0] for case in VARIANTS])
def test_the_feature_is_the_authors(
    name: str, tmp_path: Path, picture: Image.Image, variant: str, changes: dict[str, Any]
) -> None:
    state = checkpoint()
    found = feature(name + variant, state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, **changes)) < 1e-4


def test_meta_s_own_file_gives_the_same(name: str, tmp_path: Path, picture: Image.Image) -> None:
    state = checkpoint()
    torch.save(metas(state), tmp_path / "dinov2.pth")
    encoder = load_encoder(f"{name}={tmp_path / 'dinov2.pth'}")
    found = encoder.encode(encoder.prepare(picture)[None])[0]
    assert plain.apart(found, reference(state, picture)) < 1e-4


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("bilinear for bicubic", {"resample": BILINEAR}),
    ("no crop", {"squash": True}),
    ("another number of heads", {"heads": 6}),
    ("PyTorch's own eps", {"eps": 1e-5}),
    ("positions resampled without antialiasing", {"antialiased": False}),
    ("the mean of the patches", {"rule": "mean"}),
]


@pytest.mark.parametrize(("mistake", "changes"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_comparison_notices(
    name: str, tmp_path: Path, picture: Image.Image, mistake: str, changes: dict[str, Any]
) -> None:
    state = checkpoint()
    found = feature(name, state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, **changes)) > 1e-4


def test_two_layer_scales_that_change_places_are_noticed(
    name: str, tmp_path: Path, picture: Image.Image
) -> None:
    state = checkpoint()
    moved = plain.swapped(state, "blocks.0.ls1.gamma", "blocks.0.ls2.gamma")
    assert plain.apart(feature(name, moved, tmp_path, picture), reference(state, picture)) > 1e-4


@pytest.mark.parametrize("lost", ["reg_token", "pos_embed", "blocks.1.ls2.gamma"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(
    name: str, tmp_path: Path, picture: Image.Image, lost: str
) -> None:
    state = checkpoint()
    del state[lost]
    with pytest.raises(WeightsMismatchError, match=lost):
        feature(name, state, tmp_path, picture)


def test_positions_of_no_square_grid_are_refused(
    name: str, tmp_path: Path, picture: Image.Image
) -> None:
    state = checkpoint()
    state["pos_embed"] = state["pos_embed"][:, :1000].contiguous()
    with pytest.raises(WeightsMismatchError, match="pos_embed"):
        feature(name, state, tmp_path, picture)


@pytest.mark.parametrize(("encoder", "spec", "heads"), SIZES)
def test_parameters_count_the_positions_that_are_used(encoder: str, spec: str, heads: int) -> None:
    listed = registry.load("encoders", encoder)
    assert listed is getattr(dinov2, spec)
    shapes = shapes_of(listed.dim, 24 if encoder == "dinov2-l" else 12, grid=16).values()
    assert listed.parameters == sum(math.prod(shape) for shape in shapes)


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "spec", "heads"), SIZES)
def test_at_full_size_the_feature_is_the_authors(
    tmp_path: Path, picture: Image.Image, encoder: str, spec: str, heads: int
) -> None:
    width = registry.load("encoders", encoder).dim
    state = checkpoint(width, 24 if encoder == "dinov2-l" else 12)
    found = feature(encoder, state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, heads=heads)) < 1e-4
