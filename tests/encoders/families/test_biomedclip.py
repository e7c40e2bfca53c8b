"""BiomedCLIP against the vision transformer's published mathematics in plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
import torch.nn.functional as F  # noqa: N812, TID253  # as torch's own documents call it
from PIL import Image

from embedcache.encoders.families import biomedclip
from embedcache.encoders.families.biomedclip import TrunkSize
from embedcache.encoders.resolve import load_encoder
from embedcache.errors import WeightsMismatchError

State = dict[str, torch.Tensor]

NARROW = TrunkSize(width=48, layers=2, heads=12, dim=20)
#: CLIP's own constants (openai/CLIP, clip.py).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def layout(size: TrunkSize) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the image half in open_clip_pytorch_model.bin."""
    width = size.width
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 197, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    linears = {"attn.qkv": (3, 1), "attn.proj": (1, 1), "mlp.fc1": (4, 1), "mlp.fc2": (1, 4)}
    for layer in range(size.layers):
        for name, (out, into) in linears.items():
            shapes[f"blocks.{layer}.{name}.weight"] = (out * width, into * width)
            shapes[f"blocks.{layer}.{name}.bias"] = (out * width,)
        for name in ("norm1", "norm2"):
            shapes[f"blocks.{layer}.{name}.weight"] = (width,)
            shapes[f"blocks.{layer}.{name}.bias"] = (width,)
    trunk = {f"visual.trunk.{name}": shape for name, shape in shapes.items()}
    return {**trunk, "visual.head.proj.weight": (size.dim, width)}


def drawn(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        norm = "norm" in name and name.endswith("weight")
        fan_in = float(np.prod(shape[1:])) if len(shape) > 1 else 9.0
        state[name] = 1 + noise / 5 if norm else noise / fan_in**0.5
    return state


@pytest.fixture(scope="module")
def state() -> State:
    return drawn(layout(NARROW), seed=4)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(biomedclip, "SPEC", biomedclip.specify(NARROW))


@pytest.fixture(scope="module")
def file(state: State, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "open_clip_pytorch_model.bin"
    text = {"text.proj.0.weight": torch.zeros(3, 3), "logit_scale": torch.tensor(4.4)}
    torch.save({**state, **text}, path)
    return path


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    pixels = np.random.default_rng(8).integers(0, 256, (230, 341, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def tensor_of(
    picture: Image.Image,
    mean: object = MEAN,
    std: object = STD,
    resample: Image.Resampling = Image.Resampling.BICUBIC,
) -> torch.Tensor:
    width, height = picture.size
    short = min(width, height)
    size = (int(224 * width / short), int(224 * height / short))
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    cropped = picture.resize(size, resample).crop((left, top, left + 224, top + 224))
    values = (np.asarray(cropped, np.float32) / 255 - np.float32(mean)) / np.float32(std)
    return torch.from_numpy(values.transpose(2, 0, 1).copy())[None]


def class_token(state: State, x: torch.Tensor, heads: int = NARROW.heads) -> torch.Tensor:
    own = {k.removeprefix("visual.trunk."): v for k, v in state.items()}
    width = own["cls_token"].shape[-1]

    def normed(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (width,), own[f"{name}.weight"], own[f"{name}.bias"], eps=1e-6)

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return x @ own[f"{name}.weight"].T + own[f"{name}.bias"]

    kernel, bias = own["patch_embed.proj.weight"], own["patch_embed.proj.bias"]
    patches = F.conv2d(x, kernel, bias, stride=16).flatten(2).transpose(1, 2)
    x = torch.cat([own["cls_token"], patches], 1) + own["pos_embed"]
    for layer in range(NARROW.layers):
        qkv = linear(normed(x, f"blocks.{layer}.norm1"), f"blocks.{layer}.attn.qkv")
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in qkv.chunk(3, -1))
        mixed = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v
        x = x + linear(mixed.transpose(1, 2).flatten(2), f"blocks.{layer}.attn.proj")
        y = F.gelu(linear(normed(x, f"blocks.{layer}.norm2"), f"blocks.{layer}.mlp.fc1"))
        x = x + linear(y, f"blocks.{layer}.mlp.fc2")
    return normed(x, "norm")[:, 0]


def projected(state: State, x: torch.Tensor, heads: int = NARROW.heads) -> torch.Tensor:
    return class_token(state, x, heads) @ state["visual.head.proj.weight"].T


def difference(found: np.ndarray, expected: torch.Tensor) -> float:
    return float(np.abs(found - expected.numpy()).max() / expected.abs().max())


def encoded(asked: str, picture: Image.Image) -> np.ndarray:
    encoder = load_encoder(asked)
    return encoder.encode(encoder.prepare(picture)[None])


@pytest.mark.usefixtures("narrow")
def test_features_are_those_of_the_published_mathematics(
    file: Path, state: State, picture: Image.Image
) -> None:
    x = tensor_of(picture)
    assert difference(encoded(f"biomedclip={file}", picture), projected(state, x)) < 1e-4
    assert difference(encoded(f"biomedclip@cls={file}", picture), class_token(state, x)) < 1e-4


def swapped(state: State) -> State:
    first, second = (f"visual.trunk.blocks.{k}.mlp.fc1.weight" for k in (0, 1))
    return {**state, first: state[second], second: state[first]}


MUTATIONS: dict[str, Callable[[State, Image.Image], torch.Tensor]] = {
    "two tensors that change places": lambda s, p: projected(swapped(s), tensor_of(p)),
    "ImageNet's mean and std": lambda s, p: projected(
        s, tensor_of(p, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    ),
    "bilinear for bicubic": lambda s, p: projected(
        s, tensor_of(p, resample=Image.Resampling.BILINEAR)
    ),
    "3 heads for 12": lambda s, p: projected(s, tensor_of(p), heads=3),
}


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_comparison_would_notice(
    mutation: str, file: Path, state: State, picture: Image.Image
) -> None:
    found = encoded(f"biomedclip={file}", picture)
    assert difference(found, MUTATIONS[mutation](state, picture)) > 1e-3


@pytest.mark.usefixtures("narrow")
def test_a_checkpoint_that_lacks_or_holds_more_is_refused(state: State, tmp_path: Path) -> None:
    more = {**state, "visual.trunk.fc_norm.weight": torch.ones(48)}
    less = {key: tensor for key, tensor in state.items() if not key.endswith("trunk.norm.bias")}
    for name, content in (("fc_norm", more), ("norm", less)):
        torch.save(content, tmp_path / "other.bin")
        with pytest.raises(WeightsMismatchError, match=name):
            load_encoder(f"biomedclip={tmp_path / 'other.bin'}")


def test_untrained_weights_have_the_published_layout() -> None:
    specified = biomedclip.specify(NARROW)
    assert specified.untrained is not None
    shapes = {key: tuple(tensor.shape) for key, tensor in specified.untrained(0).items()}
    assert shapes == layout(NARROW)
