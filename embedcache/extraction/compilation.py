"""torch.compile on one network: what it costs, what it gains, and that it gives the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import TOLERANCE
from embedcache.encoders.network import NetworkEncoder
from embedcache.errors import CompiledDiffersError

Pixels = NDArray[np.uint8]
Vectors = list[NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Compilation:
    """What compiling a network came to.

    Attributes:
        name: of the first encoder on it.
        seconds: the first compiled batch took.
        before: seconds a batch as it was.
        after: seconds a batch compiled.
        batch: images of that batch.
        difference: largest relative difference of a vector.
    """

    name: str
    seconds: float
    before: float
    after: float
    batch: int
    difference: float

    def __str__(self) -> str:
        ratio = self.before / self.after
        if self.after >= self.before:
            worth = "it gains nothing here"
        else:
            images = self.seconds / (self.before - self.after) * self.batch
            worth = f"worth it beyond {images:,.0f} images"
        return (
            f"{self.name}: compiled in {self.seconds:.0f} s, then {ratio:.2f} times as fast "
            f"({worth}); vectors differ by {self.difference:.1g} at most"
        )


def compile_network(
    encoders: Sequence[NetworkEncoder], pixels: Pixels, run: Callable[[Pixels], Vectors]
) -> Compilation:
    """Compile the network that encoders share, and hold it against itself on a batch.

    Raises:
        CompiledDiffersError: if a vector differs by more than the precision's tolerance.
    """
    run(pixels)  # the first batch finds its memory
    before, plain = _timed(run, pixels)
    # In place: encoders of one module all get it, whatever the order they were built in.
    encoders[0].module.compile(dynamic=False)
    seconds, _ = _timed(run, pixels)
    after, compiled = _timed(run, pixels)
    difference = max(_difference(*pair) for pair in zip(plain, compiled, strict=True))
    tolerance = TOLERANCE[encoders[0].contract.precision]
    if not difference <= tolerance:
        raise CompiledDiffersError(encoders[0].name, difference, tolerance)
    return Compilation(
        name=encoders[0].name,
        seconds=seconds,
        before=before,
        after=after,
        batch=len(pixels),
        difference=difference,
    )


def _timed(run: Callable[[Pixels], Vectors], pixels: Pixels) -> tuple[float, Vectors]:
    started = time.perf_counter()
    vectors = run(pixels)
    return time.perf_counter() - started, vectors


def _difference(plain: NDArray[np.float32], compiled: NDArray[np.float32]) -> float:
    norm = np.linalg.norm(plain, axis=1)
    return float((np.linalg.norm(compiled - plain, axis=1) / np.where(norm > 0, norm, 1)).max())
