"""How often an image's nearest neighbour is of the same patient, on the shared cohorts.

    python benchmarks/reidentification.py

The figures of docs/explanation/privacy.md; what `embedcache store inspect --privacy` measures.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from record import COHORTS, record

from embedcache.extraction.extract import extract
from embedcache.schema import plain
from embedcache.store.privacy import exposure
from embedcache.store.reader import open_store

GIVEN = (
    f"spain=fetal-planes-db:{COHORTS / 'fetal_planes_db_four_planes'}",
    f"africa=african-planes:{COHORTS / 'african_planes'}",
)
ENCODERS = ("efficientnet-lite0", "pixels")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store.zarr"
        extract(store, GIVEN, ENCODERS)
        found = exposure(open_store(store))
    record("reidentification", {"reidentification": plain(found.reidentification)})


if __name__ == "__main__":
    main()
