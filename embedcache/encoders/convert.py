"""Write an encoder's weights as an encoder file: what it uses, and nothing else.

A published checkpoint may hold decoders, heads or averages that the feature does not rest on.
Which tensors it does rest on is found by trying: a group of names (all that share their first
part) is left out if the family builds the same network without it. What is kept must then give the
same vector, bit for bit, or everything is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedcache.encoders.encoder_file import EncoderFile, require_new, write_encoder_file
from embedcache.encoders.network import seeded
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.encoders.spec import ArithmeticSpec, EncoderSpec
from embedcache.encoders.text import TextSpec
from embedcache.errors import EncoderUnusableError, WeightsMismatchError

if TYPE_CHECKING:
    from torch import Tensor


#: How families say that they want what is not there.
_NEEDED = (WeightsMismatchError, LookupError, ValueError, RuntimeError)


def convert(reference: str, out: Path) -> EncoderFile:
    """Write the weights of a reference as an encoder file with the same feature id.

    Args:
        reference: `NAME[@VARIANT…]=WEIGHTS`, or a name whose weights are here.
        out: the file, `….safetensors`; nothing may be there yet.

    Raises:
        EncoderUnusableError: if it has no weights, or a Python file of the user's builds it.
        FileInTheWayError, EncoderFileError: if the file cannot be written under this name.
        BadInputError: as `resolve` and `ResolvedEncoder.build`.
    """
    require_new(out)
    resolved = resolve(reference)
    if isinstance(resolved.spec, ArithmeticSpec):
        raise EncoderUnusableError(resolved.name, "it has no weights to convert")
    if resolved.plugin is not None:
        raise EncoderUnusableError(resolved.name, "a file of tensors cannot carry its code")
    if resolved.blanks:
        raise EncoderUnusableError(resolved.name, "it is an encoder file already, of its own kind")
    state = resolved.state()
    return write_encoder_file(
        out,
        name=resolved.name,
        encoder=resolved.name,
        contract=resolved.contract,
        tensors=used(resolved, resolved.spec, state),
        licence=resolved.licence,
        citation=resolved.citation,
    )


def used(
    resolved: ResolvedEncoder, spec: EncoderSpec, state: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The tensors that an encoder's feature, or its embedding of prompts, rests on.

    Raises:
        WeightsMismatchError: if they are another network's.
    """
    with resolved.naming_mismatch():
        whole = _built(spec, state)
    if isinstance(spec.text, TextSpec):
        return state
    groups: dict[str, list[str]] = {}
    for key in state:
        groups.setdefault(key.partition(".")[0], []).append(key)
    kept = dict(state)
    for keys in groups.values():
        less = {key: tensor for key, tensor in kept.items() if key not in keys}
        try:
            unused = _same(whole, _built(spec, less))
        except _NEEDED:
            continue
        kept = less if unused else kept
    return kept if len(kept) < len(state) and _suffices(resolved, state, kept) else state


def _suffices(resolved: ResolvedEncoder, state: dict[str, Tensor], kept: dict[str, Tensor]) -> bool:
    from PIL import Image

    drawn = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    picture = Image.fromarray(drawn)
    whole, less = resolved.build_from(state), resolved.build_from(kept)
    batch = whole.prepare(picture)[None]
    return np.array_equal(whole.encode(batch), less.encode(batch))


def _built(spec: EncoderSpec, state: dict[str, Tensor]) -> list[Tensor]:
    """Every number of the network that a family builds."""
    with seeded(0):
        parts = [spec.build(dict(state))]
        parts += [spec.pool(dict(state))] if spec.pool else []
    return [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]


def _same(one: list[Tensor], other: list[Tensor]) -> bool:
    import torch

    return len(one) == len(other) and all(map(torch.equal, one, other))
