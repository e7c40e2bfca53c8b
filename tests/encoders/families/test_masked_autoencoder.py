"""USF-MAE, UltraFedFM and URFM against a ViT written out from its paper, each file as wrapped."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import plain_transformer as plain
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image

from embedcache import registry
from embedcache.encoders.families.masked_autoencoder import layout, untrained
from embedcache.encoders.resolve import load_encoder
from embedcache.errors import WeightsMismatchError

NEAREST, BILINEAR, BICUBIC = (
    Image.Resampling.NEAREST,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
)
WIDTH, DEPTH, HEADS = 48, 2, 3


def checkpoint(width: int = WIDTH, depth: int = DEPTH, decoder: int = 32) -> plain.State:
    """Random tensors under the names of the MAE code, its decoder included."""
    shapes = plain.plain_shapes(width, depth, "norm") | {
        "mask_token": (1, 1, decoder),
        "decoder_pos_embed": (1, 197, decoder),
        "decoder_embed.weight": (decoder, width),
        "decoder_embed.bias": (decoder,),
        "decoder_norm.weight": (decoder,),
        "decoder_norm.bias": (decoder,),
        "decoder_pred.weight": (768, decoder),
        "decoder_pred.bias": (768,),
    }
    for number in range(2):
        shapes |= plain.block_shapes(f"decoder_blocks.{number}", decoder)
    return plain.draw(shapes, seed=4)


def flat(state: plain.State) -> dict[str, Any]:
    return dict(state)


def training(state: plain.State) -> dict[str, Any]:
    """UltraFedFM's: a whole training state, with the arguments of its command line."""
    return {
        "model": state,
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 799,
        "scaler": {"scale": 65536.0},
        "args": argparse.Namespace(model="mae_vit_base_patch16", batch_size=64),
    }


def averaged(state: plain.State) -> dict[str, Any]:
    """URFM's: the moving average beside the last step, whose numbers are others."""
    return {
        "epoch": 1199,
        "model": "mae_vit_base_patch16_dec768d8b",
        "state_dict": {f"module.{key}": tensor + 1 for key, tensor in state.items()},
        "ema_state_dict": {f"module.{key}": tensor for key, tensor in state.items()},
        "optimizer": {"state": {}, "param_groups": []},
    }


@dataclass(frozen=True, kw_only=True)
class Case:
    """An encoder as its authors use it, in our own words."""

    encoder: str
    module: str
    spec: str
    wrap: Callable[[plain.State], dict[str, Any]]
    fit: Callable[[Image.Image], Image.Image]
    pooling: str
    variants: dict[str, dict[str, Any]] = field(default_factory=dict)


def squashed(resample: int) -> Callable[[Image.Image], Image.Image]:
    return lambda picture: picture.resize((224, 224), resample)


CASES = [
    Case(
        encoder="usf-mae",
        module="usf_mae",
        spec="USF_MAE",
        wrap=flat,
        fit=squashed(NEAREST),
        pooling="cls",
        variants={"mean": {"pooling": "mean"}, "bicubic": {"fit": squashed(BICUBIC)}},
    ),
    Case(
        encoder="ultrafedfm",
        module="ultrafedfm",
        spec="ULTRAFEDFM",
        wrap=training,
        fit=lambda picture: plain.centre(picture, 256, 224, BICUBIC),
        pooling="mean, then a plain norm",
        variants={"cls": {"pooling": "cls"}, "squash": {"fit": squashed(BICUBIC)}},
    ),
    Case(
        encoder="urfm-b",
        module="urfm",
        spec="B",
        wrap=averaged,
        fit=squashed(BICUBIC),
        pooling="cls",
        variants={"mean": {"pooling": "mean"}},
    ),
    Case(
        encoder="urfm-l",
        module="urfm",
        spec="L",
        wrap=averaged,
        fit=squashed(BICUBIC),
        pooling="cls",
        variants={"mean": {"pooling": "mean"}},
    ),
]
each = pytest.mark.parametrize("case", CASES, ids=lambda case: case.encoder)


def reference(
    state: plain.State,
    picture: Image.Image,
    case: Case,
    *,
    fit: Callable[[Image.Image], Image.Image] | None = None,
    pooling: str = "",
    heads: int = HEADS,
    statistics: tuple[tuple[float, ...], ...] = plain.IMAGENET,
    eps: float = 1e-6,
) -> np.ndarray:
    state = plain.double(state)
    pixels = plain.values((fit or case.fit)(picture), *statistics)
    tokens = plain.plain_tokens(pixels, state, heads, eps)
    rule = pooling or case.pooling
    if rule == "mean, then a plain norm":
        return plain.norm(tokens[1:].mean(0), state, "", eps).numpy()
    normed = plain.norm(tokens, state, "norm", eps)
    return (normed[0] if rule == "cls" else normed[1:].mean(0)).numpy()


def smaller(narrow: Callable[..., str], case: Case) -> str:
    shape = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return narrow(case.module, case.spec, WIDTH, **shape)


