"""Read a weight file without running its code, and load it without leaving a tensor out.

A checkpoint is a pickle as often as not, and a pickle is a program. safetensors and torch's
`weights_only` reader come first; a file which that refuses, because a training library left objects
of its own beside the tensors, is read as data by `torch_file`. Loading is always strict, because a
name that does not fit means that some layer keeps its random start, and the features look like
features all the same.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from embedcache.encoders.pickled import Foreign
from embedcache.encoders.torch_file import ZIP, Stored, TorchFile, read_torch_file
from embedcache.encoders.weights import sha256_file
from embedcache.errors import (
    PickleRefusedError,
    WeightsChangedError,
    WeightsMismatchError,
    WeightsUnreadableError,
)
from embedcache.schema import shown

if TYPE_CHECKING:
    from torch import Tensor, nn

    Network = TypeVar("Network", bound=nn.Module)

#: Under these keys trainers put the tensors, beside epochs and optimisers.
WRAPPERS = ("state_dict", "model", "model_state_dict", "ema_state_dict")
#: Parallel training puts this before every name.
PARALLEL = "module."

#: Bytes of a tensor that repeats its numbers, once it is written out.
_MOST_REPEATED = 1 << 24

#: What comes instead of a weight file when a download goes wrong, by its first bytes.
_IMPOSTORS = {
    b"<": "it is a web page, not weights",
    b"version https://git-lfs": "it is a Git LFS pointer, not the file that it points to",
}

#: What a checkpoint looks like, by a name that only such networks have; the first that fits.
_LAYOUTS = (
    (
        r"_blocks\.\d+\._depthwise_conv\.",
        "an EfficientNet as the package efficientnet_pytorch writes it",
    ),
    (r"_backbone_encoder\.", "MOFO's segmentation network"),
    (r"(prompt_encoder|bbox_head)\.", "UltraSAM or another segmenter around a SAM encoder"),
    (r"image_encoder\.neck\.", "Segment Anything as Meta publishes it"),
    (r"rel_pos_bias\.relative_position_bias_table", "USFM (a BEiT with one shared position bias)"),
    (r"blocks\.\d+\.attn\.relative_position_bias_table", "a BEiT with a position bias a block"),
    (r"visual\.trunk\.(network|stages)\.", "an image-text model with a FastViT tower (MobileCLIP)"),
    (r"visual\.trunk\.blocks\.", "an image-text model with a timm tower (BiomedCLIP)"),
    (r"(text|token_embedding|visual)\.", "an image-text model (CLIP layout)"),
    (r"decoder_(blocks|embed)\.", "a masked autoencoder with its decoder"),
    (r"encoder\.(model\.)?encoder\.", "a transformers model inside another"),
    (r"embeddings\.(cls_token|patch_embeddings)", "a vision transformer in transformers' names"),
    (r"backbone\.", "a detector or segmenter around its backbone"),
    (r"(storage_tokens|rope_embed\.)", "a DINOv3 as Meta publishes it"),
    (r"reg(ister)?_tokens?$", "a vision transformer with register tokens (DINOv2, DINOv3)"),
    (r"neck\.\d+\.", "the image encoder of a Segment Anything model in timm's names"),
    (r"(model\.|module\.)*blocks\.\d+\.attn\.", "a vision transformer"),
    (r"stage\d+\.\d+\.attns\.", "a CSWin transformer"),
    (r"blocks\.\d+\.\d+\.(conv_dw|conv_exp|conv_pw)\.", "a timm EfficientNet"),
    (r"features\.\d+\.\d+\.block\.", "an EfficientNet or ConvNeXt as torchvision writes it"),
    (r"layer1\.0\.conv1\.", "a ResNet"),
    (r"stages\.\d+\.blocks\.\d+\.conv_dw\.", "a ConvNeXt"),
)


def read_state(
    path: Path, sha256: str | None = None, wrapper: str | None = None
) -> dict[str, Tensor]:
    """Read the named tensors of a checkpoint, on the CPU.

    A dict wrapped under `state_dict`, `model`, `model_state_dict` or `ema_state_dict` is unwrapped
    where only one of these is there, and a `module.` before every name is taken off. Optimisers and
    whatever else lies beside the tensors are not read into memory.

    Args:
        path: a safetensors file, or what `torch.save` wrote.
        sha256: what the file must still hash to, if given.
        wrapper: the key that holds the tensors, where the file has several that could.

    Raises:
        WeightsUnreadableError: if it holds no tensors by name, or code besides.
        WeightsChangedError: if it hashes to something else.
    """
    content = _read(path)
    held = content.content if isinstance(content, TorchFile) else content
    chosen = _unwrapped(held, path, wrapper)
    _require_tensors(chosen, path)
    state = _in_memory(content, chosen, path)
    # Last, so that the bytes that were read are the bytes that are hashed.
    if sha256 is not None and sha256_file(path) != sha256:
        raise WeightsChangedError(path.name)
    if all(key.startswith(PARALLEL) for key in state):
        return {key.removeprefix(PARALLEL): value for key, value in state.items()}
    return state


def load_strict(model: Network, state: Mapping[str, Tensor], unused: Iterable[str] = ()) -> Network:
    """Give every parameter and buffer of a network its tensor, in place.

    Args:
        model: the network.
        state: tensors by name.
        unused: starts of the names that the encoder leaves out on purpose, such as `classifier.`.

    Raises:
        WeightsMismatchError: if a name is missing or left over, or a shape differs.
    """
    left_out = tuple(unused)
    given = {key: value for key, value in state.items() if not key.startswith(left_out)}
    check_fits(model, given)
    model.load_state_dict(given, strict=True)
    return model


def check_fits(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Compare names and shapes, and load nothing; the network may be without memory (`meta`).

    Raises:
        WeightsMismatchError: if a name is missing or left over, or a shape differs.
    """
    wanted = model.state_dict()
    missing = tuple(key for key in wanted if key not in state)
    unexpected = tuple(key for key in state if key not in wanted)
    misshapen = tuple(
        f"{key} {tuple(state[key].shape)} for {tuple(tensor.shape)}"
        for key, tensor in wanted.items()
        if key in state and state[key].shape != tensor.shape
    )
    if missing or unexpected or misshapen:
        raise WeightsMismatchError(missing, unexpected, misshapen, looks_like(state))


