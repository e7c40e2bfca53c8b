"""USFM against a BEiT written out from its paper: a checkpoint in the authors' layout, by path."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import plain_transformer as plain
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image
from torch import Tensor  # noqa: TID253  # nothing here runs without it

from embedcache.encoders.families.usfm import INDEX, USFM, layout, untrained
from embedcache.encoders.network import NetworkEncoder, encode_together
from embedcache.encoders.resolve import load_encoder
from embedcache.errors import WeightsMismatchError

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC

WIDTH, DEPTH, HEADS, GRID = 48, 2, 3, 14
TABLE = "rel_pos_bias.relative_position_bias_table"


@cache
def numbering() -> Tensor:
    """BEiT's row of the table for each pair of tokens: 729 to 731 are the class token's."""
    places = [(row, column) for row in range(GRID) for column in range(GRID)]
    index = torch.zeros((197, 197), dtype=torch.int64)
    for query, (row, column) in enumerate(places):
        for key, (other_row, other_column) in enumerate(places):
            index[query + 1, key + 1] = (row - other_row + 13) * 27 + column - other_column + 13
    index[0, :], index[:, 0], index[0, 0] = 729, 730, 731
    return index


def checkpoint(width: int = WIDTH, depth: int = DEPTH, heads: int = HEADS) -> plain.State:
    """Random tensors under the names of USFM_latest.pth."""
    shapes = {
        "cls_token": (1, 1, width),
        "mask_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        TABLE: (732, heads),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for number in range(depth):
        block = plain.block_shapes(f"blocks.{number}", width)
        del block[f"blocks.{number}.attn.qkv.bias"]
        shapes |= block
        shapes |= {
            f"blocks.{number}.{name}": (width,)
            for name in ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias")
        }
    return {**plain.draw(shapes, seed=2), "rel_pos_bias.relative_position_index": numbering()}


def reference(
    state: plain.State,
    picture: Image.Image,
    *,
    heads: int = HEADS,
    resample: int = BICUBIC,
    statistics: tuple[tuple[float, ...], ...] = plain.IMAGENET,
    eps: float = 1e-6,
    biased: bool = True,
    pooling: str = "mean, then a plain norm",
    pixels: Tensor | None = None,
) -> np.ndarray:
    """The authors' feature of one picture."""
    state = plain.double(state)
    if pixels is None:
        pixels = plain.values(picture.resize((224, 224), resample), *statistics)
    x = torch.cat((state["cls_token"][0], plain.patches(pixels, state)))
    bias = state[TABLE][numbering()].permute(2, 0, 1) if biased else None
    for name in (f"blocks.{number}" for number in range(plain.depth(state))):
        weight = state[f"{name}.attn.qkv.weight"]
        query, key, value = (plain.norm(x, state, f"{name}.norm1", eps) @ weight.T).chunk(3, dim=1)
        query, value = query + state[f"{name}.attn.q_bias"], value + state[f"{name}.attn.v_bias"]
        mixed = plain.attention(query, key, value, heads, bias)
        x = x + state[f"{name}.gamma_1"] * plain.linear(mixed, state, f"{name}.attn.proj")
        inner = plain.norm(x, state, f"{name}.norm2", eps)
        inner = plain.gelu(plain.linear(inner, state, f"{name}.mlp.fc1"))
        x = x + state[f"{name}.gamma_2"] * plain.linear(inner, state, f"{name}.mlp.fc2")
    if pooling == "mean, then a plain norm":
        return plain.norm(x[1:].mean(0), state, "", eps).numpy()
    normed = plain.norm(x, state, "norm", eps)
    return (normed[0] if pooling == "cls" else normed[1:].mean(0)).numpy()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.save(checkpoint(), tmp_path / "USFM_latest.pth")
    return tmp_path / "USFM_latest.pth"


@pytest.fixture
def name(narrow: Callable[..., str]) -> str:
    return narrow("usfm", "USFM", WIDTH, embed_dim=WIDTH, depth=DEPTH, num_heads=HEADS)


