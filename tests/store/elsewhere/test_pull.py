"""Pull: every byte is checked on arrival, and a folder is the old store or the new one."""

from __future__ import annotations

import contextlib
import errno
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import (
    DivergedError,
    ElsewhereDamagedError,
    NoStoreElsewhereError,
    NotAStoreError,
    ObjectTooLargeError,
    PathMissingError,
    StoreAccessError,
    StoreChangedError,
    TransferFailedError,
)
from embedcache.store import incoming
from embedcache.store.places import root_at
from embedcache.store.reader import open_store
from embedcache.store.sync import pull, push
from embedcache.store.verify import verify
from embedcache.testing.failing_disk import FailingDisk

ROOT = "manifest/zarr.json"


def files(store: Path) -> dict[str, bytes]:
    found = (path for path in store.rglob("*") if path.is_file())
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in found}


@pytest.fixture
def chunk(make) -> str:
    return f"features/{make().contract().feature_id}/vectors/c/0/0"


@pytest.fixture
def served(make, liar) -> Path:
    return make().build(liar.folder)


def test_a_store_behind_nginx_is_pulled_whole_then_only_what_is_new(make, web, tmp_path) -> None:
    store = make().build(web.folder / "study")
    pull(web.url, tmp_path / "b.zarr")
    assert files(tmp_path / "b.zarr") == files(store)
    web.asked()
    assert pull(web.url, tmp_path / "b.zarr").objects == 0
    assert web.asked() == [ROOT]
    make().build(store, codes=("1", "2"))
    got = pull(web.url, tmp_path / "b.zarr")
    assert got.nodes == (f"features/{make().contract('2').feature_id}",)
    assert files(tmp_path / "b.zarr") == files(store)
    assert verify(tmp_path / "b.zarr").sound


@pytest.mark.parametrize("how", ["lies", "shortens", "withholds"])
def test_what_a_server_changed_is_never_taken(how, served, liar, chunk, tmp_path) -> None:
    liar.keys, liar.how = (chunk,), how
    with pytest.raises(ElsewhereDamagedError, match="not what its manifest says") as caught:
        pull(liar.url, tmp_path / "b.zarr")
    assert caught.value.node == chunk
    assert not (tmp_path / "b.zarr").exists()
    liar.how = "honest"
    got = pull(liar.url, tmp_path / "b.zarr")
    assert got.objects < len(files(served)) - 1  # what had arrived is kept
    assert files(tmp_path / "b.zarr") == files(served)


def test_a_body_that_breaks_off_is_a_typed_error(served, liar, chunk, tmp_path) -> None:
    liar.keys, liar.how = (chunk,), "truncates"
    with pytest.raises(TransferFailedError, match="same command again"):
        pull(liar.url, tmp_path / "b.zarr")
    assert not (tmp_path / "b.zarr").exists()


def test_a_flood_is_refused_before_a_byte_of_it_is_kept(served, liar, chunk, tmp_path) -> None:
    liar.keys, liar.how = (chunk, ROOT), "floods"
    with pytest.raises(ObjectTooLargeError):
        pull(liar.url, tmp_path / "b.zarr")


def test_a_disk_that_fills_for_good_at_any_write_is_mended_by_a_rerun(
    make, tmp_path, memory
) -> None:
    """Also what it was writing right then, and could not delete any more, is gone."""
    origin = make(images=3).build(tmp_path / "a.zarr")
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for call in (*range(3, 200, 23), 34, 35):
            here = Path(folder) / f"{call}.zarr"
            with (
                FailingDisk(call, lasting=True, error=errno.ENOSPC) as disk,
                pytest.raises(StoreAccessError),
            ):
                pull(str(origin), here)
            assert disk.failed
            assert not here.exists()
            pull(str(origin), here)
            assert files(here) == files(origin)


def test_an_update_that_a_dying_disk_cuts_short_is_completed_by_a_rerun(
    make, tmp_path, memory
) -> None:
    """From the journal on: there every call in turn is the last that the disk takes."""
    origin = make(images=3).build(tmp_path / "a.zarr")
    pull(str(origin), tmp_path / "old.zarr")
    make(images=4).build(origin)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        whole = Path(folder) / "whole.zarr"
        shutil.copytree(tmp_path / "old.zarr", whole)
        with FailingDisk(10**6, lasting=True) as counting:
            pull(str(origin), whole)
        cut = 0
        for call in range(counting.calls - 75, counting.calls, 3):
            here = Path(folder) / f"{call}.zarr"
            shutil.copytree(tmp_path / "old.zarr", here)
            with (
                FailingDisk(call, lasting=True),
                contextlib.suppress(StoreAccessError),  # what only tidies up may fail
            ):
                pull(str(origin), here)
            cut += files(here) != files(origin)
            pull(str(origin), here)
            assert files(here) == files(origin), call
    assert cut > 3  # threads share the calls: how many fall behind the journal varies


