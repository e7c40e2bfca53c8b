"""TinyUSFM: ViT-Ti/16 distilled from USFM on 200,000 ultrasound images (Ma et al., 2025).

The authors' network has twelve heads of sixteen numbers where timm's `vit_tiny` has three of
sixty-four. No tensor's shape tells the two apart: timm's heads load strictly as well and give
other features.

Pooling. The authors average the patch tokens and apply `fc_norm`: the default, which needs the
file's `fc_norm`. Whether the published file holds one is not known; `@untrained-norm` is for one
that does not, with weight 1 and bias 0, as USFM's loader leaves it.

Preprocessing: squash to 224 (PIL, bilinear) with ImageNet's mean and std, as the authors' loader
does (@39b832a). Names may start with `model.` or `module.model.`, which their loader takes off.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families import tokens
from embedcache.encoders.families.imagenet import squash
from embedcache.encoders.families.seen import unknown
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.families.transformer import trunk
from embedcache.encoders.families.untrained import Layout, draw
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.encoders.weights import DriveFile

if TYPE_CHECKING:
    from torch import Tensor, nn

HEADS = 12
EPS = 1e-6
#: Starts every name in the authors' files.
WRAPPED = "model."
#: A classifier, if one was tuned.
UNUSED = ("head.",)
NORMS = ("norm.", "fc_norm.")


def build(state: dict[str, Tensor], **shape: Any) -> nn.Module:
    """Make the network up to its last block, strictly.

    Args:
        state: tensors in the authors' names.
        shape: of a smaller network of the same layout, in timm's words.

    Raises:
        WeightsMismatchError: if it is another network's, or lacks `fc_norm`.
    """
    return tokens.bare(load_strict(_network("avg", shape), timm_names(state), unused=UNUSED))


def build_without_norm(state: dict[str, Tensor], **shape: Any) -> nn.Module:
    """As `build`, from a file with or without a last norm, which is left out.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    model = tokens.bare(_network("", shape))
    return load_strict(model, timm_names(state), unused=(*UNUSED, *NORMS))


def pool(state: dict[str, Tensor], *, rule: tokens.Rule) -> nn.Module:
    """Make the pooling from the same file; see `tokens.pool`."""
    return tokens.pool(timm_names(state), rule=rule, eps=EPS, norm="fc_norm")


def timm_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what starts every name."""
    if not all(name.startswith(WRAPPED) for name in state):
        return dict(state)
    return {name.removeprefix(WRAPPED): tensor for name, tensor in state.items()}


def layout(width: int = 192, depth: int = 12) -> Layout:
    """Names and shapes of the authors' file."""
    return {WRAPPED + name: shape for name, shape in trunk(width, depth, "fc_norm").items()}


def untrained(seed: int, **size: int) -> dict[str, Tensor]:
    """A checkpoint in the authors' layout, from a seed alone; `size` as in `layout`."""
    return draw(layout(**size), seed)


def _network(global_pool: str, shape: dict[str, Any]) -> nn.Module:
    settings = {"num_heads": HEADS, "global_pool": global_pool, **shape}
    return create("vit_tiny_patch16_224", **settings)


TINYUSFM = EncoderSpec(
    name="tinyusfm",
    dim=192,
    architecture="timm:vit_tiny_patch16_224 with 12 heads",
    preprocessing=squash(224, "bilinear"),
    pooling="mean-then-layer-norm",
    build=build,
    pool=partial(pool, rule="mean-then-layer-norm"),
    sources=(DriveFile(name="TinyUSFM.pth", id="1P_wDuU-StALLJEBaymioaYu52CScW-l-"),),
    untrained=untrained,
    variants={
        "untrained-norm": Variant(
            about="for a file without fc_norm",
            pooling="mean-then-untrained-layer-norm",
            pool=partial(pool, rule="mean-then-untrained-layer-norm"),
            build=build_without_norm,
        ),
    },
    licence="Apache-2.0",
    citation="Ma et al., TinyUSFM, 2025, arXiv:2510.19239",
    pretraining=("200,000 ultrasound images chosen from USFM's, sets not listed",),
    overlap=unknown(
        "README evaluates on FETAL_PLANES_DB; what the 200,000 images are is not said (@39b832a)"
    ),
    domain="ultrasound, many organs",
    parameters=5_524_416,
    notes=(
        (
            "its licence stands in the authors' README alone, and it was distilled from USFM, "
            "whose weights are CC-BY-NC-4.0"
        ),
    ),
)
