"""A subset holds what was asked for, to the bit, and nothing of the rest."""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import tempfile
from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import (
    CohortDiffersError,
    NothingLeftError,
    PatientsNotThereError,
    UnknownNameError,
)
from embedcache.store.pseudonyms import OwnerKey
from embedcache.store.reader import open_store
from embedcache.store.subset import Selection, Subset, subset
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing

KEY = OwnerKey(secret=bytes(range(32)), place="test")


@pytest.fixture
def tmp_path(memory):
    """In memory: many small files that are synced one by one."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture
def store(make, tmp_path) -> Path:
    """Cohorts `home` (all 12 images) and `abroad` (the last 5), encoders 1 and 2."""
    small = make(images=12)
    path = small.build(tmp_path / "a.zarr", ("1", "2"))
    whole = small.cohort("abroad")
    tail = {name: getattr(whole, name)[7:] for name in ("row", "label", "patient")}
    strata = {"site": np.array(["Kumasi"] * 5)}
    abroad = dataclasses.replace(whole, strata=strata, classes=("brain", "femur", "thorax"), **tail)
    create_or_open_for_writing(path).put_cohort(abroad)
    return path


def images_of(path: Path, name: str) -> list[bytes]:
    opened = open_store(path)
    return [bytes(opened.images.digest[row]) for row in opened.cohort(name).row]


def test_one_cohort_and_one_encoder_keep_their_bits(make, store, tmp_path) -> None:
    small, out = make(images=12), tmp_path / "b.zarr"
    one, two = (small.contract(code).feature_id for code in "12")
    selection = Selection(cohorts=("abroad",), encoders=(f"stand-in#{two}",))
    made = subset(store, out, selection)
    after = open_store(out)
    assert made == Subset(
        images=5, cohorts={"abroad": 5}, left_out=(), features={f"stand-in#{two}": 5}
    )
    assert after.cohorts() == ("abroad",)
    assert [features.id for features in after.feature_sets()] == [two]
    assert np.array_equal(after.images.digest, small.digest[7:])
    assert np.array_equal(after.to_numpy(two), small.vectors("2")[7:])
    assert after.feature_sets()[0].runs == open_store(store).select(f"stand-in#{two}").runs
    assert verify(out).sound
    assert small.digest[0].tobytes() not in b"".join(
        file.read_bytes() for file in out.rglob("*") if file.is_file()
    )
    assert one not in [path.name for path in out.rglob("*")]


def test_a_subset_of_classes_shortens_the_class_list(store, tmp_path) -> None:
    made = subset(store, tmp_path / "b.zarr", Selection(classes=("femur",)))
    home = open_store(tmp_path / "b.zarr").cohort("home")
    assert made.cohorts == {"abroad": 3, "home": 6}  # odd rows, of all and from 7 on
    assert home.classes == ("femur",)
    assert (home.label == 0).all()
    whole = images_of(store, "home")
    assert images_of(tmp_path / "b.zarr", "home") == whole[1::2]


def test_a_cohort_without_a_wanted_row_is_named(store, tmp_path) -> None:
    patient = bytes(open_store(store).cohort("home").patient[0]).hex()
    made = subset(store, tmp_path / "b.zarr", Selection(patients=(patient.upper(),)))
    assert made.left_out == ("abroad",)
    assert images_of(tmp_path / "b.zarr", "home") == images_of(store, "home")[:2]
    # The value of a stratum that only others had is gone too.
    assert b"Kumasi" not in (tmp_path / "b.zarr/cohorts/home/zarr.json").read_bytes()


def test_failures_of_images_that_are_left_out_are_left_out(make, lease, run, tmp_path) -> None:
    small = make(images=12)
    path = small.build(tmp_path / "a.zarr", ())
    writer = create_or_open_for_writing(path)
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(np.arange(10), small.vectors()[:10])
        held.fail(10, "cut")
        held.fail(11, "cut")
    subset(path, tmp_path / "b.zarr", Selection(classes=("femur",)))
    (features,) = open_store(tmp_path / "b.zarr").feature_sets()
    assert [one.failed for one in features.runs] == [{"cut": (5,)}]
    assert features.done == 5


def test_unreadable_rows_are_still_counted(make, tmp_path) -> None:
    small = make(images=6)
    path = small.build(tmp_path / "a.zarr", ())
    whole = small.cohort("ward")
    row = np.array([0, -1, -1, 3, 4, 5])
    ward = dataclasses.replace(whole, row=row, unreadable={"cut": 1, "empty": 1})
    create_or_open_for_writing(path).put_cohort(ward)
    patient = bytes(ward.patient[0]).hex()
    subset(path, tmp_path / "b.zarr", Selection(cohorts=("ward",), patients=(patient,)))
    part = open_store(tmp_path / "b.zarr").cohort("ward")
    assert part.row.tolist() == [0, -1]
    assert list(part.unreadable.values()) == [1]


@pytest.mark.parametrize(
    ("selection", "error"),
    [
        (Selection(cohorts=("ward",)), UnknownNameError),
        (Selection(encoders=("pixels",)), UnknownNameError),
        (Selection(classes=("thorn",)), UnknownNameError),
        (Selection(patients=("00" * 16,)), PatientsNotThereError),
        (Selection(classes=("thorax",)), NothingLeftError),
    ],
    ids=["cohort", "encoder", "class", "patient", "nothing left"],
)
def test_what_is_not_there_is_an_error_and_no_store(store, tmp_path, selection, error) -> None:
    with pytest.raises(error):
        subset(store, tmp_path / "b.zarr", selection)
    assert not (tmp_path / "b.zarr").exists()


def test_keyed_digests_are_hmacs_and_marked(make, store, tmp_path) -> None:
    before = open_store(store)
    subset(store, tmp_path / "b.zarr", Selection(), key=KEY)
    after = open_store(tmp_path / "b.zarr")
    expected = [
        hmac.new(KEY.secret, b"embedcache image digest\0" + bytes(one), hashlib.sha256).digest()
        for one in before.images.digest
    ]
    assert [bytes(one) for one in after.images.digest] == expected
    assert after.cohort("home").reader == "folder+keyed-digests"
    writer, whole = create_or_open_for_writing(tmp_path / "b.zarr"), make(images=12)
    home = dataclasses.replace(whole.cohort(), row=whole.add_images(writer))
    with pytest.raises(CohortDiffersError):
        writer.put_cohort(home)
    for one in before.feature_sets():
        assert np.array_equal(after.to_numpy(one.id), before.to_numpy(one.id))
        assert after.content_digest(one.id) != before.content_digest(one.id)
