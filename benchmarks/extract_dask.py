"""Extraction on Dask: two workers against one, and workers that are killed every few seconds.

    python benchmarks/extract_dask.py [--only scaling|kills] [--rounds 3]

`scaling`: `extract --scheduler local:1` and `local:2`, a thread each, efficientnet-lite0 over real
images (made ones where they are not beside the checkout), each three times with another last byte:
half a minute and more, as a cohort of a study takes longer still. Images a second of the pass: a
second worker's loading of its encoder is in it, starting the cluster is not; walls stand beside.
Ratios within a round, their median; 1.7 or more on two cores.

`kills`: 5,000 small made images through a stand-in of 10 ms an image on two workers, one of which
is killed with SIGKILL every three seconds, the other's turn next. Nothing may be lost: the content
digest is compared with that of one process that nobody disturbs.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

from cohort_rows import again, first
from record import COHORTS, record

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_cohort
from embedcache.extraction.extract import extract
from embedcache.store.reader import open_store
from embedcache.testing.paced_run import speckles
from embedcache.testing.stand_ins import paced

ENCODER, TIMES, BAR = "efficientnet-lite0", 3, 1.7
KILLED, PACE, EVERY = 5_000, 0.01, 3.0


def main() -> None:
    options = arguments()
    os.environ["EMBEDCACHE_KEY"] = "5e" * 32
    os.environ["OMP_NUM_THREADS"] = "1"
    if options.only != "kills":
        record("extract-dask-scaling", scaling(options.rounds, options.images))
    if options.only != "scaling":
        record("extract-dask-kills", kills(options.images or KILLED))


def scaling(rounds: int, images: int | None) -> dict[str, object]:
    cohort = real()
    cohort = first(cohort, images or len(cohort))
    rates: dict[int, list[float]] = {1: [], 2: []}
    walls: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for workers in (1, 2):
            started = time.perf_counter()
            rates[workers].append(on_dask(cohort, workers))
            walls[workers].append(time.perf_counter() - started)
    pairs = zip(rates[2], rates[1], strict=True)
    return {
        "encoder": ENCODER,
        "images": len(cohort),
        "images_per_second": {str(n): [round(one, 2) for one in each] for n, each in rates.items()},
        "wall_seconds": {str(n): [round(one, 1) for one in each] for n, each in walls.items()},
        "two_over_one": round(statistics.median(two / one for two, one in pairs), 3),
        "bar": BAR,
    }


def real() -> Cohort:
    place = COHORTS / "fetal_planes_db_four_planes"
    if place.is_dir():
        cohort = read_cohort(f"spain=fetal-planes-db:{place}")
        return again(cohort, TIMES * len(cohort))
    return read_cohort("home=synthetic:home")


def on_dask(cohort: Cohort, workers: int) -> float:
    """Images a second of the pass."""
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "s.zarr"
        done = extract(store, [cohort], [ENCODER], device="cpu", scheduler=f"local:{workers}")
    return done.passes[0].rate


def kills(images: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as place:
        quiet, killed = Path(place) / "quiet.zarr", Path(place) / "killed.zarr"
        started = time.perf_counter()
        extract(quiet, [speckles(images)], [paced(PACE)], device="cpu")
        quiet_seconds = time.perf_counter() - started
        deaths, seconds = disturbed(killed, images)
        same = digests(quiet) == digests(killed)
        rows = int(open_store(killed).done(next(iter(digests(killed)))).sum())
    return {
        "images": images,
        "pace_ms": PACE * 1000,
        "workers": 2,
        "kills": deaths,
        "seconds": round(seconds, 1),
        "quiet_seconds_of_one_process": round(quiet_seconds, 1),
        "rows_done": rows,
        "bit_identical": same,
    }


def disturbed(store: Path, images: int) -> tuple[int, float]:
    """Extract while workers are killed; how many were, and how long it took."""
    from distributed import LocalCluster

    stop, deaths = threading.Event(), 0
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:

        def kill() -> None:
            nonlocal deaths
            while not stop.wait(EVERY):
                running = [one for one in cluster.workers.values() if one.status.name == "running"]
                if len(running) == 2:  # else one is being started again
                    os.kill(running[deaths % 2].pid, signal.SIGKILL)
                    deaths += 1
                cluster.scale(2)  # a process killed while it started is given up otherwise

        killer = threading.Thread(target=kill)
        killer.start()
        started = time.perf_counter()
        try:
            extract(store, [speckles(images)], [paced(PACE)], scheduler=cluster.scheduler_address)
        finally:
            stop.set()
            killer.join()
        return deaths, time.perf_counter() - started


def digests(store: Path) -> dict[str, str]:
    opened = open_store(store)
    return {one.id: opened.content_digest(one.id) for one in opened.feature_sets()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("scaling", "kills"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, help="fewer, for a trial")
    return parser.parse_args()


if __name__ == "__main__":
    main()
