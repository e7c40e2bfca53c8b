"""How much memory is free, and how much an encoder takes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.network import NetworkEncoder
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.spec import Encoder, EncoderSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Of what is free, left to everything that is not an encoder.
_SPARED = 0.2
#: Layers hold their input and output, and a block its input for the sum behind it.
_HELD = 2


def free_memory(device: str) -> int:
    """Bytes that an encoder on a device may still take."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0] * (1 - _SPARED))
    return int(min(_available(), _allowed()) * (1 - _SPARED))


def weight_bytes(encoder: ResolvedEncoder) -> int:
    """Bytes of its weights, known before they are read; 0 if not known."""
    if encoder.file is not None:
        return encoder.file.stat().st_size
    parameters = encoder.spec.parameters if isinstance(encoder.spec, EncoderSpec) else 0
    return parameters * np.dtype(np.float32).itemsize


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one picture takes of a network that runs.

    Attributes:
        seconds: of its forward pass.
        bytes: of memory, beside the weights.
    """

    seconds: float
    bytes: int


def cost_of(encoder: Encoder) -> Cost:
    """Measure the cost of a picture, on a black one."""
    if not isinstance(encoder, NetworkEncoder):
        return Cost(seconds=0.0, bytes=0)
    from PIL import Image

    black = encoder.prepare(Image.new("L", (64, 64)))[np.newaxis]
    taken = _bytes_on_cuda if encoder.device.startswith("cuda") else _bytes_of_layers
    found = taken(encoder, black)
    started = time.perf_counter()
    encoder.encode(black)
    return Cost(seconds=time.perf_counter() - started, bytes=found)


def _bytes_on_cuda(encoder: NetworkEncoder, pixels: NDArray[np.uint8]) -> int:
    import torch

    torch.cuda.reset_peak_memory_stats(encoder.device)
    before = torch.cuda.memory_allocated(encoder.device)
    encoder.encode(pixels)
    return int(torch.cuda.max_memory_allocated(encoder.device) - before)


def _bytes_of_layers(encoder: NetworkEncoder, pixels: NDArray[np.uint8]) -> int:
    """Most bytes that went into and out of one layer, with what is held meanwhile."""
    largest = 0

    def note(_: nn.Module, given: tuple[object, ...], output: object) -> None:
        nonlocal largest
        largest = max(largest, sum(_bytes(one) for one in (*given, output)))

    layers = [module for module in encoder.module.modules() if not list(module.children())]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    try:
        encoder.encode(pixels)
    finally:
        for hook in hooks:
            hook.remove()
    return _HELD * largest


def _bytes(value: object) -> int:
    import torch

    if isinstance(value, torch.Tensor):
        tensor: Tensor = value
        return tensor.numel() * tensor.element_size()
    return 0


def _available() -> int:
    """What the system could give without swapping."""
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = (line.split() for line in meminfo.read_text("ascii").splitlines())
        return next(int(words[1]) * 1024 for words in lines if words[0] == "MemAvailable:")
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2  # macOS: no such file


def _allowed() -> int:
    """What a container's limit leaves (control groups, version 2); much where there is none."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text("ascii").strip()
        used = int((folder / "memory.current").read_text("ascii"))
    except (OSError, ValueError):
        return 1 << 62
    return (1 << 62) if limit == "max" else max(0, int(limit) - used)
