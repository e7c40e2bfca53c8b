"""The text half of an image-text model: prompts to the vectors that its image vectors meet.

Only what zero-shot needs: a class is described in words, and an image belongs to the class whose
words lie nearest. The image half is never built for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.errors import EncoderOutputError, NoTextError, PromptTooLongError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from embedcache.encoders.spec import ArithmeticSpec, EncoderSpec

#: Prompts a forward pass; a class has a handful.
_BATCH = 32


@dataclass(frozen=True, kw_only=True, slots=True)
class TextSpec:
    """The text half of an image-text encoder, before any weight is read.

    Attributes:
        context: tokens that a prompt may have, start and end included.
        pooling: of the image vectors that its own lie beside; others are of another space.
        build: makes the network from a checkpoint's tensors, strictly; its forward takes tokens
            (p, context) int64 and gives (p, dim).
        scale: what the checkpoint multiplies a cosine by before the softmax.
    """

    context: int
    pooling: str
    build: Callable[[dict[str, Tensor]], nn.Module]
    scale: Callable[[dict[str, Tensor]], float]


@dataclass(frozen=True, slots=True)
class NoText:
    """Why the text half of an image-text encoder is not offered.

    Attributes:
        reason: what is not known or not there.
    """

    reason: str


class TextEncoder:
    """A built text half, on the CPU.

    Attributes:
        name: the reference of its encoder.
        dim: length of its vectors.
        scale: what a cosine is multiplied by before the softmax.
    """

    def __init__(
        self, module: nn.Module, *, name: str, context: int, dim: int, scale: float
    ) -> None:
        self.module = module.eval().requires_grad_(requires_grad=False)
        self.name = name
        self.context = context
        self.dim = dim
        self.scale = scale

    def encode_text(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Embed prompts, in float32 whatever the precision of the image half.

        Args:
            prompts: at least one.

        Returns:
            (p, dim) float32, not normalised.

        Raises:
            PromptTooLongError: if a prompt has more tokens than the network reads.
            EncoderOutputError: if the network does not give (p, dim).
        """
        import torch

        from embedcache.encoders.network import reproducible

        token = torch.from_numpy(tokenise(prompts, self.context))
        with torch.inference_mode(), reproducible():
            parts = [
                self.module(token[start : start + _BATCH]).float()
                for start in range(0, len(token), _BATCH)
            ]
        vector = np.asarray(torch.cat(parts).numpy(), np.float32)
        if vector.shape != (len(prompts), self.dim):
            raise EncoderOutputError(self.name, (len(prompts), self.dim), vector.shape)
        return vector


def require_text(name: str, spec: EncoderSpec | ArithmeticSpec) -> TextSpec:
    """The text half of an encoder whose image vectors prompts can meet.

    Args:
        name: the reference that asked for it.
        spec: with its variants applied.

    Raises:
        NoTextError: if it has none, or pools its images into another space.
    """
    text = text_half(spec)
    if isinstance(text, NoText):
        raise NoTextError(name, text.reason)
    return text


def text_half(spec: EncoderSpec | ArithmeticSpec) -> TextSpec | NoText:
    """The text half that an encoder's image vectors meet, its variants applied, or why none is."""
    text: TextSpec | NoText | None = getattr(spec, "text", None)
    if text is None:
        return NoText("it is no image-text model")
    if isinstance(text, TextSpec) and text.pooling != spec.pooling:
        return NoText(f"prompts meet its images after {text.pooling}, and this is {spec.pooling}")
    return text


def tokenise(prompts: Sequence[str], context: int) -> NDArray[np.int64]:
    """Cut prompts into tokens by CLIP's byte-pair encoding, as open_clip does (lower case).

    Args:
        prompts: at least one.
        context: tokens a prompt; shorter ones are followed by zeros.

    Returns:
        (p, context) int64, start and end of text included.

    Raises:
        PromptTooLongError: if one has more tokens: open_clip would cut off its end and say nothing.
    """
    repair_torchvision()
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer(context_length=context)
    for prompt in prompts:
        # Two for start and end.
        count = len(tokenizer.encode(prompt)) + 2
        if count > context:
            raise PromptTooLongError(prompt, count, context)
    return np.asarray(tokenizer(list(prompts)).numpy(), np.int64)
