"""UltraSAM's encoder against SAM's published maths, restated with plain loops over windows."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image
from torch import Tensor  # noqa: TID253  # nothing here runs without it
from torch.nn import functional  # noqa: TID253  # nothing here runs without it

from embedcache.encoders.families.ultrasam import ULTRASAM, layout, untrained
from embedcache.encoders.resolve import load_encoder, resolve
from embedcache.errors import WeightsMismatchError

#: The published layout with fewer blocks and channels: two blocks see the whole map.
NARROW: dict[str, Any] = {"width": 32, "depth": 4, "heads": 4, "neck": 16, "whole": (1, 3)}
FACTORY = """
from dataclasses import replace
from functools import partial
from embedcache.encoders.families.ultrasam import ULTRASAM, build

SHAPE = dict(embed_dim=32, depth=4, num_heads=4, neck_chans=16, global_attn_indexes=(1, 3))

def narrowed(variant):
    build_ = variant.build and partial(variant.build, **SHAPE)
    return replace(variant, build=build_, dim=variant.dim and 16)

def narrow():
    variants = {name: narrowed(variant) for name, variant in ULTRASAM.variants.items()}
    return replace(ULTRASAM, dim=32, build=partial(build, **SHAPE), variants=variants)
"""
WINDOW = 14
#: As mmengine keeps a curve: an object of its own around arrays, with methods by name.
HISTORY = """
import numpy

class HistoryBuffer:
    def __init__(self, values):
        self._log_history = numpy.array(values)
        self._statistics_methods = {"mean": HistoryBuffer.mean}

    def mean(self):
        return self._log_history.mean()
"""


def relative(line: Tensor, size: int) -> Tensor:
    """The embedding of each pair of places on one axis: (size, size, channels)."""
    if len(line) != 2 * size - 1:
        line = functional.interpolate(line.T[None], 2 * size - 1, mode="linear")[0].T
    place = torch.arange(size)
    return line[place[:, None] - place[None] + size - 1]


def attention(tokens: Tensor, given: dict[str, Tensor], heads: int) -> Tensor:
    """All tokens of a map (b, h, w, c) attend to each other, with decomposed positions."""
    count, high, wide, width = tokens.shape
    size = width // heads
    qkv = functional.linear(tokens, given["attn.qkv.weight"], given["attn.qkv.bias"])
    along_h = relative(given["attn.rel_pos_h"], high)
    along_w = relative(given["attn.rel_pos_w"], wide)
    each = []
    for head in range(heads):
        query, key, value = (
            qkv[..., part * width + head * size :][..., :size].reshape(count, high * wide, size)
            for part in range(3)
        )
        scores = (query @ key.transpose(1, 2) / size**0.5).reshape(count, high, wide, high, wide)
        square = query.reshape(count, high, wide, size)
        scores = scores + torch.einsum("nhwc,hkc->nhwk", square, along_h)[..., :, None]
        scores = scores + torch.einsum("nhwc,wkc->nhwk", square, along_w)[..., None, :]
        each.append(scores.reshape(count, high * wide, -1).softmax(dim=-1) @ value)
    joined = torch.cat(each, dim=-1).reshape(count, high, wide, width)
    return functional.linear(joined, given["attn.proj.weight"], given["attn.proj.bias"])


def windowed(tokens: Tensor, given: dict[str, Tensor], heads: int) -> Tensor:
    """Attention within windows of 14 by 14; the last ones are filled up with zeros."""
    side = tokens.shape[1]
    full = -(-side // WINDOW) * WINDOW
    padded = functional.pad(tokens, (0, 0, 0, full - side, 0, full - side))
    for top in range(0, full, WINDOW):
        for left in range(0, full, WINDOW):
            rows, columns = slice(top, top + WINDOW), slice(left, left + WINDOW)
            padded[:, rows, columns] = attention(padded[:, rows, columns], given, heads)
    return padded[:, :side, :side]


def normal(tokens: Tensor, given: dict[str, Tensor], name: str) -> Tensor:
    weight, bias = given[f"{name}.weight"], given[f"{name}.bias"]
    return functional.layer_norm(tokens, tokens.shape[-1:], weight, bias, eps=1e-6)


def below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def last_tokens(
    pixels: Tensor, state: dict[str, Tensor], size: dict[str, Any], positions: str = "bicubic"
) -> Tensor:
    """(b, 3, s, s) normalised -> (b, s / 16, s / 16, width), before the neck."""
    given = below(state, "backbone.")
    stem = (given["patch_embed.projection.weight"], given["patch_embed.projection.bias"])
    tokens = functional.conv2d(pixels, *stem, stride=16).permute(0, 2, 3, 1)
    place = given["pos_embed"].permute(0, 3, 1, 2)
    if place.shape[2] != tokens.shape[1]:
        place = functional.interpolate(place, tokens.shape[1:3], mode=positions)
    tokens = tokens + place.permute(0, 2, 3, 1)
    for number in range(size["depth"]):
        own = below(given, f"layers.{number}.")
        attend = attention if number in size["whole"] else windowed
        tokens = tokens + attend(normal(tokens, own, "ln1"), own, size["heads"])
        hidden = functional.linear(
            normal(tokens, own, "ln2"), own["ffn.layers.0.0.weight"], own["ffn.layers.0.0.bias"]
        )
        hidden = hidden * (1 + torch.erf(hidden / 2**0.5)) / 2
        tokens = tokens + functional.linear(
            hidden, own["ffn.layers.1.weight"], own["ffn.layers.1.bias"]
        )
    return tokens


def behind_neck(tokens: Tensor, state: dict[str, Tensor]) -> Tensor:
    """SAM's neck: two convolutions without bias, each followed by a norm over channels."""
    given = below(state, "backbone.channel_reduction.")
    map_ = functional.conv2d(tokens.permute(0, 3, 1, 2), given["0.weight"]).permute(0, 2, 3, 1)
    map_ = normal(map_, given, "1").permute(0, 3, 1, 2)
    map_ = functional.conv2d(map_, given["2.weight"], padding=1).permute(0, 2, 3, 1)
    return normal(map_, given, "3")


