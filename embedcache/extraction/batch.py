"""How many images a batch: what the user says, what the store has, else what the device likes."""

from __future__ import annotations

import time

import numpy as np

from embedcache.extraction.forward import Forward
from embedcache.extraction.memory import cost_of, free_memory

#: Images a batch where nothing speaks for another number. A CPU is as fast at 8 as at 64
#: (efficientnet-lite0, one thread: 22.3, 21.2, 19.8 and 20.4 ms an image at 8, 16, 32 and 64), so
#: there it is not measured: two runs of one study shall give the same bits.
BATCH = 32
#: Most that is tried, seconds that trying may take, and what the next size must gain to be worth
#: the padding.
MOST, PATIENCE, GAIN = 512, 2.0, 1.05


def measured_batch(forward: Forward) -> int:
    """The smallest batch, doubled from `BATCH`, that a device does not clearly outrun.

    Two seconds at most, and half of the free memory; a CPU is not asked.
    """
    if forward.device in ("", "cpu"):
        return BATCH
    encoder = forward.encoders[0]
    picture = _blank(forward)
    room = free_memory(forward.device) // 2 // max(1, cost_of(encoder).bytes)
    forward.encode(np.repeat(picture, BATCH, axis=0))  # the first one loads kernels
    best, started, rate = BATCH, time.monotonic(), 0.0
    batch = BATCH
    while batch <= min(MOST, room):
        pixels = np.repeat(picture, batch, axis=0)
        before = time.monotonic()
        forward.encode(pixels)
        found = batch / (time.monotonic() - before)
        if found < rate * GAIN:
            break
        best, rate = batch, found
        if time.monotonic() - started > PATIENCE / 2:
            break  # the next one takes twice as long
        batch *= 2
    return best


def _blank(forward: Forward) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    from PIL import Image

    return forward.encoders[0].prepare(Image.new("L", (64, 64)))[np.newaxis]
