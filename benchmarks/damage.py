"""Does verify find 1,000 random flips, deletions, truncations and swaps of chunk files?

    python benchmarks/damage.py [--times 1000] [--seed 0] [--strangers 5000]

A store of 3,000 images, a cohort and three encoders. Found means: opening refuses the store, or
verify names a file that was hurt, or the manifest's list that disagrees with it.

Then a stranger's store, of seven images: so often a document with anything anywhere, and so often
other bytes in any file. Right means: digests, labels, vectors and `verify` each end in an error of
ours, or in what the sound store says; never in a crash, and within 64 MiB and ten seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from record import record

from embedcache.errors import EmbedcacheError
from embedcache.store.verify import verify
from embedcache.testing.damage import Damage, damage
from embedcache.testing.hostile_store import (
    answers,
    are_right,
    evil_document,
    other_bytes,
)
from embedcache.testing.stored_features import MadeCohort, put_cohort, put_features

IMAGES, DIM = 3_000, 8
Hurt = Callable[[Path, st.DataObject], AbstractContextManager[Path]]


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
        strangers = {
            hurt.__name__: hostile(Path(place) / f"{hurt.__name__}.zarr", hurt, options.strangers)
            for hurt in (evil_document, other_bytes)
        }
    figures = {"done": done, "found": found, "sound_when_undone": sound, "strangers": strangers}
    record("damage", figures)


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


def hostile(path: Path, hurt: Hurt, times: int) -> dict[str, float]:
    """What so many drawn damages of one kind end in, and the most that one of them took."""
    words = [f"image {row}" for row in range(7)]
    label, patient = ["a", "b", "a", "b", "a", "b", "a"], ["p", "p", "q", "q", "r", "r", "s"]
    home = MadeCohort(name="home", classes=("a", "b"), image=words, label=label, patient=patient)
    put_cohort(path, home)
    vectors = np.random.default_rng(0).standard_normal((7, DIM), np.float32)
    put_features(path, "one", dict(zip(words, vectors, strict=True)))
    right, count, most = answers(path), Counter[str](), {"bytes": 0, "seconds": 0.0}

    @settings(max_examples=times, deadline=None, database=None, derandomize=True)
    @given(st.data())
    def look(data: st.DataObject) -> None:
        with hurt(path, data) as file:
            tracemalloc.start()
            started = time.process_time()
            found = answers(path)
            most["seconds"] = max(most["seconds"], time.process_time() - started)
            most["bytes"] = max(most["bytes"], tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        count["examples"] += 1
        count["with_an_error"] += ("error",) in found or found[3] == ("answer", False)
        count["right"] += are_right(found, right, file if hurt is evil_document else None)

    look()
    assert answers(path) == right, "as it was"
    return {
        **count,
        "most_mebibytes": round(most["bytes"] / 2**20, 1),
        "most_cpu_seconds": round(most["seconds"], 2),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=1_000)
    parser.add_argument("--strangers", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
