"""MOFO's encoder against its published maths, restated with plain loops over stripes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image
from torch import Tensor  # noqa: TID253  # nothing here runs without it
from torch.nn import functional  # noqa: TID253  # nothing here runs without it

from embedcache.encoders.families.mofo import MOFO, SMALL, Shape, layout, untrained
from embedcache.encoders.resolve import load_encoder, resolve
from embedcache.errors import WeightsMismatchError

#: The published layout with fewer blocks and channels.
NARROW = Shape(dim=16, depth=(1, 2, 2, 1), heads=(2, 4, 4, 8))
FACTORY = (
    "from embedcache.encoders.families.mofo import Shape, mofo\n"
    "def narrow():\n"
    f"    return mofo({NARROW!r})\n"
)
PREFIX = "_backbone_encoder."


def attention(qkv: Tensor, weight: Tensor, bias: Tensor, heads: int) -> Tensor:
    """Attention within one stripe (b, high, wide, 3, dim), with its local enhancement."""
    count, high, wide, _, dim = qkv.shape
    query, key, value = (part.reshape(count, high * wide, dim) for part in qkv.unbind(3))
    size = dim // heads
    each = []
    for head in range(heads):
        mine = slice(head * size, (head + 1) * size)
        scores = query[..., mine] @ key[..., mine].transpose(1, 2) / size**0.5
        each.append(scores.softmax(dim=-1) @ value[..., mine])
    values = value.transpose(1, 2).reshape(count, dim, high, wide)
    near = functional.conv2d(values, weight, bias, padding=1, groups=dim)
    return torch.cat(each, dim=-1).reshape(count, high, wide, dim) + near.permute(0, 2, 3, 1)


def cross_shaped(
    tokens: Tensor, given: dict[str, Tensor], split: int, heads: int, *, turned: bool
) -> Tensor:
    """All stripes of a map (b, side, side, 3, dim): half the channels upright, half level."""
    if turned:  # a mistake that tests must notice
        tokens = tokens.transpose(1, 2)
    side, dim = tokens.shape[1], tokens.shape[4]
    filters = [(given[f"attns.{i}.get_v.weight"], given[f"attns.{i}.get_v.bias"]) for i in (0, 1)]
    output = torch.zeros_like(tokens[..., 0, :])
    half = dim // 2
    for start in range(0, side, split):
        stripe = slice(start, start + split)
        output[:, :, stripe, :half] = attention(
            tokens[:, :, stripe, :, :half], *filters[0], heads // 2
        )
        output[:, stripe, :, half:] = attention(
            tokens[:, stripe, :, :, half:], *filters[1], heads // 2
        )
    return output.transpose(1, 2) if turned else output


def block(
    tokens: Tensor, given: dict[str, Tensor], split: int, heads: int, *, turned: bool
) -> Tensor:
    dim = tokens.shape[-1]
    normal = functional.layer_norm(tokens, (dim,), given["norm1.weight"], given["norm1.bias"])
    qkv = functional.linear(normal, given["qkv.weight"], given["qkv.bias"])
    qkv = torch.stack(torch.split(qkv, dim, dim=-1), dim=3)
    if tokens.shape[1] == split:
        whole = (given["attns.0.get_v.weight"], given["attns.0.get_v.bias"])
        attended = attention(qkv, *whole, heads)
    else:
        attended = cross_shaped(qkv, given, split, heads, turned=turned)
    tokens = tokens + functional.linear(attended, given["proj.weight"], given["proj.bias"])
    normal = functional.layer_norm(tokens, (dim,), given["norm2.weight"], given["norm2.bias"])
    hidden = functional.linear(normal, given["mlp.fc1.weight"], given["mlp.fc1.bias"])
    hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
    return tokens + functional.linear(hidden, given["mlp.fc2.weight"], given["mlp.fc2.bias"])


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def stem(pixels: Tensor, given: dict[str, Tensor]) -> Tensor:
    for place, stride in ((0, 2), (3, 1)):
        weight, bias = (given[f"stage1_conv_embed.{place}.{name}"] for name in ("weight", "bias"))
        map_ = functional.conv2d(pixels, weight, bias, stride=stride, padding=1)
        mean = map_.mean((2, 3), keepdim=True)
        map_ = (map_ - mean) / (map_.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
        pixels = torch.where(map_ > 0, map_, 0.01 * map_)
    return pixels


def reference(
    pixels: Tensor, state: dict[str, Tensor], shape: Shape, *, turned: bool = False
) -> Tensor:
    """(b, 3, 224, 224) from 0 to 1 -> (b, dim): the mean of the last stage's map."""
    given = below(state, PREFIX)
    map_ = stem(pixels, given)
    for stage in range(4):
        merge = below(given, f"merge{stage}.")
        map_ = functional.conv2d(
            map_, merge["conv.weight"], merge["conv.bias"], stride=2, padding=1
        )
        tokens = map_.permute(0, 2, 3, 1)
        tokens = functional.layer_norm(
            tokens, tokens.shape[3:], merge["norm.weight"], merge["norm.bias"]
        )
        for number in range(shape.depth[stage]):
            own = below(given, f"stage{stage + 1}.{number}.")
            tokens = block(tokens, own, shape.split[stage], shape.heads[stage], turned=turned)
        map_ = tokens.permute(0, 3, 1, 2)
    return map_.mean(dim=(2, 3))


def picture(seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (300, 410, 3))
    return Image.fromarray(values.astype(np.uint8)).resize((410, 300))


