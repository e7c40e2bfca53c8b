"""What arithmetic a training runs in, and that it is the same every time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch  # noqa: TID253  # nothing here runs without it

from embedcache.contract import Precision
from embedcache.encoders.network import reproducible, require_precision


def precision_on(device: str, asked: str, encoder: str) -> Precision:
    """What a device learns in; `auto` is bf16 on a GPU that has it, fp16 on another.

    Raises:
        PrecisionUnsupportedError: if the device cannot do what was asked for.
    """
    if asked == "auto":
        if not device.startswith("cuda"):
            return "fp32"
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    kind: Precision = "bf16" if asked == "bf16" else "fp16" if asked == "fp16" else "fp32"
    require_precision(encoder, device, kind)
    return kind


@contextmanager
def exact(device: str) -> Iterator[None]:
    """The same kernels every time, backward passes included; as before on leaving.

    torch warns of an operation that has no such kernel on a GPU, and goes on.
    """
    if device.startswith("cuda"):
        # cuBLAS reads it when its first handle is made; without it sums may change their order.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.get_deterministic_debug_mode()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]  # torch's stubs lack it
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # as above; nothing here reads what it did not write
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    try:
        with reproducible():
            yield
    finally:
        torch.set_deterministic_debug_mode(before)
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]  # as above
