"""Killed anywhere, a writer leaves a store that a rerun completes to the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from embedcache import durable
from embedcache.errors import LeaseLostError, StoreAccessError, StoreBusyError
from embedcache.store import lease as lease_module
from embedcache.store import locks, objects
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing


class KilledError(BaseException):
    """Stands for SIGKILL: nothing after it is written."""


class DyingDisk:
    """Writes so many objects, then leaves a partial file and fails for good."""

    def __init__(self, writes: int, failure: BaseException) -> None:
        self.left, self.failure, self.keys = writes, failure, []

    def __call__(self, path: Path, data: bytes) -> None:
        if self.left == 0:
            path.with_name(f"{path.name}.dead{durable.PARTIAL}").write_bytes(data[:-1])
            raise self.failure
        self.left -= 1
        self.keys.append(path.as_posix())
        durable.write_file(path, data)


#: after how many writes the next kill comes: all of them take a minute
STRIDES = [pytest.param(1, marks=pytest.mark.slow), 7]


@pytest.mark.parametrize("stride", STRIDES)
def test_a_kill_at_any_write_costs_nothing_that_a_rerun_does_not_mend(
    small, data, memory, monkeypatch, stride: int
) -> None:
    codes = ("1", "2")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        undisturbed = data(small.build(Path(folder) / "a.zarr", codes))
        for writes in range(0, 1000, stride):
            path = Path(folder) / f"{writes}.zarr"
            with monkeypatch.context() as patch:
                patch.setattr(objects, "write_file", DyingDisk(writes, KilledError()))
                try:
                    small.build(path, codes)
                    break
                except KilledError:
                    pass
            if path.exists():
                # The rest is what a reader, and then verify, may meet after a kill.
                assert not verify(path).findings, writes
                for one in open_store(path).feature_sets():
                    code = one.contract.code
                    done = np.flatnonzero(open_store(path).done(one.id))
                    expected = small.vectors(code)[done]
                    assert np.array_equal(open_store(path).features(one.id, done), expected)
            small.build(path, codes)
            assert data(path) == undisturbed, writes
            assert verify(path).sound, writes
            assert not list(Path(folder).rglob(f"*{durable.PARTIAL}")), writes
    assert writes > 40  # every write of the build had its turn


@pytest.mark.parametrize("stride", STRIDES)
def test_a_kill_while_a_store_grows_and_a_cohort_is_replaced_is_mended_too(
    small, make, data, memory, monkeypatch, stride: int
) -> None:
    more = make(images=1030)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        before = small.build(Path(folder) / "before.zarr")

        def grow(path: Path) -> Path:
            writer = create_or_open_for_writing(path)
            more.add_images(writer)
            writer.put_cohort(more.cohort())
            with writer.lease(
                more.contract(), name="stand-in", licence="MIT", citation="Doe 2026", batch=32
            ) as held:
                missing = np.flatnonzero(~held.done)
                if len(missing):
                    held.start_run(_run())
                    held.put(missing, more.vectors()[missing])
            writer.seal()
            return path

        # The first seven vectors are those of the small store.
        undisturbed = data(grow(_copy(before, Path(folder) / "a.zarr")))
        for writes in range(0, 1000, stride):
            path = _copy(before, Path(folder) / f"{writes}.zarr")
            with monkeypatch.context() as patch:
                patch.setattr(objects, "write_file", DyingDisk(writes, KilledError()))
                try:
                    grow(path)
                    break
                except KilledError:
                    pass
            assert not verify(path).findings, writes
            assert data(grow(path)) == undisturbed, writes
            assert verify(path).sound, writes
    assert writes > 20


def test_a_full_disk_is_said_in_a_sentence_and_what_is_written_is_kept(
    small, run, lease, tmp_path, monkeypatch
) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    small.add_images(writer)
    full = OSError(28, "No space left on device", "/secret/place")
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(np.arange(3), small.vectors()[:3])
        held.flush()
        with monkeypatch.context() as patch:
            patch.setattr(objects, "write_file", DyingDisk(0, full))
            held.put(np.arange(3, 5), small.vectors()[3:5])
            with pytest.raises(StoreAccessError, match="No space left on device") as caught:
                held.flush()
            assert "secret" not in str(caught.value)
    # The space came back before the lease ended: what was pending is written after all.
    assert open_store(tmp_path / "a.zarr").done(small.contract().feature_id).sum() == 5


def test_vectors_are_durable_before_done(small, run, lease, tmp_path, monkeypatch) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    rows = small.add_images(writer)
    events: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        events.append("sync " + str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real_sync(descriptor)

    def replace(self: Path, target: Path) -> Path:
        events.append(f"rename {target}")
        return real_replace(self, target)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc: what a descriptor means cannot be told")
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(Path, "replace", replace)
        held.put(rows, small.vectors())
    node = tmp_path / "a.zarr/features" / small.contract().feature_id
    vectors, done = node / "vectors/c/0/0", node / "done/c/0"

    def after(start: str, since: int) -> int:
        return next(i for i, event in enumerate(events) if i > since and event.startswith(start))

    synced = after(f"sync {vectors}.", -1)  # the partial file
    renamed = after(f"rename {vectors}", synced)
    settled = after(f"sync {vectors.parent}", renamed)
    assert settled < after(f"sync {done}.", -1)
    after(f"sync {done.parent}", after(f"rename {done}", settled))


def test_what_is_put_is_written_though_nothing_more_is_put(
    small, run, lease, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(lease_module, "FLUSH_AFTER", 0.1)
    monkeypatch.setattr(lease_module, "_TICK", 0.05)
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    rows = small.add_images(writer)
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(rows[:2], small.vectors()[:2])
        feature_id, deadline = small.contract().feature_id, time.monotonic() + 10
        while open_store(tmp_path / "a.zarr").done(feature_id).sum() < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert lease_module.FLUSH_AFTER < 30


def test_an_error_in_the_middle_keeps_what_was_handed_over(small, run, lease, tmp_path) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    small.add_images(writer)

    def fail() -> None:
        with lease(writer, small.contract()) as held:
            held.start_run(run)
            held.put(np.arange(3), small.vectors()[:3])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert open_store(tmp_path / "a.zarr").done(small.contract().feature_id).sum() == 3
    assert verify(tmp_path / "a.zarr").sound


CHILD = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import numpy as np
from conftest import RUN, Small, lease_of
from embedcache.store.writer import create_or_open_for_writing
small = Small(images=1200)
writer = create_or_open_for_writing(Path({path!r}))
small.add_images(writer)
writer.put_cohort(small.cohort())
with lease_of(writer, small.contract()) as lease:
    missing = np.flatnonzero(~lease.done)
    print(len(missing), flush=True)
    if len(missing):
        lease.start_run(RUN)
    for start in range(0, len(missing), 20):
        part = missing[start : start + 20]
        lease.put(part, small.vectors()[part])
        lease.flush()
writer.seal()
"""


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX's")
def test_sigkill_loses_nothing_that_was_flushed(make, data, memory) -> None:
    draw = np.random.default_rng(10)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        path = Path(folder) / "a.zarr"
        code = CHILD.format(tests=str(Path(__file__).parent), path=str(path))
        done = 0
        for _ in range(3):
            child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
            assert child.stdout is not None
            missing = int(child.stdout.readline())
            assert missing <= 1200 - done
            time.sleep(draw.uniform(0.02, 0.2))
            child.send_signal(signal.SIGKILL)
            child.communicate()
            done = int(open_store(path).done(make().contract().feature_id).sum())
            assert not verify(path).findings
        assert done > 0
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        assert verify(path).sound
        whole = make(images=1200).build(Path(folder) / "b.zarr")
        assert data(path) == data(whole)