def plainly_prepared(
    picture: np.ndarray, side: int, *, pad: str = "before", filter_: int = cv2.INTER_LINEAR
) -> Tensor:
    """The authors' pipelines, on values from 0 to 255."""
    height, width = picture.shape[:2]
    factor = min(side / max(height, width), side / min(height, width))
    size = (int(width * factor), int(height * factor))
    resized = cv2.resize(picture, size, interpolation=filter_).astype(np.float64)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    frame = np.zeros((side, side, 3)) if pad == "after" else np.tile(-mean / std, (side, side, 1))
    frame[: size[1], : size[0]] = (resized - mean) / std
    return torch.from_numpy(frame.astype(np.float32).transpose(2, 0, 1))


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (300, 410, 3)).astype(np.uint8)


def published(seed: int = 0, **size: Any) -> dict[str, Any]:
    """A file as mmengine saves it, without the history that its own test adds."""
    around = {"decoder.layers.0.norm.weight": torch.ones(4), "bbox_head.iou.bias": torch.ones(1)}
    around["prompt_encoder.label_encoder.weight"] = torch.rand(4, 8)
    return {"meta": {"epoch": 3, "seed": 0}, "state_dict": {**untrained(seed, **size), **around}}


def features(folder: Path, file: dict[str, Any], *pictures: np.ndarray, ask: str) -> np.ndarray:
    """Through the public way: a saved file, a narrow network from a Python file."""
    torch.save(file, folder / "UltraSam.pth")
    (folder / "narrow.py").write_text(FACTORY)
    encoder = load_encoder(f"{folder}/narrow.py:narrow@{ask}={folder}/UltraSam.pth")
    return encoder.encode(np.stack([encoder.prepare(Image.fromarray(one)) for one in pictures]))


def apart(found: np.ndarray, expected: Tensor) -> float:
    return float(np.linalg.norm(found - expected.numpy()) / np.linalg.norm(expected.numpy()))


def expected(file: dict[str, Any], *pictures: np.ndarray, side: int = 256, **how: Any) -> Tensor:
    ready = torch.stack([plainly_prepared(one, side, **how) for one in pictures])
    return last_tokens(ready, file["state_dict"], NARROW).mean(dim=(1, 2))


@torch.inference_mode()
@pytest.mark.parametrize("pad", ["before", "after"])
@pytest.mark.parametrize("side", [256, 512])
def test_features_are_those_of_the_published_maths(tmp_path: Path, side: int, pad: str) -> None:
    file, pictures = published(**NARROW), (picture(0), picture(1).transpose(1, 0, 2).copy())
    ask = f"{side}@pad-after" if pad == "after" else str(side)
    found = features(tmp_path, file, *pictures, ask=ask)
    assert found.shape == (2, 32)
    assert apart(found, expected(file, *pictures, side=side, pad=pad)) < 1e-4


@torch.inference_mode()
def test_the_neck_is_behind_the_same_tokens(tmp_path: Path) -> None:
    file = published(**NARROW)
    found = features(tmp_path, file, picture(), ask="256@neck")
    tokens = last_tokens(plainly_prepared(picture(), 256)[None], file["state_dict"], NARROW)
    assert found.shape == (1, 16)
    assert apart(found, behind_neck(tokens, file["state_dict"]).mean(dim=(1, 2))) < 1e-4


SWAPS = [
    ("layers.0.attn.rel_pos_h", "layers.0.attn.rel_pos_w"),
    ("layers.1.attn.rel_pos_h", "layers.1.attn.rel_pos_w"),
    ("layers.2.ln1.weight", "layers.2.ln2.weight"),
    ("layers.1.attn.proj.weight", "layers.3.attn.proj.weight"),
]


