"""Does the pipeline keep up with a GPU? One and seven stand-ins of 0.5 ms an image, real images.

    python benchmarks/paced.py [--rounds 3] [--memory]

A stand-in sleeps 0.5 ms for each image and releases the GIL: a GPU at 2,000 images a second; seven
take turns on it. Expected of `extract` from start to end, hashing and durable writes included: 0.9
of the smaller of 2,000 / stand-ins and of what these cores read, decode and fit with nothing else
running. A serial loop over the same parts stands beside it. Each round runs all of them; medians.

`--memory` instead extracts 1,000, 10,000 and 100,000 images in processes of their own, and records
the most memory that each took.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cohort_rows import again, first, only
from record import COHORTS, record

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_cohort
from embedcache.encoders.preprocessing import fit
from embedcache.extraction.extract import extract
from embedcache.images.decode import decode
from embedcache.images.source import Layout, RawImage, Source
from embedcache.testing.stand_ins import paced

PACE, BATCH, BAR = 0.0005, 32, 0.9
REFERENCES = (
    f"spain=fetal-planes-db:{COHORTS / 'fetal_planes_db_four_planes'}",
    f"originals=fetal-planes-db:{COHORTS / 'fetal_planes_db_originals'}",
    f"africa=african-planes:{COHORTS / 'african_planes'}",
)
TIMES = 5
SIZES = (1_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Numbered:
    """One small picture, told apart by a number in its first pixels: drawing costs nothing."""

    number: int

    def read(self) -> RawImage:
        """Make it; see `Source.read`."""
        pixels = self.number.to_bytes(8, "little") + bytes(range(256)) * 16
        return RawImage(pixels[:4096], Layout(shape=(64, 64), dtype="uint8", photometric="grey"))


def distinct(cohorts: list[Cohort]) -> list[Cohort]:
    """Each image once: one that is there twice costs `extract` half, and a loop all of it."""
    seen: set[bytes] = set()
    left = []
    for cohort in cohorts:
        digests = [source.read().digest for source in cohort.images]
        new = [row for row, one in enumerate(digests) if not (one in seen or seen.add(one))]
        left.append(only(cohort, np.array(new)))
    return left


def main() -> None:
    options = arguments()
    os.environ["EMBEDCACHE_KEY"] = "5e" * 32
    if options.child:
        child(options.child)
    elif options.memory:
        record("extract-memory", {"each": [memory(images) for images in SIZES]})
    else:
        record("paced", speed(options.rounds))


def speed(rounds: int) -> dict[str, object]:
    cohorts = distinct([read_cohort(reference) for reference in REFERENCES])
    cohorts = [again(cohort, TIMES * len(cohort)) for cohort in cohorts]
    sources = [source for cohort in cohorts for source in cohort.images]
    ways: dict[str, Callable[[], float]] = {"decode_and_fit_alone": lambda: alone(sources)}
    for number in (1, 7):
        ways[f"extract_{number}"] = lambda number=number: whole(cohorts, number)
        ways[f"serial_{number}"] = lambda number=number: serial(sources, number)
    whole(cohorts, 1)  # imports, and files into the page cache
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(len(sources) / way())
    rate = {name: statistics.median(each) for name, each in found.items()}
    shares = {}
    for number in (1, 7):
        limit = min(1 / PACE / number, rate["decode_and_fit_alone"])
        # Of its own round: other work on this machine comes and goes.
        limits = [min(1 / PACE / number, one) for one in found["decode_and_fit_alone"]]
        shares[f"{number} stand-ins"] = {
            "limit": round(limit, 1),
            "extract_share": of(found[f"extract_{number}"], limits),
            "serial_share": of(found[f"serial_{number}"], limits),
        }
    return {
        "images": len(sources),
        "pace_ms": PACE * 1000,
        "images_per_second": {name: round(one, 1) for name, one in rate.items()},
        "each_round": {name: [round(one, 1) for one in each] for name, each in found.items()},
        "shares_of_limit": shares,
        "bar": BAR,
    }


def of(rates: list[float], limits: list[float]) -> float:
    pairs = zip(rates, limits, strict=True)
    return round(statistics.median(rate / limit for rate, limit in pairs), 3)


def stand_ins(number: int) -> list[object]:
    return [paced(PACE, name=f"paced{index}") for index in range(number)]


def alone(sources: list[Source]) -> float:
    how = paced(PACE).contract.preprocessing
    started = time.perf_counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(lambda source: fit(decode(source.read()), how), sources))
    return time.perf_counter() - started


def whole(cohorts: list[Cohort], number: int) -> float:
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        extract(Path(place) / "s.zarr", cohorts, stand_ins(number), batch=BATCH)
        return time.perf_counter() - started


def serial(sources: list[Source], number: int) -> float:
    """Read, decode, fit and encode in turn: no hashing, no store."""
    encoders = [one.build() for one in stand_ins(number)]
    started = time.perf_counter()
    for start in range(0, len(sources), BATCH):
        some = sources[start : start + BATCH]
        pixels = np.stack([encoders[0].prepare(decode(source.read())) for source in some])
        for encoder in encoders:
            encoder.encode(pixels)
    return time.perf_counter() - started


def memory(images: int) -> dict[str, object]:
    made = subprocess.run(
        [sys.executable, __file__, "--child", str(images)],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(made.stdout.splitlines()[-1])


def child(images: int) -> None:
    """Extract so many numbered images through seven stand-ins that take no time."""
    number = np.arange(images)
    cohort = Cohort(
        name="numbered",
        classes=("even", "odd"),
        images=tuple(Numbered(one) for one in number.tolist()),
        label=(number % 2).astype(np.int16),
        patient=np.char.mod("p%d", number // 4),
        strata={},
        namespace="numbered",
        reader="synthetic",
        synthetic=True,
    )
    encoders = [paced(0, name=f"paced{index}") for index in range(7)]
    with tempfile.TemporaryDirectory() as place:
        # Before: what imports and the cohort's own table take.
        extract(Path(place) / "first.zarr", [first(cohort, 64)], encoders, batch=BATCH)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        extract(Path(place) / "s.zarr", [cohort], encoders, batch=BATCH)
        seconds = time.perf_counter() - started
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    figures = {
        "images": images,
        "most_mb_of_all_processes": round((most + workers) / 1024, 1),
        "before_mb": round(before / 1024, 1),
        "images_per_second": round(images / seconds, 1),
    }
    print(json.dumps(figures))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