def feature(reference_: str, picture: Image.Image) -> np.ndarray:
    encoder = load_encoder(reference_)
    return encoder.encode(encoder.prepare(picture)[None])[0]


def test_the_feature_is_the_authors(name: str, file: Path, picture: Image.Image) -> None:
    assert plain.apart(feature(f"{name}={file}", picture), reference(checkpoint(), picture)) < 1e-4


@pytest.mark.parametrize(("variant", "pooling"), [("cls", "cls"), ("norm-then-mean", "mean")])
def test_a_variant_pools_behind_the_checkpoint_s_own_norm(
    name: str, file: Path, picture: Image.Image, variant: str, pooling: str
) -> None:
    found = feature(f"{name}@{variant}={file}", picture)
    assert plain.apart(found, reference(checkpoint(), picture, pooling=pooling)) < 1e-4


def test_poolings_share_a_forward_pass_and_stay_themselves(
    name: str, file: Path, picture: Image.Image
) -> None:
    names = (f"{name}={file}", f"{name}@cls={file}", f"{name}@norm-then-mean={file}")
    encoders = [load_encoder(one) for one in names]
    assert all(isinstance(one, NetworkEncoder) for one in encoders)
    batch = encoders[0].prepare(picture)[None]
    runs = []
    for one in encoders:
        one.module.register_forward_hook(lambda *_: runs.append(1))
    together = encode_together(encoders, batch)
    assert len(runs) == 1
    for one, vector in zip(encoders, together, strict=True):
        assert np.array_equal(vector, one.encode(batch))


def test_grey_z_prepares_as_the_authors_pull_request(
    name: str, file: Path, picture: Image.Image
) -> None:
    import cv2

    grey = np.asarray(picture, np.float32).mean(axis=2)
    small = cv2.resize(grey, (224, 224), interpolation=cv2.INTER_LINEAR).astype(np.float64) / 255
    standard = (small - small.mean()) / small.std()
    pixels = torch.from_numpy(standard).expand(3, 224, 224)
    found = feature(f"{name}@grey-z={file}", picture)
    assert plain.apart(found, reference(checkpoint(), picture, pixels=pixels)) < 1e-4


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("bilinear for bicubic", {"resample": BILINEAR}),
    ("timm's mean and std for BEiT", {"statistics": ((0.5,) * 3, (0.5,) * 3)}),
    ("no position bias", {"biased": False}),
    ("another number of heads", {"heads": 6}),
    ("PyTorch's own eps", {"eps": 1e-5}),
    ("the checkpoint's norm before the mean", {"pooling": "mean"}),
    ("the class token", {"pooling": "cls"}),
]


