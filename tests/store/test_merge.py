"""A merge is a union by content: nothing is lost, and nothing is decided silently."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from embedcache.contract import TOLERANCE
from embedcache.durable import write_file
from embedcache.errors import (
    CohortsClashError,
    DamagedRowsError,
    FeaturesDifferError,
    FileInTheWayError,
    NotOneOfTheStoresError,
    UnknownNameError,
    UnsealedError,
)
from embedcache.store import objects, staging
from embedcache.store.feature_set import Run
from embedcache.store.merge import Merged, MergedFeatures, _joined, merge
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing


class Part:
    """Some images of a large cohort, in a store of their own; vectors depend on the image alone."""

    def __init__(self, small, lease, run) -> None:
        self.small, self.lease, self.run = small, lease, run

    def build(self, path: Path, rows, *, cohort="home", codes=("1",), shift=0.0, **words) -> Path:
        rows = np.asarray(rows)
        writer = create_or_open_for_writing(path)
        size = np.tile(np.array([[640, 480]], np.int32), (len(rows), 1))
        there = writer.add_images(
            self.small.digest[rows], size, ["PNG"] * len(rows), ["L"] * len(rows)
        )
        whole = self.small.cohort(cohort)
        strata = {name: value[rows] for name, value in whole.strata.items()}
        picked = {"label": whole.label[rows], "patient": whole.patient[rows], "strata": strata}
        writer.put_cohort(dataclasses.replace(whole, row=there, **picked | words))
        for code in codes:
            with self.lease(writer, self.small.contract(code)) as held:
                held.start_run(self.run)
                held.put(there, self.small.vectors(code)[rows] * np.float32(1 + shift))
                held.finish(rate=1.0)
        writer.seal()
        return path


@pytest.fixture
def tmp_path(memory):
    """In memory: many small files that are synced one by one."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def part(make, lease, run) -> Part:
    return Part(make(images=3000, dim=3), lease, run)


def test_a_union_holds_what_one_store_of_everything_would(part, tmp_path) -> None:
    a = part.build(tmp_path / "a.zarr", range(2000), cohort="home", codes=("1",))
    b = part.build(tmp_path / "b.zarr", range(2999, 1500, -1), cohort="abroad", codes=("1", "2"))
    whole = part.build(tmp_path / "whole.zarr", range(3000))
    made = merge(a, b, tmp_path / "c.zarr")
    union = open_store(tmp_path / "c.zarr")
    one, two = (part.small.contract(code).feature_id for code in "12")
    assert verify(tmp_path / "c.zarr").sound
    assert union.content_digest(one) == open_store(whole).content_digest(one)
    assert union.content_digest(two) == open_store(b).content_digest(two)
    counts = {"name": "stand-in", "within": 0, "beyond": 0}
    assert set(made.features) == {
        MergedFeatures(id=one, first=1501, second=1000, equal=499, **counts),
        MergedFeatures(id=two, first=0, second=1499, equal=0, **counts),
    }
    assert dataclasses.replace(made, features=()) == Merged(
        images=3000, shared=499, cohorts=("abroad", "home"), features=()
    )


def test_cohorts_mean_the_same_images_after_a_merge(part, tmp_path) -> None:
    a = part.build(tmp_path / "a.zarr", range(20))
    b = part.build(tmp_path / "b.zarr", range(30, 10, -1), cohort="abroad", unreadable={"cut": 1})
    merge(a, b, tmp_path / "c.zarr")
    for name, source in (("home", a), ("abroad", b)):
        before, after = open_store(source), open_store(tmp_path / "c.zarr")
        there, here = after.cohort(name), before.cohort(name)
        digest = after.images.digest[there.row]
        assert np.array_equal(digest, before.images.digest[here.row])
        assert dataclasses.replace(there, row=here.row).same_as(here)