@torch.inference_mode()
@pytest.mark.parametrize(("one", "other"), SWAPS, ids=[first for first, _ in SWAPS])
def test_two_tensors_of_one_shape_that_change_places_are_noticed(
    tmp_path: Path, one: str, other: str
) -> None:
    file = published(**NARROW)
    right, state = expected(file, picture()), dict(file["state_dict"])
    one, other = f"backbone.{one}", f"backbone.{other}"
    state[one], state[other] = state[other], state[one]
    found = features(tmp_path, {**file, "state_dict": state}, picture(), ask="256")
    assert apart(found, right) > 1e-3


@torch.inference_mode()
def test_other_preprocessing_is_noticed(tmp_path: Path) -> None:
    file = published(**NARROW)
    found = features(tmp_path, file, picture(), ask="256")
    assert apart(found, expected(file, picture(), filter_=cv2.INTER_CUBIC)) > 1e-3
    assert apart(found, expected(file, picture(), pad="after")) > 1e-3
    assert apart(found, expected(file, picture()[:, :, ::-1].copy())) > 1e-3


@torch.inference_mode()
def test_positions_resized_by_another_filter_are_noticed(tmp_path: Path) -> None:
    file = published(**NARROW)
    found = features(tmp_path, file, picture(), ask="256")
    ready = plainly_prepared(picture(), 256)[None]
    bilinear = last_tokens(ready, file["state_dict"], NARROW, positions="bilinear")
    assert apart(found, bilinear.mean(dim=(1, 2))) > 1e-3


@torch.inference_mode()
def test_windows_in_another_order_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = published(**NARROW)
    found = features(tmp_path, file, picture(), ask="256")
    monkeypatch.setattr(f"{__name__}.WINDOW", 15)
    state = {
        key: functional.interpolate(value.T[None], 29, mode="linear")[0].T
        if "rel_pos" in key and len(value) == 27
        else value
        for key, value in file["state_dict"].items()
    }
    assert apart(found, expected({"state_dict": state}, picture())) > 1e-3


@torch.inference_mode()
def test_mmengine_s_history_of_the_training_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = ModuleType("mmengine.logging.history_buffer")
    exec(HISTORY, module.__dict__)  # a class that the reader must not find
    for name in ("mmengine", "mmengine.logging", module.__name__):
        monkeypatch.setitem(
            sys.modules, name, module if name == module.__name__ else ModuleType(name)
        )
    file = published(**NARROW)
    history = module.HistoryBuffer([0.5, 0.25])
    file["message_hub"] = {"log_scalars": {"train/loss": history}, "runtime_info": {"iter": 9}}
    torch.save(file, tmp_path / "UltraSam.pth")
    monkeypatch.undo()
    (tmp_path / "narrow.py").write_text(FACTORY)
    encoder = load_encoder(f"{tmp_path}/narrow.py:narrow@256={tmp_path}/UltraSam.pth")
    found = encoder.encode(encoder.prepare(Image.fromarray(picture()))[None])
    assert apart(found, expected(file, picture())) < 1e-4


def test_sizes_and_paddings_are_encoders_of_their_own() -> None:
    asked = ("ultrasam", "ultrasam@256", "ultrasam@512", "ultrasam@pad-after", "ultrasam@neck")
    contracts = [resolve(f"{one}=random").contract for one in (*asked, "ultrasam@256@pad-after")]
    assert len({contract.feature_id for contract in contracts}) == 6
    last = contracts[-1].preprocessing
    assert (last.height, last.width, last.pad) == (256, 256, "after")
    assert [contract.dim for contract in contracts] == [768, 768, 768, 768, 256, 768]


def test_the_layout_has_as_many_tensors_and_parameters_as_sam_s() -> None:
    sizes = layout()
    # 12 blocks of 14, 6 of the neck, 3 of the patches and places
    assert len(sizes) == 12 * 14 + 6 + 3
    pooled = {name: size for name, size in sizes.items() if "channel_reduction" not in name}
    assert sum(int(np.prod(size)) for size in pooled.values()) == ULTRASAM.parameters


def test_a_file_that_is_no_ultrasam_is_refused_by_name(tmp_path: Path) -> None:
    file = published(**NARROW)
    bare = {key.removeprefix("backbone."): value for key, value in file["state_dict"].items()}
    with pytest.raises(WeightsMismatchError, match=r"backbone\.pos_embed"):
        features(tmp_path, {"state_dict": bare}, picture(), ask="256")
    del file["state_dict"]["backbone.channel_reduction.2.weight"]
    with pytest.raises(WeightsMismatchError, match=r"backbone\.neck\.2\.weight"):
        features(tmp_path, file, picture(), ask="256")


@pytest.mark.slow
@torch.inference_mode()
def test_the_full_network_gives_the_features_of_the_published_maths(tmp_path: Path) -> None:
    file, size = published(), {"depth": 12, "heads": 12, "whole": (2, 5, 8, 11)}
    torch.save(file, tmp_path / "UltraSam.pth")
    encoder = load_encoder(f"ultrasam={tmp_path}/UltraSam.pth")
    found = encoder.encode(encoder.prepare(Image.fromarray(picture()))[None])
    ready = plainly_prepared(picture(), 1024)[None]
    assert apart(found, last_tokens(ready, file["state_dict"], size).mean(dim=(1, 2))) < 1e-4
