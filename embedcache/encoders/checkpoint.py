"""Read a weight file without running its code, and load it without leaving a tensor out.

A checkpoint is a pickle as often as not, and a pickle is a program: only torch's `weights_only`
reader and safetensors are used. Loading is always strict, because a name that does not fit means
that some layer keeps its random start, and the features look like features all the same.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from embedcache.encoders.weights import sha256_file
from embedcache.errors import WeightsChangedError, WeightsMismatchError, WeightsUnreadableError

if TYPE_CHECKING:
    from torch import Tensor, nn

    Network = TypeVar("Network", bound=nn.Module)

#: Under these keys trainers put the tensors, beside epochs and optimisers.
WRAPPERS = ("state_dict", "model", "model_state_dict")
#: Parallel training puts this before every name.
PARALLEL = "module."

#: What comes instead of a weight file when a download goes wrong, by its first bytes.
_IMPOSTORS = {
    b"<": "it is a web page, not weights",
    b"version https://git-lfs": "it is a Git LFS pointer, not the file that it points to",
}

#: What a checkpoint looks like, by a name that only such networks have.
_LAYOUTS = (
    (
        r"_blocks\.\d+\._depthwise_conv\.",
        "an EfficientNet as the package efficientnet_pytorch writes it",
    ),
    (r"visual\.", "an image-text model (CLIP layout)"),
    (r"(decoder_blocks|mask_token)", "a masked autoencoder with its decoder"),
    (r"backbone\.", "a detector or segmenter around its backbone"),
    (r"_backbone_encoder\.", "MOFO's segmentation network"),
    (r"blocks\.\d+\.attn\.", "a vision transformer"),
    (r"blocks\.\d+\.\d+\.conv_dw\.", "a timm EfficientNet"),
    (r"layer1\.0\.conv1\.", "a ResNet"),
    (r"stages\.\d+\.blocks\.\d+\.conv_dw\.", "a ConvNeXt"),
)


def read_state(
    path: Path, sha256: str | None = None, wrapper: str | None = None
) -> dict[str, Tensor]:
    """Read the named tensors of a checkpoint, on the CPU.

    A dict wrapped under `state_dict`, `model` or `model_state_dict` is unwrapped where only one of
    these is there, and a `module.` before every name is taken off.

    Args:
        path: a safetensors file, or what `torch.save` wrote.
        sha256: what the file must still hash to, if given.
        wrapper: the key that holds the tensors, where the file has several that could.

    Raises:
        WeightsUnreadableError: if it holds no tensors by name, or code besides.
        WeightsChangedError: if it hashes to something else.
    """
    content = _read(path)
    if sha256 is not None and sha256_file(path) != sha256:
        raise WeightsChangedError(path.name)
    state = _unwrapped(content, path, wrapper)
    strange = [key for key, value in state.items() if not _is_tensor(value)]
    if strange or not state:
        held = f"it also holds {strange[0]!r}, which is no tensor" if strange else "it is empty"
        raise WeightsUnreadableError(path.name, held)
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


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(32)
    for start, reason in _IMPOSTORS.items():
        if head.lstrip().startswith(start):
            raise WeightsUnreadableError(path.name, reason)
    # A safetensors file starts with the length of its JSON header, eight bytes.
    if head[8:9] == b"{":
        return _read_safetensors(path)
    return _read_torch(path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise WeightsUnreadableError(path.name, f"damaged safetensors ({error})") from error


def _read_torch(path: Path) -> Any:
    import torch

    try:
        # An open file, because torch takes a path's suffix for the format.
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message is a page of advice on how to run the file's code after all.
        reason = "it is no checkpoint, or one that holds code beside tensors"
        raise WeightsUnreadableError(path.name, reason) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise WeightsUnreadableError(path.name, "it is damaged or no checkpoint") from error


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


def _is_tensor(value: object) -> bool:
    import torch

    return isinstance(value, torch.Tensor)