def plainly_prepared(image: Image.Image) -> Tensor:
    """infer.py of upstream: PIL's bicubic squash, values from 0 to 1."""
    resized = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC))
    return torch.from_numpy(resized.astype(np.float32).transpose(2, 0, 1) / 255)


def published(seed: int = 0, shape: Shape = NARROW) -> dict[str, Tensor]:
    """A file as upstream saves it: the encoder, and the rest of the network around it."""
    around = {"prompt_encoding": torch.rand(4, 8), "_decoder.up1.conv.weight": torch.rand(8, 8)}
    return {**around, **untrained(seed, shape)}


def features(folder: Path, state: dict[str, Tensor], *images: Image.Image) -> np.ndarray:
    """Through the public way: a saved file, a narrow network from a Python file."""
    torch.save(state, folder / "mofo_weight_sel.pth")
    (folder / "narrow.py").write_text(FACTORY)
    encoder = load_encoder(f"{folder}/narrow.py:narrow={folder}/mofo_weight_sel.pth")
    return encoder.encode(np.stack([encoder.prepare(image) for image in images]))


def apart(found: np.ndarray, expected: Tensor) -> float:
    return float(np.linalg.norm(found - expected.numpy()) / np.linalg.norm(expected.numpy()))


@torch.inference_mode()
def test_features_are_those_of_the_published_maths(tmp_path: Path) -> None:
    state, images = published(), (picture(0), picture(1).convert("L"))
    expected = reference(torch.stack([plainly_prepared(one) for one in images]), state, NARROW)
    found = features(tmp_path, state, *images)
    assert found.shape == (2, 128)
    assert apart(found, expected) < 1e-4


SWAPS = [
    ("stage1.0.attns.0.get_v.weight", "stage1.0.attns.1.get_v.weight"),
    ("stage3.1.norm1.weight", "stage3.1.norm2.weight"),
    ("stage2.0.proj.weight", "stage2.1.proj.weight"),
    ("merge1.norm.bias", "merge1.conv.bias"),
]


@torch.inference_mode()
@pytest.mark.parametrize(("one", "other"), SWAPS, ids=[first for first, _ in SWAPS])
def test_two_tensors_of_one_shape_that_change_places_are_noticed(
    tmp_path: Path, one: str, other: str
) -> None:
    state = published()
    expected = reference(plainly_prepared(picture())[None], state, NARROW)
    swapped = {**state, PREFIX + one: state[PREFIX + other], PREFIX + other: state[PREFIX + one]}
    assert apart(features(tmp_path, swapped, picture()), expected) > 1e-3


@torch.inference_mode()
def test_other_preprocessing_is_noticed(tmp_path: Path) -> None:
    state = published()
    found = features(tmp_path, state, picture())
    bilinear = picture().resize((224, 224), Image.Resampling.BILINEAR)
    assert apart(found, reference(plainly_prepared(bilinear)[None], state, NARROW)) > 1e-3
    imagenet = (plainly_prepared(picture()) - 0.45) / 0.225
    assert apart(found, reference(imagenet[None], state, NARROW)) > 1e-3


@torch.inference_mode()
def test_stripes_in_another_direction_are_noticed(tmp_path: Path) -> None:
    state = published()
    found = features(tmp_path, state, picture())
    turned = reference(plainly_prepared(picture())[None], state, NARROW, turned=True)
    assert apart(found, turned) > 1e-3


def test_the_layout_has_as_many_tensors_and_parameters_as_upstream_s() -> None:
    names = layout()
    assert len(names) == 660
    used = {k: v for k, v in names.items() if not k.startswith((f"{PREFIX}norm", f"{PREFIX}head"))}
    assert sum(int(np.prod(size)) for size in used.values()) == MOFO.parameters == 34_148_448


@torch.inference_mode()
def test_the_stem_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    state = published()
    renamed = {key.replace("stage1_conv_embed.", "first_convs.conv"): state[key] for key in state}
    assert np.array_equal(
        features(tmp_path, renamed, picture()), features(tmp_path, state, picture())
    )


def test_a_file_without_a_stem_is_refused_by_name(tmp_path: Path) -> None:
    state = {key: tensor for key, tensor in published().items() if "conv_embed" not in key}
    with pytest.raises(WeightsMismatchError, match=r"stem\.0\.weight"):
        features(tmp_path, state, picture())


def test_a_stem_of_three_convolutions_is_refused_by_name(tmp_path: Path) -> None:
    state = published()
    state[f"{PREFIX}stage1_conv_embed.6.weight"] = state[f"{PREFIX}stage1_conv_embed.3.weight"]
    with pytest.raises(WeightsMismatchError, match=r"stage1_conv_embed\.6\.weight"):
        features(tmp_path, state, picture())


def test_another_network_s_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsMismatchError, match="a ResNet"):
        features(tmp_path, {"layer1.0.conv1.weight": torch.rand(4, 4, 1, 1)}, picture())


def test_its_contract_is_known_and_says_what_the_feature_is() -> None:
    resolved = resolve("mofo=random:3")
    assert resolved.contract.dim == 512
    assert resolved.contract.pooling == "average"
    assert "publish no feature" in resolved.notes[0]


@pytest.mark.slow
@torch.inference_mode()
def test_the_full_network_gives_the_features_of_the_published_maths(tmp_path: Path) -> None:
    state = published(shape=SMALL)
    torch.save(state, tmp_path / "mofo_weight_sel.pth")
    encoder = load_encoder(f"mofo={tmp_path}/mofo_weight_sel.pth")
    found = encoder.encode(encoder.prepare(picture())[None])
    assert apart(found, reference(plainly_prepared(picture())[None], state, SMALL)) < 1e-4
