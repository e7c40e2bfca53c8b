"""Kill, starve and break extractions; does a rerun end bit-identical, with nothing lost or twice?

    python benchmarks/durability.py [--kills 200] [--stride 1] [--seed 0]

1. SIGKILL at random instants, uniform over an undisturbed run, of an extraction by a paced
   stand-in (2 ms an image, 300 images, vectors written every 0.2 s, so that a run of a second
   makes over a hundred durable writes). `os.fsync` is watched: how many kills fell between them?
2. An I/O error at every call that writes, in turn, once; at every fourth, a disk that is full from
   there on.
3. A file system of a megabyte (a tmpfs, where we may mount one), then room again.
"""

from __future__ import annotations

import argparse
import errno
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from record import record

from embedcache.errors import EmbedcacheError
from embedcache.store.layout import is_data
from embedcache.store.verify import verify
from embedcache.testing.failing_disk import FailingDisk
from embedcache.testing.paced_run import PacedRun, run

IMAGES, PACE, FLUSH = 300, 0.002, 0.2
#: Images of the runs with I/O errors, of two encoders each.
FEW = 5


def main() -> None:
    options = arguments()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as place:
        figures = {
            "kills": kills(Path(place), options.kills, options.seed),
            "io_error_once": broken(Path(place), lasting=False, stride=options.stride),
            "disk_full_for_good": broken(Path(place), lasting=True, stride=4 * options.stride),
            "tmpfs_of_a_megabyte": full(Path(place)),
        }
    record("durability", figures)


def kills(place: Path, number: int, seed: int) -> dict[str, Any]:
    quiet = paced_run(place, "quiet")
    quiet.finish()  # the first start imports everything
    quiet = paced_run(place, "quiet2")
    started = time.time()
    quiet.finish()
    writes = times(quiet)
    expected = data(quiet.store)
    instants = np.random.default_rng(seed).uniform(0, writes[-1] - started, number)
    found = [kill(place, index, instant, expected) for index, instant in enumerate(instants)]
    return {
        "kills": number,
        "durable_writes_of_a_run": len(writes),
        "seconds_of_a_run": round(writes[-1] - started, 2),
        "between_first_and_last_durable_write": sum(one["between"] for one in found),
        "reruns_bit_identical": sum(one["identical"] for one in found),
        "reruns_verified_sound": sum(one["sound"] for one in found),
        "damaged_before_the_rerun": sum(one["damaged"] for one in found),
        "most_images_encoded_again": max(one["again"] for one in found),
    }


def kill(place: Path, index: int, instant: float, expected: dict[str, bytes]) -> dict[str, Any]:
    one = paced_run(place, f"kill{index}")
    process = one.start()
    time.sleep(instant)
    between = process.is_alive() and bool(times(one))
    process.kill()
    process.join()
    damaged = one.store.exists() and bool(verify(one.store).findings)
    if one.finish():
        sys.exit(f"the rerun after a kill at {instant:.2f} s failed")
    return {
        "between": between,
        "damaged": damaged,
        "identical": data(one.store) == expected,
        "sound": verify(one.store).sound,
        "again": encoded(one) - IMAGES,
    }


def paced_run(place: Path, name: str) -> PacedRun:
    (place / name).mkdir()
    return PacedRun(
        store=place / name / "store.zarr",
        images=IMAGES,
        pace=PACE,
        flush=FLUSH,
        encoded=place / name / "encoded",
        synced=place / name / "synced",
    )


def broken(place: Path, *, lasting: bool, stride: int) -> dict[str, Any]:
    """The call that fails, from the first to the last of an extraction, in this process."""
    error = errno.ENOSPC if lasting else errno.EIO
    whole = place / f"whole{lasting}.zarr"
    run(few(whole))
    expected, ended, wrong, call = data(whole), Counter[str](), 0, 0
    while True:
        store = place / f"broken{lasting}{call}.zarr"
        with FailingDisk(call, lasting=lasting, error=error) as disk:
            ended[outcome(store)] += 1
        if not disk.failed:
            break
        run(few(store))
        wrong += data(store) != expected or not verify(store).sound
        call += stride
    return {
        "calls_that_write": disk.calls,
        "failed_in_turn": sum(ended.values()) - 1,
        "ended": ended,
        "reruns_not_identical_or_sound": wrong,
    }


def outcome(store: Path) -> str:
    try:
        run(few(store))
    except SystemExit as error:
        cause = error.__cause__
        return type(cause).__name__ if isinstance(cause, EmbedcacheError) else "untyped"
    return "finished"


def few(store: Path) -> PacedRun:
    return PacedRun(store=store, images=FEW, encoders=("one", "two"))


def full(place: Path) -> dict[str, Any] | str:
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        return "not measured: no right to mount"
    try:
        whole = PacedRun(store=place / "roomy.zarr")
        tight = PacedRun(store=disk / "store.zarr", told=place / "told")
        whole.finish()
        code = tight.finish()
        findings = len(verify(tight.store).findings)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again = tight.finish()
        return {
            "exit_code": code,
            "error": (place / "told").read_text(),
            "findings_while_full": findings,
            "exit_code_of_the_rerun": again,
            "bit_identical": data(tight.store) == data(whole.store),
        }
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def data(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file())
    named = {path.relative_to(store).as_posix(): path for path in files}
    return {key: path.read_bytes() for key, path in named.items() if is_data(key)}


def encoded(one: PacedRun) -> int:
    assert one.encoded is not None
    return sum(int(line) for line in one.encoded.read_text().split())


def times(one: PacedRun) -> list[float]:
    log = one.synced
    return [float(line) for line in log.read_text().split()] if log and log.exists() else []


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stride", type=int, default=1, help="1: every call that writes fails")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
