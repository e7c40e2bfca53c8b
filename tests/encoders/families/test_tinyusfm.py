"""TinyUSFM against a ViT written out from its paper: twelve heads where timm's tiny has three."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import plain_transformer as plain
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image

from embedcache.encoders.families.tinyusfm import TINYUSFM, layout, untrained
from embedcache.encoders.resolve import load_encoder
from embedcache.errors import WeightsMismatchError

BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC
WIDTH, DEPTH = 48, 2


def checkpoint(width: int = WIDTH, depth: int = DEPTH, last: str = "fc_norm") -> plain.State:
    return plain.draw(plain.plain_shapes(width, depth, last), seed=3)


def reference(
    state: plain.State,
    picture: Image.Image,
    *,
    heads: int = 12,
    resample: int = BILINEAR,
    statistics: tuple[tuple[float, ...], ...] = plain.IMAGENET,
    eps: float = 1e-6,
    last: str = "fc_norm",
) -> np.ndarray:
    state = plain.double(state)
    pixels = plain.values(picture.resize((224, 224), resample), *statistics)
    tokens = plain.plain_tokens(pixels, state, heads, eps)
    return plain.norm(tokens[1:].mean(0), state, last, eps).numpy()


def feature(name: str, state: plain.State, folder: Path, picture: Image.Image) -> np.ndarray:
    torch.save(state, folder / "TinyUSFM.pth")
    encoder = load_encoder(f"{name}={folder / 'TinyUSFM.pth'}")
    return encoder.encode(encoder.prepare(picture)[None])[0]


@pytest.fixture
def name(narrow: Callable[..., str]) -> str:
    # The number of heads is the listed encoder's own.
    return narrow("tinyusfm", "TINYUSFM", WIDTH, embed_dim=WIDTH, depth=DEPTH)


@pytest.mark.parametrize("prefix", ["", "model.", "module.", "module.model."])
def test_the_feature_is_the_authors_whatever_starts_the_names(
    name: str, tmp_path: Path, picture: Image.Image, prefix: str
) -> None:
    state = checkpoint()
    named = {prefix + key: tensor for key, tensor in state.items()}
    assert plain.apart(feature(name, named, tmp_path, picture), reference(state, picture)) < 1e-4


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    ("timm's three heads", {"heads": 3}),
    ("bicubic for bilinear", {"resample": BICUBIC}),
    ("mean and std of a half", {"statistics": ((0.5,) * 3, (0.5,) * 3)}),
    ("PyTorch's own eps", {"eps": 1e-5}),
    ("a norm left at its start", {"last": ""}),
]


@pytest.mark.parametrize(("mistake", "changes"), MISTAKES, ids=[case[0] for case in MISTAKES])
def test_the_comparison_notices(
    name: str, tmp_path: Path, picture: Image.Image, mistake: str, changes: dict[str, Any]
) -> None:
    state = checkpoint()
    found = feature(name, state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, **changes)) > 1e-4


def test_timm_s_own_heads_load_just_as_strictly(tmp_path: Path, picture: Image.Image) -> None:
    """Why a loader that knows shapes alone is not enough."""
    from embedcache.encoders.families.timm_model import create

    tiny = create("vit_tiny_patch16_224", embed_dim=WIDTH, depth=DEPTH, global_pool="avg")
    tiny.load_state_dict(checkpoint(), strict=True)
    assert tiny.blocks[0].attn.num_heads == 3


def test_a_file_without_fc_norm_is_refused_and_has_a_variant_of_its_own(
    name: str, tmp_path: Path, picture: Image.Image
) -> None:
    state = checkpoint(last="norm")
    with pytest.raises(WeightsMismatchError, match=r"fc_norm\.weight"):
        feature(name, state, tmp_path, picture)
    found = feature(f"{name}@untrained-norm", state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture, last="")) < 1e-4


def test_a_classifier_is_left_out(name: str, tmp_path: Path, picture: Image.Image) -> None:
    state = checkpoint()
    tuned = {**state, "head.weight": torch.ones(5, WIDTH), "head.bias": torch.ones(5)}
    assert plain.apart(feature(name, tuned, tmp_path, picture), reference(state, picture)) < 1e-4


def test_two_norms_that_change_places_are_noticed(
    name: str, tmp_path: Path, picture: Image.Image
) -> None:
    state = checkpoint()
    moved = plain.swapped(state, "fc_norm.weight", "blocks.0.norm1.weight")
    assert plain.apart(feature(name, moved, tmp_path, picture), reference(state, picture)) > 1e-4


def test_random_weights_have_the_published_layout() -> None:
    drawn = untrained(0, width=WIDTH, depth=DEPTH)
    assert {key: value.shape for key, value in drawn.items()} == {
        f"model.{key}": value.shape for key, value in checkpoint().items()
    }


def test_the_published_layout_is_as_large_as_the_published_file() -> None:
    numbers = sum(int(np.prod(shape)) for shape in layout().values())
    assert TINYUSFM.parameters == numbers
    # more-encoders.md: about 22 MB.
    assert round(4 * numbers / 1e6) == 22


@pytest.mark.slow
def test_at_full_size_the_feature_is_the_authors(tmp_path: Path, picture: Image.Image) -> None:
    state = checkpoint(width=192, depth=12)
    found = feature("tinyusfm", state, tmp_path, picture)
    assert plain.apart(found, reference(state, picture)) < 1e-4