def feature(name: str, content: object, folder: Path, picture: Image.Image) -> np.ndarray:
    torch.save(content, folder / "checkpoint.pth")
    encoder = load_encoder(f"{name}={folder / 'checkpoint.pth'}")
    return encoder.encode(encoder.prepare(picture)[None])[0]


@each
def test_the_feature_is_the_authors(
    case: Case, narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    name, state = smaller(narrow, case), checkpoint()
    found = feature(name, case.wrap(state), tmp_path, picture)
    assert plain.apart(found, reference(state, picture, case)) < 1e-4
    for variant, changes in case.variants.items():
        found = feature(f"{name}@{variant}", case.wrap(state), tmp_path, picture)
        assert plain.apart(found, reference(state, picture, case, **changes)) < 1e-4


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("another filter", {"fit": squashed(BILINEAR)}),
    ("mean and std of a half", {"statistics": ((0.5,) * 3, (0.5,) * 3)}),
    ("another number of heads", {"heads": 6}),
    ("PyTorch's own eps", {"eps": 1e-5}),
    ("the mean behind the norm", {"pooling": "mean"}),
]


@each
@pytest.mark.parametrize(("mistake", "changes"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_comparison_notices(
    case: Case,
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    mistake: str,
    changes: dict[str, Any],
) -> None:
    state = checkpoint()
    found = feature(smaller(narrow, case), case.wrap(state), tmp_path, picture)
    assert plain.apart(found, reference(state, picture, case, **changes)) > 1e-4


@each
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("blocks.0.norm1.weight", "blocks.1.norm1.weight"),
        ("blocks.0.mlp.fc1.weight", "blocks.1.mlp.fc1.weight"),
    ],
)
def test_the_comparison_notices_two_tensors_that_change_places(
    case: Case,
    narrow: Callable[..., str],
    tmp_path: Path,
    picture: Image.Image,
    first: str,
    second: str,
) -> None:
    state = checkpoint()
    moved = case.wrap(plain.swapped(state, first, second))
    found = feature(smaller(narrow, case), moved, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, case)) > 1e-4


@each
@pytest.mark.parametrize("lost", ["norm.weight", "pos_embed", "blocks.1.attn.qkv.bias"])
def test_a_checkpoint_that_lacks_a_tensor_is_refused(
    case: Case, narrow: Callable[..., str], tmp_path: Path, picture: Image.Image, lost: str
) -> None:
    state = checkpoint()
    del state[lost]
    with pytest.raises(WeightsMismatchError, match=lost):
        feature(smaller(narrow, case), case.wrap(state), tmp_path, picture)


def test_a_tuned_transformer_is_no_pretraining_checkpoint(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    state = {**checkpoint(), "head.weight": torch.ones(5, WIDTH)}
    with pytest.raises(WeightsMismatchError, match=r"head\.weight"):
        feature(smaller(narrow, CASES[0]), state, tmp_path, picture)


def test_usfm_s_file_is_refused_by_name(
    narrow: Callable[..., str], tmp_path: Path, picture: Image.Image
) -> None:
    state = checkpoint()
    del state["pos_embed"]
    state["rel_pos_bias.relative_position_bias_table"] = torch.zeros(732, HEADS)
    with pytest.raises(WeightsMismatchError, match="USFM"):
        feature(smaller(narrow, CASES[0]), state, tmp_path, picture)


def test_the_layout_is_that_of_the_mae_code() -> None:
    # more-encoders.md: MAE ViT-B has 254 tensors and 111,907,840 numbers, its encoder 150.
    shapes = layout()
    assert len(shapes) == 254
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == 111_907_840
    encoder = [name for name in shapes if not name.startswith(("decoder", "mask_token"))]
    assert len(encoder) == 150
    drawn = untrained(0, width=WIDTH, depth=DEPTH, decoder_width=32, decoder_depth=2)
    assert {key: value.shape for key, value in drawn.items()} == {
        key: value.shape for key, value in checkpoint().items()
    }


@pytest.mark.parametrize(
    ("encoder", "width", "depth", "norm"),
    [
        ("usf-mae", 768, 12, True),
        ("ultrafedfm", 768, 12, False),
        ("urfm-b", 768, 12, True),
        ("urfm-l", 1024, 24, True),
    ],
)
def test_parameters_are_those_that_the_feature_rests_on(
    encoder: str, width: int, depth: int, norm: bool
) -> None:
    shapes = layout(width=width, depth=depth)
    left_out = ("decoder", "mask_token") if norm else ("decoder", "mask_token", "norm.")
    kept = [shape for name, shape in shapes.items() if not name.startswith(left_out)]
    spec = registry.load("encoders", encoder)
    assert spec.parameters == sum(int(np.prod(shape)) for shape in kept)


@pytest.mark.slow
@each
def test_at_full_size_the_feature_is_the_authors(
    case: Case, tmp_path: Path, picture: Image.Image
) -> None:
    large = case.encoder == "urfm-l"
    state = checkpoint(*((1024, 24) if large else (768, 12)))
    found = feature(case.encoder, case.wrap(state), tmp_path, picture)
    expected = reference(state, picture, case, heads=16 if large else 12)
    assert plain.apart(found, expected) < 1e-4
