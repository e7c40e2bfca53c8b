"""USFM: BEiT ViT-B/16, masked image modelling on ultrasound of many organs (Jiao et al., 2024).

Pooling. The authors' classifier averages the patch tokens and then applies a LayerNorm that their
loader leaves at weight 1 and bias 0: the checkpoint's own norm has another name and is dropped
(openmedlab/USFM @960a1e1, vision_transformer.py and modelutils.py). That is the default, because
it is what their published downstream results rest on. `@norm-then-mean` applies the checkpoint's
norm to each token before averaging, `@cls` takes the class token behind that norm. The three share
a forward pass.

Preprocessing. Their validation squashes to 224 (PIL, bicubic) with ImageNet's mean and std
(datasets.py): the default. The feature extractor in their unmerged pull request (13eef5e) averages
the channels, resizes as OpenCV does (bilinear, no antialiasing) and standardises each picture by
its own mean and deviation: `@grey-z`.

The checkpoint keeps one table of relative position biases for all blocks. The authors' loader
copies it to each block, and so do we; a loader that does not drops the only sense of place that
the network has. timm's record for BEiT (mean and std .5, crop .9) is not for these weights.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from embedcache.contract import Preprocessing
from embedcache.encoders.checkpoint import load_strict, looks_like
from embedcache.encoders.families import tokens
from embedcache.encoders.families.imagenet import squash
from embedcache.encoders.families.seen import unknown
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.families.untrained import Layout, draw
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.encoders.weights import DriveFile
from embedcache.errors import WeightsMismatchError

if TYPE_CHECKING:
    from torch import Tensor, nn

EPS = 1e-6
#: Patches a side at 224.
GRID = 14

TABLE = "rel_pos_bias.relative_position_bias_table"
INDEX = "rel_pos_bias.relative_position_index"
#: What no feature depends on: what stood for hidden patches, and a classifier if one was tuned.
UNUSED = ("mask_token", "head.")

GREY_Z = Preprocessing(
    height=224,
    width=224,
    colour="mean",
    resample="cv2-bilinear",
    standardise="picture",
    mean=(),
    std=(),
)


def build(state: dict[str, Tensor], **shape: Any) -> nn.Module:
    """Give every block the shared position bias, as the authors' loader does; load strictly.

    Args:
        state: tensors in the authors' names.
        shape: of a smaller network of the same layout, in timm's words.

    Raises:
        WeightsMismatchError: if it is another network's, or numbers positions in another way.
    """
    model: Any = create("beit_base_patch16_224", global_pool="", **shape)
    given = dict(state)
    table, index = given.pop(TABLE, None), given.pop(INDEX, None)
    _require_numbering(model, index, state)
    if table is not None:
        for block in range(len(model.blocks)):
            given[f"blocks.{block}.attn.relative_position_bias_table"] = table
    return tokens.bare(load_strict(model, given, unused=UNUSED))


def _require_numbering(model: Any, index: Tensor | None, state: dict[str, Tensor]) -> None:
    """A table's rows mean places only under the numbering that it was trained with."""
    import torch

    ours = model.blocks[0].attn.relative_position_index
    if index is not None and not torch.equal(index.to(ours), ours):
        problem = f"{INDEX} numbers the pairs of patches in another way"
        raise WeightsMismatchError((), (), (problem,), looks_like(state))


def layout(width: int = 768, depth: int = 12, heads: int = 12, grid: int = GRID) -> Layout:
    """Names and shapes of USFM_latest.pth, without the integers that number positions."""
    block = {
        "gamma_1": (width,),
        "gamma_2": (width,),
        "norm1.weight": (width,),
        "norm1.bias": (width,),
        "attn.q_bias": (width,),
        "attn.v_bias": (width,),
        "attn.qkv.weight": (3 * width, width),
        "attn.proj.weight": (width, width),
        "attn.proj.bias": (width,),
        "norm2.weight": (width,),
        "norm2.bias": (width,),
        "mlp.fc1.weight": (4 * width, width),
        "mlp.fc1.bias": (4 * width,),
        "mlp.fc2.weight": (width, 4 * width),
        "mlp.fc2.bias": (width,),
    }
    return {
        "cls_token": (1, 1, width),
        "mask_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        **{f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()},
        # Distances between patches in two directions, and three numbers for the class token.
        TABLE: ((2 * grid - 1) ** 2 + 3, heads),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }


def untrained(seed: int, **size: int) -> dict[str, Tensor]:
    """A checkpoint in the published layout, from a seed alone; `size` as in `layout`."""
    state = draw(layout(**size), seed)
    state[INDEX] = _numbering(size.get("grid", GRID))
    return state


def _numbering(grid: int) -> Tensor:
    """Which row of the table belongs to a pair of tokens, as BEiT numbers them.

    Returns:
        (1 + grid², 1 + grid²) int64: the class token first, patches row by row.
    """
    import torch

    place = torch.cartesian_prod(torch.arange(grid), torch.arange(grid))
    apart = place[:, None] - place[None] + grid - 1
    wide = 2 * grid - 1
    index = torch.empty((1 + grid**2,) * 2, dtype=torch.int64)
    index[1:, 1:] = apart[..., 0] * wide + apart[..., 1]
    index[0, :], index[:, 0], index[0, 0] = wide**2, wide**2 + 1, wide**2 + 2
    return index


def _pool(rule: tokens.Rule) -> partial[nn.Module]:
    return partial(tokens.pool, rule=rule, eps=EPS)


USFM = EncoderSpec(
    name="usfm",
    dim=768,
    architecture="timm:beit_base_patch16_224 with USFM's shared position bias",
    preprocessing=squash(224),
    pooling="mean-then-untrained-layer-norm",
    build=build,
    pool=_pool("mean-then-untrained-layer-norm"),
    sources=(DriveFile(name="USFM_latest.pth", id="1KRwXZgYterH895Z8EpXpR1L1eSMMJo4q"),),
    untrained=untrained,
    variants={
        "cls": Variant(
            about="class token behind the checkpoint's own norm",
            pooling="layer-norm-then-cls",
            pool=_pool("layer-norm-then-cls"),
        ),
        "norm-then-mean": Variant(
            about="mean of the patches behind the checkpoint's own norm",
            pooling="layer-norm-then-mean",
            pool=_pool("layer-norm-then-mean"),
        ),
        "grey-z": Variant(
            about="grey, resized by OpenCV, standardised by picture: the authors' pull request",
            preprocessing=GREY_Z,
        ),
    },
    licence="CC-BY-NC-4.0",
    citation=(
        "Jiao et al., USFM: a universal ultrasound foundation model, Medical Image Analysis 96 "
        "(2024) 103202, doi:10.1016/j.media.2024.103202"
    ),
    pretraining=("3M-US: 2 to 3 million ultrasound images, sets not listed",),
    overlap=unknown("README and paper give a number of images and list no sets (@960a1e1)"),
    domain="ultrasound, many organs",
    parameters=85_663_824,
    notes=("its licence stands in the authors' README, which refers to a file that is not there",),
)
