"""A folder with a sub-folder for each class, patients in the file names, and what systems leave."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

FILES = ("brain/P1_a.png", "brain/P2_a.PNG", "plane 3/P1_b.png", "plane 3/later/P3_a.jpg")


def make(folder: Path) -> None:
    """Write four images of three patients in two classes."""
    rng = np.random.default_rng(0)
    for name in FILES:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (12, 16), np.uint8)).save(path)
    (folder / "brain" / ".DS_Store").write_bytes(b"\0")
    (folder / "brain" / "Thumbs.db").write_bytes(b"\0")
    (folder / "README.md").write_text("Notes lie beside images.", "utf-8")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
