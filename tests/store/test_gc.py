"""Collecting drops what nothing reaches, in an order that a kill cannot turn into a lie."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from embedcache.durable import write_file
from embedcache.errors import StoreBusyError, UnfinishedCohortError
from embedcache.store import gc, objects
from embedcache.store.gc import Garbage, GarbageSet, collect_garbage, find_garbage
from embedcache.store.layout import cohort_node
from embedcache.store.manifest import open_node
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing

ROWS = 3000
#: Images that the cohort still lists: a part of the first chunk, none of the second, all after it
LISTED = np.r_[100:1000, 2048:ROWS]


@pytest.fixture
def tmp_path(memory):
    """In memory: many small files that are synced one by one."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def small(make):
    return make(images=ROWS)


def narrowed(small, path: Path) -> Path:
    """A store with a whole encoder 1; a 2 that has unlisted images only; a 3 that only failed."""
    writer = create_or_open_for_writing(path)
    small.add_images(writer)
    whole = small.cohort()
    part = {name: getattr(whole, name)[LISTED] for name in ("row", "label", "patient")}
    strata = {name: value[LISTED] for name, value in whole.strata.items()}
    writer.put_cohort(dataclasses.replace(whole, strata=strata, **part))
    return path


@pytest.fixture
def store(small, lease, run, tmp_path) -> Path:
    path = narrowed(small, tmp_path / "a.zarr")
    writer = create_or_open_for_writing(path)
    for code, rows in (("1", np.arange(ROWS)), ("2", np.arange(100)), ("3", np.arange(0))):
        with lease(writer, small.contract(code)) as held:
            held.start_run(run)
            held.put(rows, small.vectors(code)[rows])
            held.fail(ROWS - 1, "out of memory") if code == "3" else None
    writer.seal()
    return path


def sizes(small, code: str, chunks: int) -> int:
    """Bytes of so many chunks of vectors and flags, each with four of checksum."""
    return chunks * (1024 * small.dim * 4 + 4 + 1024 + 4)


def test_looking_finds_and_changes_nothing(small, data, store) -> None:
    before = data(store)
    found = find_garbage(store)
    one, two, three = (small.contract(code).feature_id for code in "123")
    by_id = {each.id: each for each in found.sets}
    assert found.images == ROWS - len(LISTED)
    assert by_id[one] == GarbageSet(
        name="stand-in", id=one, vectors=1148, whole=False, size=sizes(small, "1", 1)
    )  # 0..99 and 1000..2047
    assert (by_id[two].vectors, by_id[two].whole) == (100, True)
    assert (by_id[three].vectors, by_id[three].whole) == (0, True)
    assert by_id[two].size > sizes(small, "2", 1)
    assert data(store) == before


def test_collecting_keeps_every_listed_vector_and_erases_the_rest(small, store) -> None:
    found = find_garbage(store)
    assert collect_garbage(store) == found
    after = open_store(store)
    one = small.contract("1").feature_id
    assert [each.id for each in after.feature_sets()] == [one]
    assert np.array_equal(np.flatnonzero(after.done(one)), LISTED)
    assert np.array_equal(after.to_numpy(one), small.vectors("1")[LISTED])
    assert verify(store).sound
    held = b"".join(file.read_bytes() for file in store.rglob("*") if file.is_file())
    gone = [row for row in range(ROWS) if row not in set(LISTED.tolist())]
    for row in gone[::97]:
        assert small.vectors("1")[row].tobytes() not in held
        assert small.vectors("2")[row].tobytes() not in held
    assert find_garbage(store) == Garbage(images=ROWS - len(LISTED), sets=())


def test_collected_vectors_are_encoded_again_when_a_cohort_lists_them_again(
    small, store, tmp_path
) -> None:
    collect_garbage(store)
    writer = create_or_open_for_writing(store)
    writer.put_cohort(small.cohort())
    small.extract(writer, "1")
    writer.seal()
    fresh = small.build(tmp_path / "b.zarr")
    one = small.contract("1").feature_id
    assert open_store(store).content_digest(one) == open_store(fresh).content_digest(one)
    assert verify(store).sound


def test_what_a_writer_holds_or_a_cohort_may_reach_is_not_collected(small, lease, store) -> None:
    with (
        lease(create_or_open_for_writing(store), small.contract("1")),
        pytest.raises(StoreBusyError),
    ):
        collect_garbage(store)
    open_node(store, cohort_node("home"))
    with pytest.raises(UnfinishedCohortError):
        collect_garbage(store)


class KilledError(BaseException):
    """Stands for SIGKILL."""


class Dying:
    """Lets so many writes and deletions happen, and none after."""

    def __init__(self, changes: int) -> None:
        self.left = changes

    def may(self) -> None:
        if self.left == 0:
            raise KilledError
        self.left -= 1

    def write(self, path: Path, data: bytes) -> None:
        self.may()
        write_file(path, data)

    def remove(self, root: Path, key: str) -> None:
        self.may()
        objects.remove_object(root, key)


def test_a_collection_killed_at_any_change_is_finished_by_the_next(
    small, data, store, tmp_path, monkeypatch
) -> None:
    collected = Path(shutil.copytree(store, tmp_path / "collected.zarr"))
    collect_garbage(collected)
    one = small.contract("1").feature_id
    for changes in range(100):
        path = Path(shutil.copytree(store, tmp_path / f"{changes}.zarr"))
        dying = Dying(changes)
        with monkeypatch.context() as patch:
            patch.setattr(objects, "write_file", dying.write)
            patch.setattr(gc, "remove_object", dying.remove)
            patch.setattr("embedcache.store.soundness.remove_object", dying.remove)
            patch.setattr("embedcache.store.manifest.remove_object", dying.remove)
            try:
                collect_garbage(path)
                killed = False
            except KilledError:
                killed = True
        # Listed vectors can be read at any time; a sealing writer between the two does no harm.
        assert np.array_equal(open_store(path).features(one, LISTED), small.vectors("1")[LISTED])
        if changes % 2:
            create_or_open_for_writing(path).seal()
            assert verify(path).sound
        collect_garbage(path)
        assert data(path) == data(collected)
        assert verify(path).sound
        shutil.rmtree(path)
        if not killed:
            break
    assert 10 < changes < 99
