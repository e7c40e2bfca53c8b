"""An encoder that costs what it is told to, and counts what it did.

It stands in for a slow model where the pipeline around it is what is measured or killed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.resolve import ResolvedEncoder, resolved
from embedcache.encoders.spec import ArithmeticSpec

SIDE = 16


def paced(seconds: float, log: Path | None = None, name: str = "paced") -> ResolvedEncoder:
    """An encoder of grey thumbnails that sleeps for each picture, and so releases the GIL.

    Args:
        seconds: slept for each picture; padding (all zeros) is free.
        log: gets a line for each batch: how many pictures it held.
        name: tells several stand-ins apart; part of the contract.
    """

    def compute(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        flat = batch.reshape(len(batch), -1)
        pictures = int(flat.any(axis=1).sum())
        time.sleep(seconds * pictures)
        if log is not None:
            _append(log, f"{pictures}\n")
        return flat.astype(np.float32) / np.float32(255)

    spec = ArithmeticSpec(
        name=name,
        dim=SIDE * SIDE,
        architecture=f"embedcache.testing:{name}",
        preprocessing=Preprocessing(
            height=SIDE, width=SIDE, colour="grey", resample="bilinear", mean=(0.0,), std=(1.0,)
        ),
        pooling="flatten",
        compute=compute,
    )
    return resolved(spec)


def _append(log: Path, line: str) -> None:
    # One write to a file opened for appending is whole, whoever is killed next.
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