def test_runs_of_both_stores_are_kept_with_their_failures(part, tmp_path) -> None:
    stores = []
    for name, rows in (("a", [0, 1, 2]), ("b", [3, 1, 4])):
        path = part.build(tmp_path / f"{name}.zarr", rows, cohort=name, codes=())
        writer = create_or_open_for_writing(path)
        with part.lease(writer, part.small.contract()) as held:
            held.start_run(dataclasses.replace(part.run, device=name))
            held.put(np.array([0, 1]), part.small.vectors()[rows[:2]])
            held.fail(2, f"cut in {name}")
        stores.append(path)
    merge(*stores, tmp_path / "c.zarr")
    union = open_store(tmp_path / "c.zarr")
    (features,) = union.feature_sets()
    before = [open_store(path).feature_sets()[0].runs[0] for path in stores]
    assert {run.id: run.provenance for run in features.runs} == {
        run.id: run.provenance for run in before
    }
    row_of = {bytes(digest): row for row, digest in enumerate(union.images.digest)}
    assert union.failed(features.id) == {
        row_of[bytes(part.small.digest[2])]: "cut in a",
        row_of[bytes(part.small.digest[4])]: "cut in b",
    }


def test_a_store_merged_with_its_own_copy_is_itself(part, data, tmp_path) -> None:
    a = part.build(tmp_path / "a.zarr", range(1500), codes=("1", "2"))
    shutil.copytree(a, tmp_path / "b.zarr")
    merge(a, tmp_path / "b.zarr", tmp_path / "c.zarr")
    assert data(tmp_path / "c.zarr") == data(a)
    runs = [one.runs for one in open_store(a).feature_sets()]
    assert [one.runs for one in open_store(tmp_path / "c.zarr").feature_sets()] == runs


def test_what_two_machines_may_differ_by_keeps_the_first(part, tmp_path) -> None:
    tolerance = TOLERANCE["fp32"]
    a = part.build(tmp_path / "a.zarr", range(20))
    b = part.build(tmp_path / "b.zarr", range(10, 30), cohort="abroad", shift=tolerance / 2)
    made = merge(a, b, tmp_path / "c.zarr")
    assert made.features[0].within == 10
    union, feature_id = open_store(tmp_path / "c.zarr"), part.small.contract().feature_id
    row_of = {bytes(digest): row for row, digest in enumerate(union.images.digest)}
    rows = np.array([row_of[bytes(part.small.digest[image])] for image in range(20)])
    assert np.array_equal(union.features(feature_id, rows), part.small.vectors()[:20])


def test_vectors_beyond_tolerance_are_refused_with_rows_and_both_provenances(
    part, tmp_path
) -> None:
    a = part.build(tmp_path / "a.zarr", range(20))
    b = part.build(tmp_path / "b.zarr", range(10, 30), cohort="abroad", shift=0.01)
    with pytest.raises(FeaturesDifferError) as caught:
        merge(a, b, tmp_path / "c.zarr")
    assert caught.value.rows == tuple(range(10, 20))
    assert caught.value.largest == pytest.approx(0.01 / 1.01, rel=1e-3)
    assert str(caught.value).count("2026-01-01T00:00:00+00:00") == 2
    assert f"--prefer {a}" in str(caught.value)
    assert not (tmp_path / "c.zarr").exists()
    assert [path.name for path in (tmp_path / "c.zarr.locks").iterdir()] == ["making.lock"]


@pytest.mark.parametrize("preferred", ["a", "b"])
def test_whose_vectors_count_can_be_said(part, tmp_path, preferred: str) -> None:
    a = part.build(tmp_path / "a.zarr", range(20))
    b = part.build(tmp_path / "b.zarr", range(10, 30), cohort="abroad", shift=0.01)
    made = merge(a, b, tmp_path / "c.zarr", prefer=tmp_path / f"{preferred}.zarr")
    assert made.features[0].beyond == 10
    union, feature_id = open_store(tmp_path / "c.zarr"), part.small.contract().feature_id
    shifted = range(10, 30) if preferred == "b" else range(20, 30)
    for row, digest in enumerate(union.images.digest):
        image = [bytes(one) for one in part.small.digest[:30]].index(bytes(digest))
        factor = np.float32(1.01 if image in shifted else 1)
        expected = part.small.vectors()[[image]] * factor
        assert np.array_equal(union.features(feature_id, np.array([row])), expected)


def test_who_is_preferred_must_be_one_of_the_two(part, tmp_path) -> None:
    a = part.build(tmp_path / "a.zarr", range(3))
    with pytest.raises(NotOneOfTheStoresError):
        merge(a, a, tmp_path / "c.zarr", prefer=tmp_path / "d.zarr")


