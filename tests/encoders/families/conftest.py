"""What the layout tests share: small networks of a family, asked for as a user's own file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

# The restated maths that several tests compare with lies beside them, in no package.
sys.path.insert(0, str(Path(__file__).parent))

FACTORY = '''\
"""{spec} with fewer blocks and channels."""

from dataclasses import replace
from functools import partial

from embedcache.encoders.families.{module} import {spec} as FULL

SHAPE = {shape!r}


def smaller(part):
    dim = part.dim and part.dim * {dim} // FULL.dim
    return replace(part, dim=dim, build=part.build and partial(part.build, **SHAPE))


def narrow():
    variants = {{name: smaller(variant) for name, variant in FULL.variants.items()}}
    return replace(smaller(FULL), variants=variants)
'''


@pytest.fixture
def narrow(tmp_path: Path) -> Callable[..., str]:
    """Write a factory into a Python file and give the reference to it, without weights.

    The pools, the preprocessing, the names and the strictness are the listed encoder's own.
    """

    def write(module: str, spec: str, dim: int, **shape: Any) -> str:
        file = tmp_path / "narrow.py"
        file.write_text(FACTORY.format(module=module, spec=spec, dim=dim, shape=shape))
        return f"{file}:narrow"

    return write


@pytest.fixture(scope="session")
def picture() -> Image.Image:
    """A picture of no special shape, smooth enough for filters to agree in part."""
    rng = np.random.default_rng(11)
    coarse = Image.fromarray(rng.integers(0, 256, (20, 30, 3)).astype(np.uint8))
    smooth = np.asarray(coarse.resize((410, 300), Image.Resampling.BICUBIC), np.int16)
    speckled = smooth + rng.integers(-40, 40, smooth.shape)
    return Image.fromarray(speckled.clip(0, 255).astype(np.uint8))