def test_a_store_that_changes_while_it_is_pulled_is_said_so(
    served, liar, chunk, make, tmp_path
) -> None:
    store = open_store(root_at(liar.url))
    make(images=9).build(served)
    with pytest.raises(StoreChangedError, match="run the same command again"):
        store.features(make().contract().feature_id, np.arange(7))


def test_a_server_without_a_store_is_a_typed_error(liar, tmp_path) -> None:
    with pytest.raises(NoStoreElsewhereError):
        pull(liar.url, tmp_path / "b.zarr")
    with pytest.raises(PathMissingError):
        pull(str(tmp_path / "nothing"), tmp_path / "b.zarr")


def test_a_server_that_is_not_there_is_a_typed_error(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("embedcache.store.bucket._RETRIES", 0)
    with pytest.raises(TransferFailedError):
        pull("http://127.0.0.1:9/study", tmp_path / "b.zarr")


def test_nothing_is_pulled_over_something_else(served, liar, tmp_path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday/a.jpg").write_bytes(b"beach")
    with pytest.raises(NotAStoreError):
        pull(liar.url, tmp_path / "holiday")
    assert (tmp_path / "holiday/a.jpg").read_bytes() == b"beach"


def test_a_folder_is_pushed_to_and_pulled_from_as_any_place(make, tmp_path) -> None:
    store = make().build(tmp_path / "a.zarr")
    there = (tmp_path / "their folder.zarr").as_uri()
    push(store, there)
    make(images=9).build(store)
    push(store, there)
    pull(there, tmp_path / "c.zarr")
    assert files(tmp_path / "c.zarr") == files(store)
    assert not (tmp_path / "their folder.zarr.locks/incoming").exists()


def test_two_stores_of_other_origin_are_not_mixed(make, tmp_path) -> None:
    make().build(tmp_path / "a.zarr")
    make().build(tmp_path / "b.zarr")
    with pytest.raises(DivergedError, match="store merge"):
        pull(str(tmp_path / "a.zarr"), tmp_path / "b.zarr")


def test_repair_fetches_what_is_damaged_here(served, liar, chunk, tmp_path) -> None:
    pull(liar.url, tmp_path / "b.zarr")
    whole = (tmp_path / "b.zarr" / chunk).read_bytes()
    (tmp_path / "b.zarr" / chunk).write_bytes(whole[::-1])
    assert pull(liar.url, tmp_path / "b.zarr", repair=True).objects == 1
    assert files(tmp_path / "b.zarr") == files(served)


def test_a_kill_at_any_step_of_putting_in_place_is_completed_without_the_sender(
    make, tmp_path, monkeypatch
) -> None:
    """Every rename, removal and write of the change in turn is the one that never happens."""

    class Killed(BaseException):
        pass

    origin = make(images=5).build(tmp_path / "a.zarr")
    pull(str(origin), tmp_path / "old.zarr")
    make(images=9).build(origin)
    new, steps = files(origin), 0

    def counted(call, die_at):
        def one(*args):
            nonlocal steps
            steps += 1
            if steps == die_at:
                raise Killed
            return call(*args)

        return one

    for die_at in (1, 2, 5, 9, 14, 19, 24, 25, 26):
        here = tmp_path / f"{die_at}.zarr"
        shutil.copytree(tmp_path / "old.zarr", here)
        steps = 0
        with monkeypatch.context() as patch:
            for place, name in (
                (incoming.IncomingFolder, "_move"),
                (incoming, "remove_object"),
            ):
                patch.setattr(place, name, counted(getattr(place, name), die_at))
            try:
                pull(str(origin), here)
                died = False
            except Killed:
                died = True
        images = len(open_store(here).images)
        assert images in (5, 9), "a reader sees the one or the other"
        if died:
            target = incoming.IncomingFolder(here)
            with target.opened():
                pass  # any command that sends here completes it first
        assert files(here) == new
    assert not died, "the last one ran through"


def test_readers_see_the_old_store_until_all_has_arrived(served, liar, chunk, make, tmp_path):
    pull(liar.url, tmp_path / "b.zarr")
    make(images=9).build(served)
    liar.keys, liar.how = (chunk,), "lies"
    with pytest.raises(ElsewhereDamagedError):
        pull(liar.url, tmp_path / "b.zarr")
    assert len(open_store(tmp_path / "b.zarr").images) == 7
    assert verify(tmp_path / "b.zarr").sound