def looks_like(state: Mapping[str, Tensor]) -> str:
    """Say in a few words what network a checkpoint belongs to."""
    for pattern, layout in _LAYOUTS:
        if any(re.match(pattern, key) for key in state):
            return f"{layout}, {len(state)} tensors"
    return f"{len(state)} tensors, the first named {next(iter(state), 'nothing')!r}"


def require_no_page(path: Path) -> bytes:
    """Look whether a file is what comes instead of weights; gives its first bytes.

    Raises:
        WeightsUnreadableError: if it is.
    """
    with path.open("rb") as file:
        head = file.read(32)
    for start, reason in _IMPOSTORS.items():
        # The length that a safetensors file starts with may look like the start of a page.
        if head.lstrip().startswith(start) and not _is_safetensors(head):
            raise WeightsUnreadableError(path.name, reason)
    return head


def _read(path: Path) -> Any:
    head = require_no_page(path)
    if _is_safetensors(head):
        return _read_safetensors(path)
    return _read_torch(path, archive=head.startswith(ZIP))


def _is_safetensors(head: bytes) -> bool:
    # It starts with the length of its JSON header, eight bytes, the last of which are zero.
    return head[5:9] == b"\0\0\0{"


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsUnreadableError(path.name, f"damaged safetensors ({error})") from error
    except (TypeError, RuntimeError) as error:  # torch's, of a shape that it cannot take
        raise WeightsUnreadableError(path.name, "damaged safetensors") from error


def _read_torch(path: Path, *, archive: bool) -> Any:
    """Tensors as torch reads them, else a `TorchFile`.

    A mapped file costs memory only for what is looked at; torch maps archives alone.
    """
    import torch

    mapped = archive and path.suffix != ".safetensors"  # torch takes a path's suffix for the format
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            # torch warns of pickles that others wrote; what it cannot read it refuses besides.
            warnings.simplefilter("ignore")
            source = str(path) if mapped else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError:
        # torch's message is a page of advice on how to run the file's code after all.
        return _read_as_data(path)
    except MemoryError:
        raise
    except Exception as error:  # a damaged byte leads torch's reader to errors of a dozen kinds
        raise WeightsUnreadableError(path.name, "it is damaged or no checkpoint") from error


def _read_as_data(path: Path) -> TorchFile:
    try:
        return read_torch_file(path)
    except PickleRefusedError as error:
        reason = f"it is damaged or no checkpoint ({error.problem})"
        raise WeightsUnreadableError(path.name, reason) from error


def _require_tensors(chosen: dict[Any, Any], path: Path) -> None:
    import torch

    if not chosen:
        raise WeightsUnreadableError(path.name, "it is empty")
    for key, value in chosen.items():
        if not isinstance(key, str):
            raise WeightsUnreadableError(path.name, "its tensors have no names")
        if not isinstance(value, torch.Tensor | Stored):
            made = f", made by {value.maker}" if isinstance(value, Foreign) else ""
            reason = f"it also holds {shown(key)}{made}, which is no tensor"
            raise WeightsUnreadableError(path.name, reason)
        if isinstance(value, torch.Tensor) and not _is_plain(value):
            reason = f"{shown(key)} is no plain tensor, or states more numbers than it holds"
            raise WeightsUnreadableError(path.name, reason)


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is real numbers side by side, each of which the file holds."""
    import torch

    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_complex() or tensor.is_quantized:
        return False
    size = tensor.numel() * tensor.element_size()
    # A few repeated numbers are a buffer's business; a trillion would fill the memory.
    return size <= max(tensor.untyped_storage().nbytes(), _MOST_REPEATED)


def _in_memory(content: Any, chosen: dict[str, Any], path: Path) -> dict[str, Tensor]:
    """The chosen tensors, none of which is a view of the file any more."""
    if not isinstance(content, TorchFile):
        return {key: tensor.clone() for key, tensor in chosen.items()}
    try:
        return content.tensors(chosen)
    except PickleRefusedError as error:
        raise WeightsUnreadableError(path.name, error.problem) from error


def _unwrapped(content: Any, path: Path, wanted: str | None) -> dict[str, Any]:
    if not isinstance(content, Mapping):
        raise WeightsUnreadableError(path.name, f"it holds one {type(content).__name__}, no names")
    if wanted is not None and isinstance(content.get(wanted), Mapping):
        return dict(content[wanted])
    wrappers = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    if len(wrappers) > 1:
        reason = f"it holds several checkpoints ({', '.join(wrappers)}) and does not say which"
        raise WeightsUnreadableError(path.name, reason)
    return dict(content[wrappers[0]] if wrappers else content)
