"""An encoder file: tensors as safetensors, with the contract they keep in the file's metadata.

`encoders convert` writes one from a published checkpoint, `finetune` from what it trained. The
tensors are those that the family's `build` takes, so only the family's code ever builds a network;
the metadata says which encoder that is, and the digest of the tensors makes sure that both belong
together. Reading the metadata needs no torch.

Metadata key `embedcache`: canonical JSON of an `EncoderFile`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import secrets
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedcache.contract import Contract
from embedcache.durable import PARTIAL, publish
from embedcache.errors import (
    DigestDiffersError,
    EncoderFileError,
    FileInTheWayError,
    PathMissingError,
    SchemaError,
)
from embedcache.provenance import Overlap
from embedcache.schema import LATER, canonical_json, from_plain, parse_json, shown

if TYPE_CHECKING:
    from torch import Tensor

SUFFIX = ".safetensors"
KEY = "embedcache"
VERSION = 1
#: Most bytes of a header: a network of ten thousand tensors has one of 1.5 MB.
_MOST_HEADER = 1 << 24
#: How many times a file's size its blanks may take: a checkpoint holds more than the network that
#: is built of it, an image-text model's both halves.
_MOST_BLANK = 64


#: Bytes a number, by torch's name of the dtype.
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2} | {
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Blank:
    """A tensor that a family wants to see and a tuned file has no need of; see `tuned`.

    Attributes:
        name: of the tensor in the family's checkpoint.
        dtype: torch's name of it, such as `float32`.
        shape: of the tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderFile:
    """What the metadata of an encoder file says.

    Attributes:
        name: what the encoder is called in stores and reports.
        encoder: the reference, without weights, whose family builds it: `usfm@cls`.
        contract: all that decides its numbers; `weights` is that of the origin.
        tensors: digest of the tensors; see `digest_of`.
        licence: of the weights; empty if not known.
        citation: how to cite it; empty if not known.
        format_version: of this record.
        blanks: where the tensors are a tuned network's own: what its family builds it from.
        overlap: of what a tuned encoder has seen with cohorts; none: that of `encoder`.
    """

    name: str
    encoder: str
    contract: Contract
    tensors: str
    licence: str = ""
    citation: str = ""
    format_version: int = VERSION
    blanks: tuple[Blank, ...] = field(default=(), metadata=LATER)
    overlap: tuple[Overlap, ...] = field(default=(), metadata=LATER)


def write_encoder_file(  # noqa: PLR0913  # the fields of the header
    path: Path,
    *,
    name: str,
    encoder: str,
    contract: Contract,
    tensors: Mapping[str, Tensor],
    licence: str = "",
    citation: str = "",
    blanks: tuple[Blank, ...] = (),
    overlap: tuple[Overlap, ...] = (),
) -> EncoderFile:
    """Write an encoder file; whole or not at all.

    Args:
        path: where; `….safetensors`, and nothing may be there yet.
        name: what the encoder is called in stores and reports.
        encoder: the reference, without weights, whose family builds it.
        contract: that it keeps.
        tensors: what the family's `build` takes.
        licence: of the weights.
        citation: how to cite it.
        blanks: see `EncoderFile`.
        overlap: see `EncoderFile`.

    Raises:
        FileInTheWayError: if the file exists.
        EncoderFileError: if the name has another suffix, by which nobody would know the file.
        OSError: as the file system gives it; nothing of the file is left then.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    require_new(path)
    # safetensors takes no views of a shared memory, and leaves strides out.
    apart = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    header = EncoderFile(
        name=name,
        encoder=encoder,
        contract=contract,
        tensors=digest_of(apart),
        licence=licence,
        citation=citation,
        blanks=blanks,
        overlap=overlap,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        save_file(apart, partial, metadata={KEY: canonical_json(header).decode()})
        publish(partial, path)
    except SafetensorError as error:
        raise _as_system_said(error, path) from error
    finally:
        partial.unlink(missing_ok=True)
    return header


def _as_system_said(error: Exception, path: Path) -> Exception:
    """The system's own error, of which safetensors keeps the number in its words alone."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(found[1]), os.strerror(int(found[1])), str(path)) if found else error