@pytest.mark.parametrize(("mistake", "changes"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_comparison_notices(
    name: str, file: Path, picture: Image.Image, mistake: str, changes: dict[str, Any]
) -> None:
    given = checkpoint()
    if "heads" in changes:
        given[TABLE] = given[TABLE].repeat(1, 2)
    found = feature(f"{name}={file}", picture)
    assert plain.apart(found, reference(given, picture, **changes)) > 1e-4


SWAPS = [
    ("blocks.0.norm1.weight", "blocks.0.norm2.weight"),
    ("blocks.0.gamma_1", "blocks.0.gamma_2"),
    ("blocks.1.attn.q_bias", "blocks.1.attn.v_bias"),
    ("blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc1.weight"),
]


@pytest.mark.parametrize(("first", "second"), SWAPS)
def test_the_comparison_notices_two_tensors_that_change_places(
    name: str, tmp_path: Path, picture: Image.Image, first: str, second: str
) -> None:
    torch.save(plain.swapped(checkpoint(), first, second), tmp_path / "swapped.pth")
    found = feature(f"{name}={tmp_path / 'swapped.pth'}", picture)
    assert plain.apart(found, reference(checkpoint(), picture)) > 1e-4


@pytest.mark.parametrize(
    "lost",
    [TABLE, "norm.weight", "blocks.1.attn.q_bias", "blocks.0.gamma_2", "patch_embed.proj.bias"],
)
def test_a_checkpoint_that_lacks_a_tensor_is_refused(name: str, tmp_path: Path, lost: str) -> None:
    given = checkpoint()
    del given[lost]
    torch.save(given, tmp_path / "w.pth")
    wanted = "relative_position_bias_table" if lost == TABLE else lost
    with pytest.raises(WeightsMismatchError, match=wanted):
        load_encoder(f"{name}={tmp_path / 'w.pth'}")


def test_a_checkpoint_that_holds_more_is_refused(name: str, tmp_path: Path) -> None:
    given = {**checkpoint(), "blocks.0.attn.k_bias": torch.zeros(WIDTH)}
    torch.save(given, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatchError, match="k_bias"):
        load_encoder(f"{name}={tmp_path / 'w.pth'}")


def test_another_numbering_of_positions_is_refused(name: str, tmp_path: Path) -> None:
    torch.save({**checkpoint(), INDEX: numbering().T.contiguous()}, tmp_path / "w.pth")
    with pytest.raises(WeightsMismatchError, match="numbers the pairs"):
        load_encoder(f"{name}={tmp_path / 'w.pth'}")


def test_a_plain_transformer_refuses_usfm_s_file(tmp_path: Path) -> None:
    # Of the very width and depth, so that only the way of telling places differs.
    torch.save(checkpoint(width=64, depth=6, heads=2), tmp_path / "USFM_latest.pth")
    with pytest.raises(WeightsMismatchError, match="pos_embed"):
        load_encoder(f"timm:test_vit={tmp_path / 'USFM_latest.pth'}")


def test_the_file_of_a_masked_autoencoder_is_refused_by_name(name: str, tmp_path: Path) -> None:
    torch.save(plain.draw(plain.plain_shapes(WIDTH, DEPTH, "norm"), 1), tmp_path / "w.pth")
    with pytest.raises(WeightsMismatchError, match="a vision transformer"):
        load_encoder(f"{name}={tmp_path / 'w.pth'}")


@pytest.mark.parametrize("wrapper", [None, "model", "state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapped_checkpoints_give_the_same_feature(
    name: str, tmp_path: Path, picture: Image.Image, wrapper: str | None, prefix: str
) -> None:
    state = {prefix + key: tensor for key, tensor in checkpoint().items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, tmp_path / "w.pth")
    found = feature(f"{name}={tmp_path / 'w.pth'}", picture)
    assert plain.apart(found, reference(checkpoint(), picture)) < 1e-4


def test_random_weights_have_the_published_layout() -> None:
    drawn = untrained(0, width=WIDTH, depth=DEPTH, heads=HEADS)
    published = checkpoint()
    assert {key: value.shape for key, value in drawn.items()} == {
        key: value.shape for key, value in published.items()
    }
    assert torch.equal(drawn[INDEX], numbering())


def test_the_published_layout_is_as_large_as_the_published_file() -> None:
    # encoders.md: 188 tensors, 342.97 MB; the integers that number positions are one of them.
    shapes = layout()
    numbers = sum(int(np.prod(shape)) for shape in shapes.values())
    assert len(shapes) + 1 == 188
    assert round((4 * numbers + 8 * 197**2) / 1e6, 1) == 343.0
    unused = [name for name in shapes if name.startswith(("norm.", "mask_token"))]
    assert USFM.parameters == numbers - sum(int(np.prod(shapes[name])) for name in unused)


@pytest.mark.slow
def test_at_full_size_the_feature_is_the_authors(tmp_path: Path, picture: Image.Image) -> None:
    state = checkpoint(width=768, depth=12, heads=12)
    torch.save(state, tmp_path / "USFM_latest.pth")
    found = feature(f"usfm={tmp_path / 'USFM_latest.pth'}", picture)
    assert plain.apart(found, reference(state, picture, heads=12)) < 1e-4
