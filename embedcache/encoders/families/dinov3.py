"""DINOv3: vision transformers that Meta distilled from a 7B teacher on 1.7 billion web images.

Five sizes with patches of 16, rotary positions, four registers and LayerScale: `dinov3-s`,
`-s-plus`, `-b`, `-l`, `-h-plus`. The benchmark's paper does not say which it ran.

Pooling. The authors' forward gives the class token after the last norm: the default. timm's gives
the mean of the patch tokens (`@mean`), another feature. The authors' linear evaluation reads both,
class token first (MODEL_CARD.md: CLS and mean of the patches, concatenated): `@cls+mean`, twice
as long. All three share a forward pass.

Preprocessing. The README's transform squashes to 256 with a bilinear antialiased filter and takes
ImageNet's mean and std: the default, with PIL's filter, at most a grey level from torchvision's.
timm's record of the same weights says bicubic and a centre crop: `@timm`. `@224` is the README's
way at the size of the authors' linear evaluation.

Positions. Meta's files hold the periods of the rotation rounded to bfloat16 (timm says so beside
its `RotaryEmbeddingDinoV3`), and whoever runs Meta's code runs with those. timm's files leave the
periods out and timm computes them in float32. We round as Meta's file does, and read the periods
where the file is Meta's own; `@timm` leaves them unrounded, as timm does.

timm's files also leave out the biases of queries and values where these are zero in Meta's.
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
EPS = 1e-5

#: In Meta's files: periods of the rotation, and what no feature depends on.
PERIODS = "rope_embed.periods"
_UNUSED = ("mask_token", "bias_mask")
_META_TO_TIMM = (
    ("storage_tokens", "reg_token"),
    ("ls1.gamma", "gamma_1"),
    ("ls2.gamma", "gamma_2"),
    ("mlp.w1.", "mlp.fc1_g."),
    ("mlp.w2.", "mlp.fc1_x."),
    ("mlp.w3.", "mlp.fc2."),
)


def build(
    state: dict[str, Tensor], *, architecture: str, rounded: bool = True, **shape: Any
) -> nn.Module:
    """Make the network up to its last block from timm's or Meta's file, strictly.

    Args:
        state: tensors in timm's or Meta's names.
        architecture: timm's name of the size.
        rounded: whether periods that the file lacks are rounded to bfloat16.
        shape: of a smaller network of the same layout, in timm's words.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    import torch

    # timm's twin with biases holds both files: without a bias, and with one of zeros or not.
    model: Any = create(f"{architecture}_qkvb", global_pool="", **shape)
    load_strict(model, _with_biases(model, timm_names(state)))
    periods = model.rope.periods
    if PERIODS in state:
        periods.copy_(state[PERIODS])
    elif rounded:
        periods.copy_(periods.to(torch.bfloat16))
    return tokens.bare(model)


def timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Translate Meta's names into timm's; timm's come back as they are.

    Meta keeps the biases of queries, keys and values in one tensor and masks the keys' to zero.
    """
    if "storage_tokens" not in state:
        return dict(state)
    renamed = {}
    for name, tensor in state.items():
        if name == PERIODS or name.endswith(_UNUSED):
            continue
        for meta, timm in _META_TO_TIMM:
            name = name.replace(meta, timm)  # noqa: PLW2901  # one name, translated in steps
        if name.endswith("qkv.bias"):
            query, _, value = tensor.chunk(3)
            renamed[name.replace("qkv.bias", "q_bias")] = query
            renamed[name.replace("qkv.bias", "v_bias")] = value
        else:
            renamed[name] = tensor
    return renamed


def _with_biases(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Fill in the zeros that a file of timm's leaves out; all of them or none."""
    biases = [name for name in model.state_dict() if name.endswith((".q_bias", ".v_bias"))]
    if any(name in state for name in biases):
        return state
    wanted = model.state_dict()
    return {**state, **{name: wanted[name].new_zeros(wanted[name].shape) for name in biases}}


def _pooled(rule: tokens.Rule, *, about: str, dim: int | None = None) -> Variant:
    return Variant(about=about, pooling=rule, pool=_pool(rule), dim=dim)


def _pool(rule: tokens.Rule) -> partial[nn.Module]:
    return partial(tokens.pool, rule=rule, eps=EPS, prefix=PREFIX)


def _spec(name: str, size: str, dim: int, parameters: int) -> EncoderSpec:
    architecture = f"vit_{size}_patch16_dinov3"
    return EncoderSpec(
        name=name,
        dim=dim,
        architecture=f"timm:{architecture}",
        preprocessing=squash(256, "bilinear"),
        pooling="layer-norm-then-cls",
        build=partial(build, architecture=architecture),
        pool=_pool("layer-norm-then-cls"),
        sources=(hub_file(f"{architecture}.lvd1689m"),),
        untrained=partial(untrained, architecture=architecture),
        variants={
            "mean": _pooled("layer-norm-then-mean", about="mean of the patches, timm's default"),
            "cls+mean": _pooled(
                "layer-norm-then-cls+mean",
                about="class token and mean of the patches, the authors' linear evaluation",
                dim=2 * dim,
            ),
            "224": Variant(about="at 224", preprocessing=squash(224, "bilinear")),
            "timm": Variant(
                about="timm's filter, crop and unrounded positions",
                preprocessing=centre(256, 1.0, "bicubic"),
                build=partial(build, architecture=architecture, rounded=False),
            ),
        },
        licence="DINOv3 License",
        citation="Siméoni et al., DINOv3, 2025, arXiv:2508.10104",
        pretraining=("LVD-1689M (web images, not published)",),
        overlap=unknown("trained on web images that nobody can list"),
        domain="web images",
        parameters=parameters,
        notes=(
            (
                "the DINOv3 License asks publications to acknowledge DINOv3, and whoever passes "
                "the weights on to pass on the agreement"
            ),
        ),
    )


S = _spec("dinov3-s", "small", 384, 21_586_944)
S_PLUS = _spec("dinov3-s-plus", "small_plus", 384, 28_683_264)
B = _spec("dinov3-b", "base", 768, 85_641_216)
L = _spec("dinov3-l", "large", 1024, 303_079_424)
H_PLUS = _spec("dinov3-h-plus", "huge_plus", 1280, 840_509_440)
