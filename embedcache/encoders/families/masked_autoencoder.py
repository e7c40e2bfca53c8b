"""Masked autoencoders (He et al., 2022): the encoder of a pretraining checkpoint, a plain ViT.

USF-MAE, UltraFedFM and URFM pretrain with the MAE code, whose file holds an encoder in timm's
names and a decoder that is left out by name (`decoder…`, `mask_token`); everything else must fit.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families import tokens
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.families.transformer import blocks, trunk
from embedcache.encoders.families.untrained import Layout, draw
from embedcache.encoders.spec import Variant

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = 1e-6
UNUSED = ("decoder", "mask_token")

#: Colours of a patch of 16 by 16, what the decoder paints.
_PAINTED = 3 * 16 * 16


def build(
    state: dict[str, Tensor], *, architecture: str = "vit_base_patch16_224", **shape: Any
) -> nn.Module:
    """Make the encoder up to its last block, strictly; its norm must be there for all poolings.

    Args:
        state: tensors in the MAE code's names.
        architecture: timm's name of the size.
        shape: of a smaller network of the same layout, in timm's words.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    model = create(architecture, global_pool="", **shape)
    return tokens.bare(load_strict(model, state, unused=UNUSED))


def pool(rule: tokens.Rule) -> partial[nn.Module]:
    """What makes the pooling from the same state; see `tokens.pool`."""
    return partial(tokens.pool, rule=rule, eps=EPS)


def pooled(rule: tokens.Rule, about: str) -> Variant:
    """A variant that pools by another rule."""
    return Variant(about=about, pooling=rule, pool=pool(rule))


def layout(
    width: int = 768,
    depth: int = 12,
    decoder_width: int = 512,
    decoder_depth: int = 8,
) -> Layout:
    """Names and shapes of a pretraining checkpoint for pictures of 224."""
    encoder = trunk(width, depth, "norm")
    return {
        **encoder,
        "mask_token": (1, 1, decoder_width),
        "decoder_pos_embed": (1, encoder["pos_embed"][1], decoder_width),
        "decoder_embed.weight": (decoder_width, width),
        "decoder_embed.bias": (decoder_width,),
        **blocks("decoder_blocks", decoder_width, decoder_depth),
        "decoder_norm.weight": (decoder_width,),
        "decoder_norm.bias": (decoder_width,),
        "decoder_pred.weight": (_PAINTED, decoder_width),
        "decoder_pred.bias": (_PAINTED,),
    }


def untrained(seed: int, **size: int) -> dict[str, Tensor]:
    """A checkpoint in the MAE code's layout, from a seed alone; `size` as in `layout`."""
    return draw(layout(**size), seed)
