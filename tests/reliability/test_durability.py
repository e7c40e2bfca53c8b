"""After kills, full, broken and locked disks a rerun completes to the same bytes, nothing twice.

A fast part; benchmarks/durability.py does 200 kills and fails every call that writes.
"""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import StoreAccessError
from embedcache.store import lease
from embedcache.store.layout import is_data
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
from embedcache.testing.failing_disk import FailingDisk
from embedcache.testing.paced_run import KEY, PacedRun, run

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="forks, SIGKILL and file limits are POSIX's"
)

IMAGES = 200


def data(store: Path) -> dict[str, bytes]:
    files = (path for path in store.rglob("*") if path.is_file())
    named = {path.relative_to(store).as_posix(): path for path in files}
    return {key: path.read_bytes() for key, path in named.items() if is_data(key)}


def number_encoded(log: Path) -> int:
    return sum(int(line) for line in log.read_text().split()) if log.exists() else 0


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder in memory, where there is one, that nobody may enter too."""
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="module")
def undisturbed(place) -> dict[str, bytes]:
    store = place / "undisturbed.zarr"
    assert PacedRun(store=store, images=IMAGES).finish() == 0
    return data(store)


def test_a_rerun_after_sigkill_at_any_instant_ends_bit_identical(place, undisturbed) -> None:
    # Half a second of encoding, written every tenth: kills fall between durable writes.
    quiet = PacedRun(store=place / "q.zarr", images=IMAGES, pace=0.002, flush=0.1)
    started = time.monotonic()
    assert quiet.finish() == 0
    seconds = time.monotonic() - started
    for index, share in enumerate(np.random.default_rng(13).uniform(0.1, 1, 4)):
        log = place / f"encoded{index}"
        job = replace(quiet, store=place / f"kill{index}.zarr", encoded=log)
        process = job.start()
        time.sleep(share * seconds)
        process.kill()
        process.join()
        assert not (job.store.exists() and verify(job.store).findings)
        before = number_encoded(log)
        assert job.finish() == 0
        assert data(job.store) == undisturbed
        assert verify(job.store).sound
        assert IMAGES <= number_encoded(log) <= IMAGES + before
        assert job.finish() == 0
        assert number_encoded(log) <= IMAGES + before  # a third run encodes nothing


#: what a file may have: less than a document, less than a chunk of digests, less than of vectors
LIMITS = (100, 20_000, 200_000)


@pytest.mark.parametrize("most", LIMITS)
def test_a_full_disk_ends_the_run_in_a_sentence_and_a_rerun_completes(
    place, undisturbed, most: int
) -> None:
    job = PacedRun(store=place / f"full{most}.zarr", images=IMAGES, told=place / f"told{most}")
    assert replace(job, most_file=most).finish() == 1
    assert job.told is not None
    assert job.told.read_text() == StoreAccessError.__name__
    assert not (job.store.exists() and verify(job.store).findings)
    assert job.finish() == 0
    assert data(job.store) == undisturbed
    assert verify(job.store).sound


def test_a_read_only_store_is_read_and_refuses_a_writer_in_a_sentence(place, undisturbed) -> None:
    folder = place / "owned"
    folder.mkdir()
    job = PacedRun(store=folder / "a.zarr", images=IMAGES)
    assert job.finish() == 0
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    told = place / "told"
    told.touch()
    told.chmod(0o666)
    if os.geteuid():
        folder.chmod(0o555)
    more = replace(job, images=IMAGES + 1, told=told, unprivileged=True)
    assert more.finish() == 1
    assert told.read_text() == StoreAccessError.__name__
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    folder.chmod(0o755)
    assert verify(job.store).sound


def test_an_error_at_a_call_that_writes_is_mended_by_a_rerun(place, monkeypatch) -> None:
    # What a run sets in its process is undone after the test.
    monkeypatch.setenv("EMBEDCACHE_KEY", KEY)
    monkeypatch.setattr(lease, "_TICK", lease._TICK)
    monkeypatch.setattr(lease, "FLUSH_AFTER", lease.FLUSH_AFTER)

    def job(store: Path) -> PacedRun:
        return PacedRun(store=store, images=5, encoders=("one", "two"))

    run(job(place / "whole.zarr"))
    whole = data(place / "whole.zarr")
    call, ended = 0, set()
    while True:
        store = place / f"broken{call}.zarr"
        with FailingDisk(call, lasting=call % 2 == 1, error=errno.EIO) as disk:
            try:
                run(job(store))
                ended.add("finished")
            except SystemExit as error:
                ended.add(type(error.__cause__).__name__)
        if not disk.failed:
            break
        assert not (store.exists() and verify(store).findings), call
        run(job(store))
        assert data(store) == whole, call
        assert verify(store).sound, call
        call += 43
    # One refused to delete a lock's file finishes: the next holder takes that over.
    assert ended <= {StoreAccessError.__name__, "finished"}
    assert StoreAccessError.__name__ in ended


def test_of_two_writers_of_one_encoder_one_is_told_that_the_other_writes(
    place, undisturbed
) -> None:
    job = PacedRun(store=place / "same.zarr", images=IMAGES, pace=0.005, told=place / "same")
    both = [job.start(), job.start()]
    for process in both:
        process.join()
    assert sorted(process.exitcode or 0 for process in both) == [0, 1]
    assert job.told is not None
    assert job.told.read_text() == "StoreBusyError"
    assert data(job.store) == undisturbed
    assert verify(job.store).sound


def test_two_writers_of_different_encoders_finish_side_by_side(place) -> None:
    job = PacedRun(store=place / "side.zarr", images=IMAGES, pace=0.001, flush=0.1)
    both = [replace(job, encoders=(name,)).start() for name in ("one", "two")]
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    alone = replace(job, store=place / "alone.zarr", encoders=("one", "two"))
    assert alone.finish() == 0
    assert data(job.store) == data(alone.store)
    assert verify(job.store).sound
    assert len(open_store(job.store)) == IMAGES
