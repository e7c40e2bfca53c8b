"""Show that an encoder gives the same numbers here as where a store's features come from.

A contract says what an encoder is, and the same contract may still run wrongly: another version of
torch or timm, a driver, a patched kernel. So each run that has something to encode sends one fixed
picture through `prepare` and `encode`, and keeps a fingerprint of the vector beside the contract,
never in it. A later run's fingerprint must agree within the tolerance of the precision.

The picture is made by integer arithmetic alone, so that it has the same bytes everywhere. Of the
vector the fingerprint keeps its length and 32 products with vectors of random signs: for two
vectors the mean square of the products' differences is, over the draw of the signs, the square of
their distance, with a standard error of a quarter (sqrt(2 / 32)). A tolerance that a right machine
keeps by a factor of ten (contract.TOLERANCE) is not missed by that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedcache.encoders.device import device_name
from embedcache.encoders.network import NetworkEncoder, encode_together
from embedcache.encoders.spec import Encoder
from embedcache.provenance import Fingerprint, provenance

#: Rows and columns of the picture: no square, so that every fit has something to do, and larger
#: than most networks' input, so that the filter has.
HEIGHT, WIDTH = 360, 480
#: Products that stand for a vector.
DIRECTIONS = 32


def pattern() -> Image.Image:
    """A picture of mode RGB with slopes, edges and noise, each of its channels another."""
    row, column = np.mgrid[0:HEIGHT, 0:WIDTH]
    red = row * 255 // (HEIGHT - 1)
    green = ((row // 24 + column // 40) % 2) * 160 + column * 95 // (WIDTH - 1)
    noise = np.frombuffer(_bytes(b"picture", HEIGHT * WIDTH), np.uint8).reshape(HEIGHT, WIDTH)
    blue = np.where((row - 180) ** 2 + (column - 240) ** 2 < 150**2, noise // 2 + red // 2, 0)
    return Image.fromarray(np.stack([red, green, blue], axis=2).astype(np.uint8))


def self_check(encoders: Sequence[Encoder]) -> list[Fingerprint | None]:
    """Run the pattern once through built encoders of one network.

    Returns:
        the fingerprint of each; None for one that computes without a network, and so the same
        everywhere, and for a vector that is not finite, as half precision may give: rows like it
        fail later.
    """
    networks = [encoder for encoder in encoders if isinstance(encoder, NetworkEncoder)]
    if len(networks) < len(encoders):
        return [None] * len(encoders)
    vectors = encode_together(networks, networks[0].prepare(pattern())[np.newaxis])
    return [fingerprint(vector[0], networks[0].device) for vector in vectors]


def fingerprint(vector: NDArray[np.float32], device: str) -> Fingerprint | None:
    """What is kept of the pattern's vector, (dim,) float32; None if it is not finite."""
    if not np.isfinite(vector).all():
        return None
    long = vector.astype(np.float64)
    here = provenance(device_name(device))
    return Fingerprint(
        norm=float(np.linalg.norm(long)),
        projection=tuple((_signs(len(long)) @ long).tolist()),
        packages=here.packages,
        system=here.system,
        device=here.device,
    )


def _signs(dim: int) -> NDArray[np.float64]:
    """Plus and minus one, (DIRECTIONS, dim) float64, the same on every machine."""
    bits = np.unpackbits(np.frombuffer(_bytes(b"directions", DIRECTIONS * dim // 8), np.uint8))
    return np.where(bits.reshape(DIRECTIONS, dim), 1.0, -1.0)


def _bytes(purpose: bytes, count: int) -> bytes:
    """Noise without a generator, whose stream a library might change."""
    return hashlib.shake_256(b"embedcache self-check " + purpose).digest(count)