def test_cohorts_of_one_name_that_differ_need_another_name(part, tmp_path) -> None:
    a = part.build(tmp_path / "a.zarr", range(3))
    b = part.build(tmp_path / "b.zarr", range(3), key_id="00000000", classes=("femur", "brain"))
    with pytest.raises(CohortsClashError, match="--rename home=NEW") as caught:
        merge(a, b, tmp_path / "c.zarr")
    assert caught.value.differ == ("classes", "the key behind the pseudonyms")
    with pytest.raises(UnknownNameError):
        merge(a, b, tmp_path / "c.zarr", rename={"hone": "ward"})
    merge(a, b, tmp_path / "c.zarr", rename={"home": "ward"})
    union = open_store(tmp_path / "c.zarr")
    assert union.cohort("ward").classes == ("femur", "brain")
    assert union.cohort("home").same_as(open_store(a).cohort("home"))


def test_nothing_is_overwritten(part, tmp_path) -> None:
    a = part.build(tmp_path / "a.zarr", range(3))
    with pytest.raises(FileInTheWayError):
        merge(a, a, a)


def test_swapped_chunks_and_unsealed_features_are_not_signed_anew(part, tmp_path) -> None:
    a = part.build(tmp_path / "a.zarr", range(5), codes=("1", "2"))
    b = part.build(tmp_path / "b.zarr", range(5, 9), cohort="abroad")
    one, two = (part.small.contract(code).feature_id for code in "12")
    shutil.copy(a / f"features/{two}/vectors/c/0/0", a / f"features/{one}/vectors/c/0/0")
    open_store(a).to_numpy(one)  # its own checksum holds
    with pytest.raises(DamagedRowsError):
        merge(a, b, tmp_path / "c.zarr")
    writer = create_or_open_for_writing(b)
    with part.lease(writer, part.small.contract()) as held:
        held.start_run(part.run)
        with pytest.raises(UnsealedError):
            merge(b, b, tmp_path / "c.zarr")


class KilledError(BaseException):
    """Stands for SIGKILL."""


class DyingDisk:
    """Writes so many objects, and none after."""

    def __init__(self, writes: int) -> None:
        self.left, self.dead = writes, False

    def __call__(self, path: Path, data: bytes) -> None:
        self.dead = self.dead or self.left == 0
        if self.dead:
            raise KilledError
        self.left -= 1
        write_file(path, data)


def test_a_killed_merge_leaves_no_store_and_its_rerun_the_same_bytes(
    part, data, tmp_path, monkeypatch
) -> None:
    a = part.build(tmp_path / "a.zarr", range(20))
    b = part.build(tmp_path / "b.zarr", range(10, 30), cohort="abroad", codes=("1", "2"))
    merge(a, b, tmp_path / "undisturbed.zarr")
    clear, kills = staging._clear, 0
    for left in range(0, 400, 9):
        disk = DyingDisk(left)
        with monkeypatch.context() as patch:
            patch.setattr(objects, "write_file", disk)
            # The dead clear nothing: what they leave is there for the next one.
            patch.setattr(staging, "_clear", lambda stage, disk=disk: disk.dead or clear(stage))
            try:
                merge(a, b, tmp_path / "c.zarr")
                break
            except KilledError:
                kills += 1
        assert not (tmp_path / "c.zarr").exists()
    assert kills > 3
    shutil.rmtree(tmp_path / "c.zarr")
    merge(a, b, tmp_path / "c.zarr")
    assert data(tmp_path / "c.zarr") == data(tmp_path / "undisturbed.zarr")
    assert verify(tmp_path / "c.zarr").sound


def test_rows_that_either_copy_of_a_run_halved_are_named(run) -> None:
    copied = Run(id="0" * 16, provenance=run, rate=None, failed={}, halved={"8": (1, 2)})
    ended = dataclasses.replace(copied, rate=2.0, halved={"8": (2, 3), "4": (9,)})
    for pair in ((copied, ended), (ended, copied)):
        joined = _joined(*pair)
        assert (joined.rate, joined.halved) == (2.0, {"4": (9,), "8": (1, 2, 3)})
    assert _joined(*[dataclasses.replace(copied, halved=None)] * 2).halved is None
