"""What an encoder is before it runs (no torch), and what it offers once built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from embedcache.contract import Contract

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image


class Encoder(Protocol):
    """A built encoder on its device.

    Attributes:
        contract: all that decides its numbers.
        name: the reference that asked for it, without weights: `efficientnet-lite0`,
            `timm:vit_tiny_patch16_224`.
        licence: SPDX name or the licence's own name; empty if not known.
        citation: how to cite it; empty if not known.
    """

    contract: Contract
    name: str
    licence: str
    citation: str

    def prepare(self, picture: Image) -> NDArray[np.uint8]:
        """Fit one decoded picture (mode L or RGB): (channels, height, width) uint8, C order.

        Everything but the arithmetic on values: colour, fit, resample. Shared by encoders whose
        `Preprocessing` agrees in these.
        """

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise, run, pool: (b, channels, height, width) uint8 -> (b, dim) float32."""
