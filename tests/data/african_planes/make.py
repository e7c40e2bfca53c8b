"""A tiny African cohort in the official layout: a folder and new patient numbers at each site."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "Patient_num,Plane,Train,Center,Filename"
ROWS = (
    ("1", "Fetal abdomen", "0", "Algeria", "patient001_DZA_plane0"),
    ("1", "Fetal brain", "0", "Algeria", "patient001_DZA_plane1"),
    ("1", "Fetal femur", "1", "Egypt", "patient001_EGY_plane2"),
    ("2", "Fetal thorax", "1", "Egypt", "patient002_EGY_plane3"),
)


def make(folder: Path) -> None:
    """Write the table and the images; those of Egypt are RGB, as published."""
    folder.mkdir(parents=True)
    lines = [HEADER, *(",".join(row) for row in ROWS), ""]
    (folder / "African_planes_database.csv").write_bytes("\n".join(lines).encode("ascii"))
    rng = np.random.default_rng(0)
    for _, _, _, site, name in ROWS:
        (folder / site).mkdir(exist_ok=True)
        shape = (12, 16, 3) if site == "Egypt" else (12, 16)
        pixels = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(pixels).save(folder / site / f"{name}.png")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
