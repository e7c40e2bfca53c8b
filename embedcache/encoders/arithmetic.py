"""An encoder without a network: it needs no torch and runs where its caller runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Contract
from embedcache.encoders.preprocessing import fit
from embedcache.encoders.spec import ArithmeticSpec

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass
class ArithmeticEncoder:
    """The built form of an `ArithmeticSpec`; see `Encoder`."""

    spec: ArithmeticSpec
    contract: Contract
    name: str
    licence: str
    citation: str

    def prepare(self, picture: Image) -> NDArray[np.uint8]:
        """Fit one decoded picture; see `Encoder.prepare`."""
        return fit(picture, self.contract.preprocessing)

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the vectors; see `Encoder.encode`."""
        if self.contract.preprocessing.colour == "rgb" and batch.shape[1] == 1:
            batch = np.repeat(batch, 3, axis=1)  # arithmetic is written for what its contract says
        return self.spec.compute(batch)
