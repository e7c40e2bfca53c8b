"""A tuned encoder as an encoder file: the numbers of the network that was trained.

Families make networks out of their authors' checkpoints, and many checkpoints could not hold what
training makes of one: USFM's blocks share one table there and have one each afterwards. So a tuned
file holds the built network's own tensors (`trunk.…` and `pool.…`), and of the checkpoint that the
family wants to see only names, types and shapes. The family builds its network from blank tensors,
and every number is then replaced (docs/decisions/0105).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedcache.contract import Contract
from embedcache.encoders.blanks import POOL, TRUNK
from embedcache.encoders.encoder_file import (
    Blank,
    EncoderFile,
    digest_of,
    read_encoder_file,
    write_encoder_file,
)
from embedcache.encoders.resolved import FILE, ResolvedEncoder
from embedcache.errors import EncoderUnusableError, WeightsMismatchError
from embedcache.provenance import Overlap

if TYPE_CHECKING:
    from torch import Tensor


def write_tuned(
    path: Path,
    parent: ResolvedEncoder,
    state: Mapping[str, Tensor],
    *,
    name: str,
    seen: Sequence[Overlap],
) -> EncoderFile:
    """Write what training made of an encoder as an encoder of its own.

    Args:
        path: `….safetensors`; nothing may be there yet.
        parent: what it was tuned from.
        state: `trunk.…` and `pool.…` in the names of the built network; others are left out.
        name: what the tuned encoder is called in stores and reports.
        seen: the cohorts that it was tuned on.

    Raises:
        EncoderUnusableError: if the file alone would not bring the network back.
        FileInTheWayError, EncoderFileError: as `write_encoder_file`.
    """
    require_exportable(parent)
    tensors = {key: tensor for key, tensor in state.items() if key.startswith((TRUNK, POOL))}
    contract = tuned_contract(parent, tensors)
    cohorts = {overlap.cohort for overlap in seen}
    header = write_encoder_file(
        path,
        name=name,
        encoder=parent.origin or parent.name,
        contract=contract,
        tensors=tensors,
        licence=parent.licence,
        citation=parent.citation,
        blanks=blanks_of(parent),
        overlap=(*seen, *(one for one in parent.overlap if one.cohort not in cohorts)),
    )
    try:
        _check_restored(path, parent, header)
    except EncoderUnusableError:
        path.unlink()
        raise
    return header


def require_exportable(parent: ResolvedEncoder) -> None:
    """Look, before any training, whether what is tuned can be written.

    Raises:
        EncoderUnusableError: if a Python file of the user's builds it.
    """
    if parent.plugin is not None:
        raise EncoderUnusableError(parent.name, "a file of tensors cannot carry its code")


def tuned_contract(parent: ResolvedEncoder, tensors: Mapping[str, Tensor]) -> Contract:
    """The contract of a tuned encoder: its parent's, with weights of its own."""
    weights = FILE + digest_of(tensors)
    return replace(parent.contract, weights=weights, parent=parent.contract.feature_id)


def blanks_of(encoder: ResolvedEncoder) -> tuple[Blank, ...]:
    """What the family wants to see of a checkpoint to build the encoder's network."""
    if encoder.blanks:
        return encoder.blanks
    return tuple(
        Blank(name=key, dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape))
        for key, tensor in encoder.state().items()
    )


def _check_restored(path: Path, parent: ResolvedEncoder, header: EncoderFile) -> None:
    """Build the network from the file alone and hold every number of it to what was trained.

    A family that put a number of the checkpoint where no state dict looks would lose it here.
    """
    import torch

    ours = replace(parent, file=path, tensors=header.tensors, blanks=header.blanks)
    try:
        restored = ours.build_from(read_encoder_file(path, header.tensors))
    except WeightsMismatchError as error:
        raise EncoderUnusableError(
            parent.name, f"what was tuned is not all of it: {error}"
        ) from error
    whole = parent.build_from(parent.state())
    for built, other in ((restored.module, whole.module), (restored.pool, whole.pool)):
        if built is None or other is None:
            continue
        saved = set(built.state_dict())
        expected = dict(other.named_buffers())
        for key, buffer in built.named_buffers():
            if key not in saved and not torch.equal(buffer, expected[key]):
                raise EncoderUnusableError(parent.name, f"its file would lose {key}")
