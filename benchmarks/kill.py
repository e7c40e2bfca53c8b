"""Kill an extraction with SIGKILL at 20 random instants; does a rerun end bit-identical?

    python benchmarks/kill.py [--kills 20] [--together 5] [--seed 0]

A paced stand-in encoder (0.1 s an image) on the shared cohorts. Each kill has a store of its own:
run, kill, look, run again to the end. `os.fsync` is watched, so that each kill is known to lie
before the first durable write, between the first and the last, or after it. Kills run several
at a time: the encoder sleeps, the machine does not notice.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from record import COHORTS, record

PACE = 0.1
REFERENCES = (
    f"spain=fetal-planes-db:{COHORTS / 'fetal_planes_db_four_planes'}",
    f"africa=african-planes:{COHORTS / 'african_planes'}",
)


@dataclass(frozen=True)
class Kill:
    """One kill and the rerun after it.

    Attributes:
        instant: seconds after the start.
        between: whether it fell between the first and the last durable write.
        writes: durable writes before it.
        encoded_before: images encoded before it.
        kept: of these, found again by the rerun.
        again: images encoded twice; times the pace, the work lost in seconds.
        identical: whether images, cohorts, vectors and done equal the undisturbed store's.
        sound: whether the rerun's store verifies without a finding.
    """

    instant: float
    between: bool
    writes: int
    encoded_before: int
    kept: int
    again: int
    identical: bool
    sound: bool


def child(store: Path, encoded: Path, synced: Path) -> None:
    """Extract in this process, noting every batch and every fsync."""
    from embedcache import extract
    from embedcache.testing.stand_ins import paced

    real = os.fsync

    def noted(descriptor: int) -> None:
        real(descriptor)
        with synced.open("a") as file:
            file.write(f"{time.time()}\n")

    os.fsync = noted
    extract(store, REFERENCES, [paced(PACE, encoded)])


def start(folder: Path) -> subprocess.Popen[bytes]:
    paths = [str(folder / name) for name in ("store.zarr", "encoded.log", "synced.log")]
    return subprocess.Popen([sys.executable, __file__, "--child", *paths])


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as place:
        quiet = Path(place) / "quiet"
        quiet.mkdir()
        started = time.time()
        if start(quiet).wait():
            sys.exit("the undisturbed run failed")
        writes = times(quiet / "synced.log")
        first, last = writes[0] - started, writes[-1] - started
        expected, images = data(quiet / "store.zarr"), encoded(quiet / "encoded.log")
        instants = np.random.default_rng(options.seed).uniform(0, last, options.kills).tolist()
        with ThreadPoolExecutor(options.together) as pool:
            kills = list(pool.map(lambda i: kill(Path(place), i, expected, images), instants))
    record("kill", summary(kills, (first, last), images))


def summary(kills: list[Kill], writes: tuple[float, float], images: int) -> dict[str, object]:
    return {
        "pace_seconds": PACE,
        "images": images,
        "undisturbed": {"first_durable_write": writes[0], "last_durable_write": writes[1]},
        "kills": len(kills),
        "between_first_and_last_durable_write": sum(one.between for one in kills),
        "reruns_bit_identical": sum(one.identical for one in kills),
        "reruns_verified_sound": sum(one.sound for one in kills),
        "most_seconds_of_work_lost": max(one.again for one in kills) * PACE,
        "each": [asdict(one) for one in kills],
    }


def kill(place: Path, instant: float, expected: dict[str, str], images: int) -> Kill:
    """One store: run, kill after `instant` seconds, run again, compare."""
    from embedcache.store.verify import verify

    folder = Path(tempfile.mkdtemp(dir=place))
    process = start(folder)
    time.sleep(instant)
    finished = process.poll() is not None
    process.send_signal(signal.SIGKILL)
    process.wait()
    before, writes = encoded(folder / "encoded.log"), len(times(folder / "synced.log"))
    if start(folder).wait():
        sys.exit(f"the rerun after a kill at {instant:.1f} s failed")
    total = encoded(folder / "encoded.log")
    return Kill(
        instant=round(instant, 2),
        between=writes > 0 and not finished,
        writes=writes,
        encoded_before=before,
        kept=before - (total - images),
        again=total - images,
        identical=data(folder / "store.zarr") == expected,
        sound=verify(folder / "store.zarr").sound,
    )


def data(store: Path) -> dict[str, str]:
    """Sha256 of every object that is data: all but the runs' records and the manifest."""
    from embedcache.store.layout import is_data

    found = {
        path.relative_to(store).as_posix(): path for path in store.rglob("*") if path.is_file()
    }
    return {
        key: hashlib.sha256(path.read_bytes()).hexdigest()
        for key, path in sorted(found.items())
        if is_data(key)
    }


def encoded(log: Path) -> int:
    return sum(int(line) for line in log.read_text().split()) if log.exists() else 0


def times(log: Path) -> list[float]:
    return [float(line) for line in log.read_text().split()] if log.exists() else []


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--together", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*(Path(word) for word in sys.argv[2:]))
    else:
        main()
