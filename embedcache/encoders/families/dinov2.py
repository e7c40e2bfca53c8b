"""DINOv2 with registers: vision transformers that Meta trained on 142 million curated web images.

Three sizes with patches of 14 and four registers (Darcet et al., 2024): `dinov2-s`, `dinov2` (B)
and `dinov2-l`.

Pooling. The authors' forward gives the class token after the last norm: the default. Their linear
evaluation also reads the mean of the patches: `@cls+mean`; `@mean` is the latter alone.

Preprocessing. The authors' evaluation resizes the shorter side to 256 (bicubic) and crops 224 with
ImageNet's mean and std: the default. The crop cuts the borders of a fan: `@squash` keeps them.
Positions were trained for 518 pixels, and at 224 Meta's code resamples them (bicubic, antialiased,
as it does for the models with registers): done on loading. `@518` squashes the picture to 518,
where nothing is resampled, at six times the work.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families import tokens
from embedcache.encoders.families.imagenet import centre, squash
from embedcache.encoders.families.seen import unknown
from embedcache.encoders.families.timm_file import hub_file, untrained
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.spec import EncoderSpec, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Class token and four registers.
PREFIX = 5
EPS = 1e-6
PATCH = 14

POSITIONS = "pos_embed"


def build(
    state: dict[str, Tensor], *, architecture: str, side: int = 224, **shape: Any
) -> nn.Module:
    """Make the network up to its last block from timm's or Meta's file, strictly.

    Args:
        state: tensors in timm's or Meta's names.
        architecture: timm's name of the size.
        side: of the pictures, pixels; positions are resampled to it.
        shape: of a smaller network of the same layout, in timm's words.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    model = create(architecture, img_size=side, global_pool="", **shape)
    named = timm_names(state)
    if POSITIONS in named:
        named[POSITIONS] = resampled(named[POSITIONS], side // PATCH)
    return tokens.bare(load_strict(model, named))


def timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate Meta's names into timm's; timm's come back as they are.

    Meta's positions start with the class token's, which timm adds to the token itself.
    """
    if "register_tokens" not in state:
        return dict(state)
    named = {key: tensor for key, tensor in state.items() if key != "mask_token"}
    named["reg_token"] = named.pop("register_tokens")
    if POSITIONS in named and "cls_token" in named:
        positions = named[POSITIONS]
        named["cls_token"] = named["cls_token"] + positions[:, :1]
        named[POSITIONS] = positions[:, 1:]
    return named


def resampled(positions: Tensor, side: int) -> Tensor:
    """Resample positions to a square grid, bicubic and antialiased.

    Args:
        positions: (1, n * n, width), row by row.
        side: rows and columns that are wanted.

    Returns:
        (1, side * side, width); the same tensor where the grid fits.
    """
    import torch

    old = round(positions.shape[1] ** 0.5)
    if old in (side, 0) or old * old != positions.shape[1]:
        return positions
    grid = positions.float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    fitted = torch.nn.functional.interpolate(grid, (side, side), mode="bicubic", antialias=True)
    return fitted.flatten(2).transpose(1, 2)


def _pool(rule: tokens.Rule) -> partial[nn.Module]:
    return partial(tokens.pool, rule=rule, eps=EPS, prefix=PREFIX)


def _spec(name: str, size: str, dim: int, parameters: int) -> EncoderSpec:
    architecture = f"vit_{size}_patch14_reg4_dinov2"
    return EncoderSpec(
        name=name,
        dim=dim,
        architecture=f"timm:{architecture}",
        preprocessing=centre(224, 0.875, "bicubic"),
        pooling="layer-norm-then-cls",
        build=partial(build, architecture=architecture),
        pool=_pool("layer-norm-then-cls"),
        sources=(hub_file(f"{architecture}.lvd142m"),),
        untrained=partial(untrained, architecture=architecture),
        variants={
            "mean": Variant(
                about="mean of the patches",
                pooling="layer-norm-then-mean",
                pool=_pool("layer-norm-then-mean"),
            ),
            "cls+mean": Variant(
                about="class token and mean of the patches, the authors' linear evaluation",
                pooling="layer-norm-then-cls+mean",
                pool=_pool("layer-norm-then-cls+mean"),
                dim=2 * dim,
            ),
            "squash": Variant(
                about="the whole picture at 224, not its centre", preprocessing=squash(224)
            ),
            "518": Variant(
                about="the whole picture at 518, the size that its positions were trained for",
                preprocessing=squash(518),
                build=partial(build, architecture=architecture, side=518),
            ),
        },
        licence="Apache-2.0",
        citation=(
            "Oquab et al., DINOv2, TMLR 2024, arXiv:2304.07193; Darcet et al., Vision transformers "
            "need registers, ICLR 2024, arXiv:2309.16588"
        ),
        pretraining=("LVD-142M (web images, not published)",),
        overlap=unknown("trained on web images that nobody can list"),
        domain="web images",
        parameters=parameters,
    )


S = _spec("dinov2-s", "small", 384, 21_629_952)
B = _spec("dinov2", "base", 768, 85_727_232)
L = _spec("dinov2-l", "large", 1024, 303_230_976)
