"""What a store tells of patients is counted and measured, not guessed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from embedcache.store import privacy
from embedcache.store.privacy import Group, Reidentification, exposure
from embedcache.store.pseudonyms import OwnerKey
from embedcache.store.reader import open_store
from embedcache.store.subset import Selection, subset
from embedcache.store.writer import create_or_open_for_writing

PATIENTS = [f"patient {row // 3}" for row in range(60)]
KEY = OwnerKey(secret=b"k" * 32, place="test")


def built(make, lease, run, path: Path, vectors: np.ndarray, patients=PATIENTS) -> Path:
    small = make(images=len(patients), dim=vectors.shape[1])
    writer = create_or_open_for_writing(path)
    rows = small.add_images(writer)
    pseudonym = KEY.pseudonyms("home", patients)
    writer.put_cohort(dataclasses.replace(small.cohort(), patient=pseudonym))
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(rows, vectors.astype(np.float32))
    writer.seal()
    return path


def measured(path: Path) -> Reidentification:
    (found,) = exposure(open_store(path)).reidentification
    return found


def test_vectors_that_point_where_their_patient_does_give_everyone_away(
    make, lease, run, tmp_path
) -> None:
    draw = np.random.default_rng(0)
    person = np.repeat(draw.normal(size=(20, 64)), 3, axis=0)
    # Length tells nothing: only the direction counts.
    vectors = (person + 0.1 * draw.normal(size=person.shape)) * draw.uniform(1, 9, (60, 1))
    found = measured(built(make, lease, run, tmp_path / "a.zarr", vectors))
    assert found == Reidentification(
        encoder="stand-in",
        cohort="home",
        images=60,
        asked=60,
        same_patient=1.0,
        by_chance=pytest.approx(2 / 59),  # two others of 59 are the patient's
    )


def test_the_share_is_that_of_a_plain_search(make, lease, run, tmp_path, monkeypatch) -> None:
    draw = np.random.default_rng(1)
    person = np.repeat(draw.normal(size=(20, 8)), 3, axis=0)
    vectors = (person + draw.normal(size=person.shape)).astype(np.float32)
    hits = 0
    for row in range(60):
        cosine = [
            -2.0
            if other == row
            else vectors[row]
            @ vectors[other]
            / np.linalg.norm(vectors[[row, other]], axis=1).prod()
            for other in range(60)
        ]
        hits += int(np.argmax(cosine)) // 3 == row // 3
    assert 0.1 < hits / 60 < 0.9
    store = built(make, lease, run, tmp_path / "a.zarr", vectors)
    assert measured(store).same_patient == pytest.approx(hits / 60)
    monkeypatch.setattr(privacy, "MOST_ASKED", 40)
    fewer = measured(store)
    assert (fewer.images, fewer.asked) == (60, 40)
    assert abs(fewer.same_patient - hits / 60) < 0.25  # 40 of 60, without replacement


def test_an_image_of_two_patients_and_patients_of_one_image_are_not_asked(
    make, lease, run, tmp_path
) -> None:
    small = make(images=4)
    path = built(make, lease, run, tmp_path / "a.zarr", small.vectors(), ["a", "b", "c", "c"])
    cohort = open_store(path).cohort("home")
    assert measured(path).images == 2
    twice = {
        name: np.append(getattr(cohort, name), getattr(cohort, name)[:1], axis=0)
        for name in ("row", "label", "patient")
    }
    twice["row"][-1] = 3  # image 3 is now of the patients c and a
    site = {"site": np.append(cohort.strata["site"], "Accra")}
    create_or_open_for_writing(path).put_cohort(dataclasses.replace(cohort, strata=site, **twice))
    found = measured(path)
    assert (found.images, found.same_patient, found.by_chance) == (0, None, None)


def test_groups_are_counted_in_rows_and_patients(make, lease, run, tmp_path) -> None:
    path = built(make, lease, run, tmp_path / "a.zarr", make(images=60).vectors())
    (home,) = exposure(open_store(path)).cohorts
    # Rows 0, 3, 6, … are in Accra: the first of each patient's three.
    assert home.strata == {
        "site": {"Accra": Group(rows=20, patients=20), "Lomé": Group(rows=40, patients=20)}
    }
    assert home.classes == {
        "brain": Group(rows=30, patients=20),
        "femur": Group(rows=30, patients=20),
    }
    assert (home.images, home.patients, home.smallest_group) == (60, 20, 20)
    assert home.key_id == KEY.key_id
    assert not home.keyed_digests
    subset(path, tmp_path / "b.zarr", Selection(), key=KEY)
    assert exposure(open_store(tmp_path / "b.zarr")).cohorts[0].keyed_digests


def test_cohorts_of_one_key_show_which_patients_they_share(make, lease, run, tmp_path) -> None:
    path = built(make, lease, run, tmp_path / "a.zarr", make(images=60).vectors())
    home = open_store(path).cohort("home")
    writer = create_or_open_for_writing(path)
    part = {name: getattr(home, name)[:9] for name in ("row", "label", "patient")}
    writer.put_cohort(dataclasses.replace(home, name="ward", strata={}, **part))
    writer.put_cohort(dataclasses.replace(home, name="other", strata={}, key_id="0", **part))
    assert exposure(open_store(path)).shared_patients == (("home", "ward", 3),)
