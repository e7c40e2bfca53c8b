"""The image table: append-only, so that a row number means the same image everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageTable:
    """What a store knows of its n images.

    Attributes:
        digest: of each image, distinct, (n, 32) uint8.
        size: width and height in pixels, (n, 2) int32.
        format: index into `formats`, (n,) int16.
        mode: index into `modes`, (n,) int16.
        formats: names such as `PNG`.
        modes: names such as `RGB`.
    """

    digest: NDArray[np.uint8]
    size: NDArray[np.int32]
    format: NDArray[np.int16]
    mode: NDArray[np.int16]
    formats: tuple[str, ...]
    modes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.digest)
