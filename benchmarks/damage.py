"""Does verify find 1,000 random flips, deletions, truncations and swaps of chunk files?

    python benchmarks/damage.py [--times 1000] [--seed 0]

A store of 3,000 images, a cohort and three encoders. Found means: opening refuses the store, or
verify names a file that was hurt, or the manifest's list that disagrees with it.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from record import record

from embedcache.errors import EmbedcacheError
from embedcache.store.verify import verify
from embedcache.testing.damage import Damage, damage
from embedcache.testing.stored_features import MadeCohort, put_cohort, put_features

IMAGES, DIM = 3_000, 8


def main() -> None:
    options = arguments()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        store = made(Path(place) / "a.zarr")
        draw = np.random.default_rng(options.seed)
        done, found = Counter[str](), Counter[str]()
        for _ in range(options.times):
            one = damage(store, draw)
            done[one.kind] += 1
            found[one.kind] += is_found(store, one)
            one.undo(store)
        sound = verify(store).sound
    record("damage", {"done": done, "found": found, "sound_when_undone": sound})


def made(path: Path) -> Path:
    words = [f"image {row}" for row in range(IMAGES)]
    put_cohort(
        path,
        MadeCohort(
            name="home",
            classes=("a", "b"),
            image=words,
            label=["a" if row % 2 else "b" for row in range(IMAGES)],
            patient=[f"patient {row // 3}" for row in range(IMAGES)],
            strata={"site": [f"site {row % 5}" for row in range(IMAGES)]},
        ),
    )
    for seed, name in enumerate(("one", "two", "three")):
        vectors = np.random.default_rng(seed).standard_normal((IMAGES, DIM), np.float32)
        put_features(path, name, dict(zip(words, vectors, strict=True)))
    return path


def is_found(store: Path, one: Damage) -> bool:
    try:
        findings = verify(store).findings
    except EmbedcacheError:
        return True
    if any(key.startswith("manifest/") for key in one.keys):
        return bool(findings)
    return any(f.node == key or key.startswith(f.node) for f in findings for key in one.keys)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
