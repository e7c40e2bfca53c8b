"""One forward pass and the encoders that share it; where memory ends it takes half the batch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.memory import is_out_of_memory
from embedcache.encoders.network import NetworkEncoder, encode_together
from embedcache.encoders.spec import Encoder
from embedcache.errors import DeviceTooSmallError
from embedcache.extraction.compilation import Compilation, compile_network


@dataclass(frozen=True, slots=True)
class Encoded:
    """What came of one batch.

    Attributes:
        vectors: of each encoder, (b, dim) float32.
        most: pictures that went through the network at once; fewer than the batch where memory
            ended.
    """

    vectors: tuple[NDArray[np.float32], ...]
    most: int


class Forward:
    """Built encoders of one network; any number of threads may call `encode`."""

    def __init__(self, encoders: Sequence[Encoder]) -> None:
        """See the class.

        Args:
            encoders: of one `trunk`.
        """
        self.encoders = tuple(encoders)
        self.device = getattr(encoders[0], "device", "")
        self.compilation: Compilation | None = None
        self._most: int | None = None
        self._compile = False
        self._guard = threading.Lock()

    def compile(self) -> None:
        """Have the first batch compile the network, where there is one, before it is encoded."""
        # In the thread that encodes: kernels are made for the threads that they will have.
        self._compile = isinstance(self.encoders[0], NetworkEncoder)

    def encode(self, pixels: NDArray[np.uint8]) -> Encoded:
        """Encode a batch, (b, planes, h, w) uint8, in as few parts as memory allows.

        Raises:
            DeviceTooSmallError: if not even one picture fits.
            EncoderOutputError: if the network does not give (b, dim).
        """
        self._compile_once(pixels)
        while True:
            most = min(self._most or len(pixels), len(pixels))
            vectors = self._in_parts(pixels, most)
            if vectors is not None:
                return Encoded(vectors, most)
            # Outside the handler: what its traceback held is free by now.
            self._give_back()
            if most == 1:
                raise DeviceTooSmallError(self.encoders[0].name, self.device or "cpu")
            self._most = most // 2

    def _in_parts(
        self, pixels: NDArray[np.uint8], most: int
    ) -> tuple[NDArray[np.float32], ...] | None:
        """Vectors of each encoder, or None where memory ended."""
        try:
            parts = [
                self._at_once(pixels[start : start + most]) for start in range(0, len(pixels), most)
            ]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return None
        return tuple(np.concatenate(of_one) for of_one in zip(*parts, strict=True))

    def _at_once(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        if len(self.encoders) == 1:
            return [self.encoders[0].encode(pixels)]
        return encode_together(self._networks, pixels)

    @property
    def _networks(self) -> list[NetworkEncoder]:
        return [one for one in self.encoders if isinstance(one, NetworkEncoder)]

    def _compile_once(self, pixels: NDArray[np.uint8]) -> None:
        with self._guard:  # the others wait for the one that compiles
            if self._compile:
                self.compilation = compile_network(self._networks, pixels, self._at_once)
                self._compile = False

    def _give_back(self) -> None:
        if self.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()
