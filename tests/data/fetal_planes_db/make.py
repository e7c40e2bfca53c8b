"""A tiny FETAL_PLANES_DB in the official layout: `;`, a header that ends in 'Train ', grey PNGs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

HEADER = "Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "
ROWS = (
    ("Patient00001_Plane2_1_of_2", "1", "Fetal abdomen", "Not A Brain", "Op. 1", "Voluson E6", "1"),
    (
        "Patient00001_Plane3_1_of_1",
        "1",
        "Fetal brain",
        "Trans-thalamic",
        "Op. 1",
        "Voluson E6",
        "1",
    ),
    ("Patient00002_Plane3_1_of_1", "2", "Fetal brain", "Trans-cerebellum", "Op. 3", "Aloka", "0"),
    ("Patient00003_Plane1_1_of_1", "3", "Other", "Not A Brain", "Other", "Voluson S10", "0"),
    ("Patient00004_Plane4_1_of_1", "4", "Maternal cervix", "Not A Brain", "Op. 3", "Aloka", "1"),
)


def make(folder: Path) -> None:
    """Write the table and an image for each of its rows."""
    images = folder / "Images"
    images.mkdir(parents=True)
    lines = [HEADER, *(";".join(row) + " " for row in ROWS)]
    (folder / "FETAL_PLANES_DB_data.csv").write_bytes("\n".join([*lines, ""]).encode("ascii"))
    rng = np.random.default_rng(0)
    for row in ROWS:
        pixels = rng.integers(0, 256, (12, 16), np.uint8)
        Image.fromarray(pixels).save(images / f"{row[0]}.png")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
