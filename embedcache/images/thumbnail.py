"""Small grey pictures: the `pixels` encoder's features, and what near-duplicates are found by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

#: Rows and columns of the `pixels` encoder's thumbnail.
SIDE = 16


def thumbnail(picture: Picture, side: int = SIDE) -> NDArray[np.uint8]:
    """Squash a decoded picture to a small grey square.

    Grey first (ITU-R 601 luma, as PIL converts), then the mean over each cell (PIL's BOX filter,
    whose integer arithmetic gives the same bytes everywhere). The sides are scaled apart, so an
    image and its stretched copy give nearly the same thumbnail.

    Args:
        picture: as `decode` gives it, mode L or RGB.
        side: rows and columns of the result.

    Returns:
        (side, side) uint8, C order.
    """
    grey = picture if picture.mode == "L" else picture.convert("L")
    return np.asarray(grey.resize((side, side), Image.Resampling.BOX))
