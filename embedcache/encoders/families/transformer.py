"""Names and shapes of plain vision transformers' tensors, as timm and the MAE code write them."""

from __future__ import annotations

from embedcache.encoders.families.untrained import Layout


def blocks(name: str, width: int, depth: int) -> Layout:
    """The blocks `name.0` to `name.{depth - 1}`: attention with biases, MLP four times as wide."""
    block = {
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.qkv.bias": (3 * width,),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,),
        "mlp.fc2.weight": (width, 4 * width),
        "mlp.fc2.bias": (width,),
    }
    return {f"{name}.{i}.{part}": shape for i in range(depth) for part, shape in block.items()}


def trunk(width: int, depth: int, norm: str, grid: int = 14) -> Layout:
    """A transformer on patches of 16 with a class token, and its last norm under the name given."""
    return {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + grid**2, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        **blocks("blocks", width, depth),
        f"{norm}.weight": (width,),
        f"{norm}.bias": (width,),
    }
