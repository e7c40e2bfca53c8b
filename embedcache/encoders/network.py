"""An encoder with a network: normalise, run, pool, the same way every time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Contract, Precision
from embedcache.encoders.memory import keep_freed_memory
from embedcache.encoders.preprocessing import fit, normalise
from embedcache.errors import EncoderOutputError, PrecisionUnsupportedError

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor, nn


class NetworkEncoder:
    """A network on its device; see `Encoder`.

    On one device a row of the output depends on its own picture and on the shape of the batch,
    not on the other pictures: nothing is drawn, benchmarked or averaged over a batch.
    """

    def __init__(
        self,
        module: nn.Module,
        pool: nn.Module | None = None,
        *,
        name: str,
        contract: Contract,
        licence: str,
        citation: str,
        device: str,
    ) -> None:
        import torch

        require_precision(name, device, contract.precision)
        keep_freed_memory()
        # Convolutions run on pixels side by side about a quarter faster; attention does not care.
        module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self.module = module.eval().requires_grad_(requires_grad=False)
        self.pool = pool and pool.to(device).eval().requires_grad_(requires_grad=False)
        self.name = name
        self.contract = contract
        self.licence = licence
        self.citation = citation
        self.device = device

    def prepare(self, picture: Image) -> NDArray[np.uint8]:
        """Fit one decoded picture; see `Encoder.prepare`."""
        return fit(picture, self.contract.preprocessing)

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise, run, pool; see `Encoder.encode`. Half precision may overflow to infinity.

        Raises:
            EncoderOutputError: if the network does not give (b, dim).
        """
        return encode_together([self], batch)[0]


def encode_together(
    encoders: Sequence[NetworkEncoder], batch: NDArray[np.uint8]
) -> list[NDArray[np.float32]]:
    """Run one network once and pool its output by each encoder's own rule.

    Args:
        encoders: of one module, preprocessing, precision and device.
        batch: (b, planes, height, width) uint8.

    Returns:
        for each encoder (b, dim) float32, bit for bit what it gives alone.

    Raises:
        EncoderOutputError: if one does not give (b, dim).
    """
    import torch

    first = encoders[0]
    autocast = _autocast(first.device, first.contract.precision)
    with torch.inference_mode(), reproducible(), autocast:
        pixels = _copied(batch, first.device)
        picture = normalise(pixels, first.contract.preprocessing)
        output = first.module(picture.contiguous(memory_format=torch.channels_last))
        vectors = [output if one.pool is None else one.pool(output) for one in encoders]
    for one, vector in zip(encoders, vectors, strict=True):
        expected, found = (len(batch), one.contract.dim), tuple(vector.shape)
        if found != expected:
            raise EncoderOutputError(one.name, expected, found)
    return [np.asarray(vector.float().cpu().numpy(), np.float32) for vector in vectors]


def _copied(batch: NDArray[np.uint8], device: str) -> Tensor:
    """The batch on its device; to a GPU from pinned memory, beside whatever that computes."""
    import torch

    pixels = torch.from_numpy(batch)
    if not device.startswith("cuda"):
        return pixels.to(device)
    # torch keeps pinned blocks for the next batch, and this one until its copy is done.
    return pixels.pin_memory().to(device, non_blocking=True)


@contextmanager
def reproducible() -> Iterator[None]:
    """Full float32 products and fixed kernels, whatever the process chose; as before on leaving.

    TF32 and bfloat16 round the factors of a product to 10 and 7 bits, and cuDNN's benchmark picks
    kernels by the clock: each would make a contract's numbers depend on the machine's mood.
    """
    import torch

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=False
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed alone, and leave torch's global generator as it was."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def require_precision(encoder: str, device: str, precision: Precision) -> None:
    """Refuse a precision that a device cannot compute at, where torch only warns, or nothing does.

    Raises:
        PrecisionUnsupportedError: naming encoder, precision and device.
    """
    import torch

    if precision == "fp32":
        return
    try:
        with warnings.catch_warnings():
            # torch warns that it does not support a type, and goes on in float32.
            warnings.simplefilter("ignore")
            with torch.inference_mode(), _autocast(device, precision):
                one = torch.ones((2, 2), device=device)
                computed = (one @ one).dtype
    except RuntimeError:  # an older GPU without bfloat16
        computed = torch.float32
    if computed is not _half(precision):
        raise PrecisionUnsupportedError(encoder, precision, device)


def _autocast(device: str, precision: Precision) -> AbstractContextManager[object]:
    import torch

    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=_half(precision))


def _half(precision: Precision) -> torch.dtype:
    import torch

    return torch.bfloat16 if precision == "bf16" else torch.float16
