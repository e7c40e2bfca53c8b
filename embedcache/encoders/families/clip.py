"""CLIP as OpenAI published it: what the encoders in its checkpoint layout share.

Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021.
Images go through a vision transformer, prompts through a causal one, and each half ends in a
projection to one space. The networks are open_clip's own, made without `create_model`, which would
add a log handler to the process, and without its table of configurations, which is global.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from embedcache.encoders.checkpoint import check_fits, load_strict
from embedcache.encoders.network import seeded
from embedcache.encoders.torchvision_repair import repair_torchvision

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Mean and standard deviation of CLIP's own training images, by channel (openai/CLIP, clip.py).
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

#: Starts the names of the image half's tensors.
VISUAL = "visual."
#: The temperature, as the logarithm of what a cosine is multiplied by.
LOGIT_SCALE = "logit_scale"


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSize:
    """Sizes of both halves; heads of the image half are 64 wide, and GELU is exact, not quick.

    Attributes:
        image: side of the picture, pixels.
        patch: side of a patch, pixels.
        width: of the image half.
        layers: of the image half.
        dim: of the space that both halves end in.
        context: tokens a prompt.
        vocabulary: tokens there are.
        text_width: of the text half.
        text_layers: of the text half.
        text_heads: of the text half.
    """

    image: int
    patch: int
    width: int
    layers: int
    dim: int
    context: int
    vocabulary: int
    text_width: int
    text_layers: int
    text_heads: int


def build_image(size: ClipSize, state: dict[str, Tensor]) -> nn.Module:
    """Make the image half without its projection, after comparing the whole checkpoint.

    The text half is compared too, though it is not built: of one width, another CLIP's image half
    has the same names and shapes.

    Returns:
        A network whose forward gives the normalised CLS token, (b, width).

    Raises:
        WeightsMismatchError: if a tensor of either half is missing, left over or misshapen.
    """
    _check_whole(size, state)
    from open_clip.transformer import VisionTransformer

    tower: Any = VisionTransformer(
        image_size=size.image,
        patch_size=size.patch,
        width=size.width,
        layers=size.layers,
        heads=size.width // 64,
        mlp_ratio=4.0,
        output_dim=size.dim,
    )
    load_strict(tower, part(state, VISUAL))
    tower.proj = None
    image: nn.Module = tower
    return image


def project(state: dict[str, Tensor]) -> nn.Module:
    """The image half's projection, (b, width) -> (b, dim)."""
    return linear(state["visual.proj"].T)


def build_text(size: ClipSize, state: dict[str, Tensor]) -> nn.Module:
    """Make the text half with its projection; raises as `build_image`."""
    _check_whole(size, state)
    from open_clip.transformer import TextTransformer

    tower: nn.Module = TextTransformer(
        context_length=size.context,
        vocab_size=size.vocabulary,
        width=size.text_width,
        heads=size.text_heads,
        layers=size.text_layers,
        output_dim=size.dim,
    )
    return load_strict(tower, state, unused=(VISUAL, LOGIT_SCALE))


def logit_scale(state: dict[str, Tensor]) -> float:
    """What the checkpoint multiplies a cosine by before the softmax."""
    return float(state[LOGIT_SCALE].exp())


def untrained(size: ClipSize, seed: int) -> dict[str, Tensor]:
    """Tensors of both halves as open_clip initialises them, from a seed alone."""
    with seeded(seed):
        return dict(_whole(size).state_dict())


def identity(state: dict[str, Tensor]) -> nn.Module:  # noqa: ARG001  # the interface's argument
    """Leave the network's output as it is."""
    import torch

    return torch.nn.Identity()


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    """A linear layer of given tensors, (out, in) and (out,)."""
    import torch

    out, into = weight.shape
    layer = torch.nn.Linear(into, out, bias=bias is not None)
    given = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return load_strict(layer, given)


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose name starts so, without that start."""
    return {
        key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)
    }


def _check_whole(size: ClipSize, state: dict[str, Tensor]) -> None:
    repair_torchvision()
    import torch

    with torch.device("meta"):
        check_fits(_whole(size), state)


def _whole(size: ClipSize) -> Any:
    repair_torchvision()
    import open_clip

    vision = {"image_size": size.image, "patch_size": size.patch}
    return open_clip.CLIP(
        embed_dim=size.dim,
        vision_cfg={**vision, "width": size.width, "layers": size.layers},
        text_cfg={
            "context_length": size.context,
            "vocab_size": size.vocabulary,
            "width": size.text_width,
            "heads": size.text_heads,
            "layers": size.text_layers,
        },
    )