def require_new(path: Path) -> None:
    """Look whether an encoder file may be written; before the work, and again when it is.

    Raises:
        FileInTheWayError, EncoderFileError: as `write_encoder_file`.
    """
    if path.suffix != SUFFIX:
        raise EncoderFileError(path.name, f"its name does not end in {SUFFIX}", "choose another")
    if path.exists():
        raise FileInTheWayError("the encoder file", path)


def read_header(path: Path) -> EncoderFile:
    """Read what a file says it is; no tensor is looked at.

    Raises:
        PathMissingError: if there is no such file.
        EncoderFileError: if it is no encoder file, or one of a later version.
    """
    if not path.is_file():
        raise PathMissingError("the encoder file", path)
    text = _metadata(path).get(KEY)
    if not isinstance(text, str):
        mend = f"as weights of an encoder it is NAME={path.name}"
        raise EncoderFileError(path.name, "it states no contract", mend)
    try:
        content = parse_json(text, path.name)
        if isinstance(content, dict) and content.get("format_version") != VERSION:
            mend = "pip install --upgrade embedcache-bench"
            raise EncoderFileError(path.name, "it is of another version", mend)
        header = from_plain(EncoderFile, content, path.name)
    except SchemaError as error:
        raise EncoderFileError(path.name, f"its contract is damaged ({error})", _AGAIN) from error
    _check_blanks(path, header.blanks)
    return header


def _check_blanks(path: Path, blanks: tuple[Blank, ...]) -> None:
    """Memory is set aside for them as they stand there."""
    size = 0
    for blank in blanks:
        if blank.dtype not in _BYTES or min(blank.shape, default=0) < 0:
            raise EncoderFileError(path.name, f"it has no tensor {shown(blank.name)}", _AGAIN)
        size += math.prod(blank.shape) * _BYTES[blank.dtype]
    if size > _MOST_BLANK * path.stat().st_size:
        problem = "its tensors would take far more memory than the file has bytes"
        raise EncoderFileError(path.name, problem, _AGAIN)


def read_encoder_file(path: Path, tensors: str) -> dict[str, Tensor]:
    """Read the tensors, on the CPU, once they are those that the contract was written for.

    Args:
        path: the file.
        tensors: their digest, as the header states it.

    Raises:
        EncoderFileError: if it is damaged.
        DigestDiffersError: if they are other tensors.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # Copies: a mapped file that is changed later would change the network.
        state = {key: tensor.clone() for key, tensor in load_file(path).items()}
    # Beside its own, torch's of a shape that it cannot take.
    except (SafetensorError, TypeError, RuntimeError) as error:
        raise EncoderFileError(path.name, "its tensors are damaged", _AGAIN) from error
    found = digest_of(state)
    if found != tensors:
        raise DigestDiffersError(f"what {path.name} holds", tensors, found, _AGAIN)
    return state


_AGAIN = "write it again: embedcache encoders convert"


def digest_of(tensors: Mapping[str, Tensor]) -> str:
    """Sha256 over the tensors in the order of their names, 64 hex digits.

    Of each: canonical JSON of name, dtype and shape, then its bytes, little-endian, in C order.
    """
    import torch

    digest = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        digest.update(canonical_json([key, str(tensor.dtype), list(tensor.shape)]))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _metadata(path: Path) -> dict[str, Any]:
    """The text that a safetensors file carries; empty for any other file."""
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 0 < length <= min(_MOST_HEADER, path.stat().st_size):
            return {}
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return {}
    found = header.get("__metadata__") if isinstance(header, dict) else None
    return found if isinstance(found, dict) else {}
