"""A private table of images, in the words that embedcache takes unasked."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "image,label,patient,site"
ROWS = (
    ("pictures/a.png", "brain", "007", "north"),
    ("pictures/b.png", "femur", "007", "north"),
    ("pictures/c.png", "brain", "8", ""),
)


def make(folder: Path) -> None:
    """Write `planes.csv` and the images below `pictures`."""
    (folder / "pictures").mkdir(parents=True)
    lines = [HEADER, *(",".join(row) for row in ROWS), ""]
    (folder / "planes.csv").write_text("\n".join(lines), "utf-8")
    rng = np.random.default_rng(0)
    for name, *_ in ROWS:
        Image.fromarray(rng.integers(0, 256, (12, 16), np.uint8)).save(folder / name)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
