"""Vision transformers from their papers' maths, a picture at a time, in float64.

Nothing here comes from embedcache or timm: layer norm (Ba et al., 2016), attention (Vaswani et
al., 2017), patches and class token (Dosovitskiy et al., 2021).
"""

from __future__ import annotations

import math

import numpy as np
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image
from torch import Tensor  # noqa: TID253  # nothing here runs without it

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
State = dict[str, Tensor]


def values(
    picture: Image.Image,
    mean: tuple[float, ...] = IMAGENET[0],
    std: tuple[float, ...] = IMAGENET[1],
) -> Tensor:
    """A fitted picture as (3, h, w), scaled and normalised."""
    scaled = torch.from_numpy(np.asarray(picture, np.float64)).permute(2, 0, 1) / 255
    middle, spread = (torch.tensor(part, dtype=torch.float64) for part in (mean, std))
    return (scaled - middle[:, None, None]) / spread[:, None, None]


def centre(picture: Image.Image, resized: int, side: int, resample: int) -> Image.Image:
    """The shorter side resized, the middle kept."""
    short = min(picture.size)
    size = tuple(resized * length // short for length in picture.size)
    left, top = (round((length - side) / 2) for length in size)
    return picture.resize(size, resample).crop((left, top, left + side, top + side))


class Doubled(dict[str, Tensor]):
    """Tensors in float64, each as it is used: the largest networks would not fit twice."""

    def __getitem__(self, key: str) -> Tensor:
        value = super().__getitem__(key)
        return value.double() if value.is_floating_point() else value

    def get(self, key: str, default: object = None) -> object:
        return self[key] if key in self else default  # noqa: SIM401  # get is what this is


def double(state: State) -> State:
    return Doubled(state)


def norm(x: Tensor, state: State, name: str, eps: float) -> Tensor:
    """Each row to mean 0 and variance 1, then scaled and shifted; plainly where name is empty."""
    spread = ((x - x.mean(-1, keepdim=True)) ** 2).mean(-1, keepdim=True)
    normal = (x - x.mean(-1, keepdim=True)) / (spread + eps).sqrt()
    return normal * state[f"{name}.weight"] + state[f"{name}.bias"] if name else normal


def linear(x: Tensor, state: State, name: str) -> Tensor:
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def gelu(x: Tensor) -> Tensor:
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def patches(image: Tensor, state: State, name: str = "patch_embed.proj") -> Tensor:
    """(3, h, w) -> a row a patch, row by row of the picture."""
    weight = state[f"{name}.weight"]
    side = weight.shape[-1]
    rows, columns = image.shape[1] // side, image.shape[2] // side
    cut = image.reshape(3, rows, side, columns, side).permute(1, 3, 0, 2, 4)
    return cut.reshape(rows * columns, -1) @ weight.flatten(1).T + state[f"{name}.bias"]


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None) -> Tensor:
    """Softmax of scaled products, head by head; bias (heads, n, n) is added before the softmax."""
    size = query.shape[1] // heads
    each = []
    for head in range(heads):
        mine = slice(head * size, (head + 1) * size)
        scores = query[:, mine] @ key[:, mine].T / math.sqrt(size)
        if bias is not None:
            scores = scores + bias[head]
        each.append(scores.softmax(-1) @ value[:, mine])
    return torch.cat(each, dim=1)


def block(x: Tensor, state: State, name: str, heads: int, eps: float) -> Tensor:
    """One block with biases; LayerScale where the state has it (`ls1.gamma`)."""
    projected = linear(norm(x, state, f"{name}.norm1", eps), state, f"{name}.attn.qkv")
    mixed = attention(*projected.chunk(3, dim=1), heads, None)
    x = x + linear(mixed, state, f"{name}.attn.proj") * state.get(f"{name}.ls1.gamma", 1)
    inner = gelu(linear(norm(x, state, f"{name}.norm2", eps), state, f"{name}.mlp.fc1"))
    return x + linear(inner, state, f"{name}.mlp.fc2") * state.get(f"{name}.ls2.gamma", 1)


def depth(state: State) -> int:
    return 1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks."))


def plain_tokens(image: Tensor, state: State, heads: int, eps: float = 1e-6) -> Tensor:
    """ViT: class token, positions for all tokens, blocks; (1 + patches, width), not normed."""
    x = torch.cat((state["cls_token"][0], patches(image, state))) + state["pos_embed"][0]
    for number in range(depth(state)):
        x = block(x, state, f"blocks.{number}", heads, eps)
    return x


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    """Tensors of all sorts of size, none of them at its usual start; a stem small enough that the
    number added to variances shows."""
    rng = np.random.default_rng(seed)
    drawn = {}
    for name, shape in shapes.items():
        noise = rng.normal(size=shape)
        scale = 1 / math.sqrt(math.prod(shape[1:])) if len(shape) == 2 else 0.3
        if len(shape) == 1 and name.endswith(("weight", "gamma", "gamma_1", "gamma_2")):
            noise = noise * 0.3 + 1
        elif "table" in name:
            noise = noise * 2
        elif "patch_embed" in name or name in ("cls_token", "pos_embed", "reg_token"):
            noise = noise * 0.03 / (1 if len(shape) < 4 else math.sqrt(math.prod(shape[1:])))
        else:
            noise = noise * scale
        drawn[name] = torch.tensor(noise, dtype=torch.float32)
    return drawn


def plain_shapes(width: int, blocks: int, last: str, grid: int = 14) -> dict[str, tuple[int, ...]]:
    """A ViT's tensors on patches of 16, as the MAE code and timm name them."""
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, grid * grid + 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
    }
    for number in range(blocks):
        shapes |= block_shapes(f"blocks.{number}", width)
    return shapes | {f"{last}.weight": (width,), f"{last}.bias": (width,)}


def block_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    rows = {"attn.qkv": 3 * width, "attn.proj": width, "mlp.fc1": 4 * width, "mlp.fc2": width}
    shapes = {}
    for part in ("norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"):
        out = rows.get(part, width)
        into = 4 * width if part == "mlp.fc2" else width
        shapes[f"{name}.{part}.weight"] = (out, into) if part in rows else (out,)
        shapes[f"{name}.{part}.bias"] = (out,)
    return shapes


def swapped(state: State, first: str, second: str) -> State:
    assert state[first].shape == state[second].shape
    return {**state, first: state[second], second: state[first]}


def apart(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference, relative to the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())
