"""`pixels`: the 16x16 grey thumbnail, the floor that every model must beat.

No weights and nothing learned: the picture squashed to 16x16 means of its grey values, row by row,
divided by 255. What a probe reads from these 256 numbers is brightness, framing and the machine's
look, so an encoder that is not clearly better has not seen the anatomy.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.spec import ArithmeticSpec
from embedcache.images.thumbnail import SIDE


def compute(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Divide by 255 and lay the rows end to end: (b, 1, 16, 16) uint8 -> (b, 256) float32."""
    return batch.reshape(len(batch), -1).astype(np.float32) / np.float32(255)


SPEC = ArithmeticSpec(
    name="pixels",
    dim=SIDE * SIDE,
    architecture="pixels",
    preprocessing=Preprocessing(
        height=SIDE,
        width=SIDE,
        colour="grey",
        fit="squash",
        resample="box",
        mean=(0.0,),
        std=(1.0,),
    ),
    pooling="rows",
    compute=compute,
)