def test_the_lock_of_a_dead_holder_on_this_machine_is_taken_at_once(tmp_path) -> None:
    store = tmp_path / "a.zarr"
    with locks.hold(store, "x", "it", 0) as held:
        content = held.holder.read_text()
    held.holder.write_text(content)  # as a killed holder leaves it; its system lock died with it
    with locks.hold(store, "x", "it", 0) as again:
        assert again.id != held.id


def test_a_holder_on_another_machine_counts_until_two_minutes_without_a_beat(tmp_path) -> None:
    store = tmp_path / "a.zarr"
    with locks.hold(store, "x", "it", 0) as held:
        pass
    holder = held.holder
    holder.write_text('{"id": "1", "machine": "another", "since": "noon"}')
    with pytest.raises(StoreBusyError, match="since noon"), locks.hold(store, "x", "it", 0):
        pass
    beaten = time.time() - locks.DEAD - 1
    os.utime(holder, (beaten, beaten))
    with locks.hold(store, "x", "it", 0):
        pass


def test_who_was_taken_for_dead_writes_nothing_more(small, run, lease, tmp_path) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    rows = small.add_images(writer)
    feature_id = small.contract().feature_id
    holder = tmp_path / f"a.zarr.locks/features-{feature_id}.holder"

    def stall() -> None:
        with lease(writer, small.contract()) as held:
            held.start_run(run)
            held.put(rows[:3], small.vectors()[:3])
            holder.write_text('{"id": "other", "machine": "another", "since": ""}')

    with pytest.raises(LeaseLostError):
        stall()
    assert open_store(tmp_path / "a.zarr").done(feature_id).sum() == 0


def _copy(source: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(source, target)
    return target


def _run():
    from embedcache.provenance import Provenance

    return Provenance(when="2026-01-01T00:00:00+00:00", python="3", packages={}, system="x")
