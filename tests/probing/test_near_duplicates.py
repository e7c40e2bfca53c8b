"""Near-duplicates between patients are listed from `pixels` features, before anything is fitted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedcache.probing.near_duplicates import NEAR, find_near_duplicates, signature
from embedcache.probing.prepare import prepare
from embedcache.probing.probe import probe
from embedcache.probing.stored_rows import readable_rows
from embedcache.protocol.judged import judge
from embedcache.protocol.links import read_links
from embedcache.protocol.protocol import Protocol, Tuning
from embedcache.store.reader import open_store
from embedcache.testing.stored_features import MadeCohort, digest_of, put_cohort, put_features

CLASSES = ("brain", "femur")
PROTOCOL = Protocol(train="home", external=("abroad",), folds=3, tuning=Tuning(grid=(0.1, 1.0)))


def blurred(rng: np.random.Generator) -> np.ndarray:
    """A picture of sixteen by sixteen means, smooth as ultrasound is."""
    from scipy.ndimage import gaussian_filter

    picture = gaussian_filter(rng.uniform(0, 1, (16, 16)), 1.5)
    return (picture / picture.max()).astype(np.float32).ravel()


def study(folder: Path, alike: dict[str, str], architecture: str = "pixels") -> Path:
    """Patients of two images at home (18) and abroad (6); `alike` names copies by image."""
    store = folder / "store.zarr"
    rng = np.random.default_rng(0)
    pictures = {}
    for name, patients in (("home", 18), ("abroad", 6)):
        rows = range(2 * patients)
        cohort = MadeCohort(
            name=name,
            classes=CLASSES,
            image=[f"{name}-{k}" for k in rows],
            label=[CLASSES[(k // 2) % 2] for k in rows],
            patient=[f"{name}-patient-{k // 2}" for k in rows],
        )
        put_cohort(store, cohort)
        pictures |= {image: blurred(rng) for image in cohort.image}
    for image, original in alike.items():
        pictures[image] = np.clip(0.9 * pictures[original] + 0.03, 0, 1)
    put_features(store, architecture, pictures, architecture=architecture)
    return store


def hex_of(*images: str) -> tuple[str, ...]:
    return tuple(sorted(digest_of(image).hex() for image in images))


def test_pairs_under_two_patients_are_found_at_home_and_abroad(tmp_path: Path) -> None:
    store = study(tmp_path, {"home-9": "home-2", "abroad-3": "home-30", "home-5": "home-4"})
    found = prepare(open_store(store), PROTOCOL, ()).near_duplicates
    # home-4 and home-5 are one patient's, so no fold can part them.
    pairs = {(pair.first, pair.second) for pair in found}
    assert pairs == {hex_of("home-9", "home-2"), hex_of("abroad-3", "home-30")}
    assert all(pair.score > 0.95 for pair in found)


def test_the_pairs_are_a_note_and_a_links_file_that_mends_them(tmp_path: Path) -> None:
    store = study(tmp_path, {"home-9": "home-2"})
    done = probe(store, PROTOCOL, out=tmp_path / "results")
    (note,) = [note for note in done.notes if "look" in note]
    assert "1 pair of images looks alike" in note
    assert "--links" in note
    links = read_links(tmp_path / "results" / "near_duplicates.csv")
    assert links == (hex_of("home-9", "home-2"),)
    linked = Protocol(train="home", external=("abroad",), folds=3, links=links)
    mended = prepare(open_store(store), linked, ())
    assert mended.near_duplicates == ()
    assert mended.record.cohorts[0].clusters == 17


def test_without_thumbnails_nothing_is_said_and_nothing_written(tmp_path: Path) -> None:
    store = study(tmp_path, {"home-9": "home-2"}, architecture="other")
    assert not any("alike" in note for note in probe(store, PROTOCOL, out=tmp_path / "r").notes)
    assert not (tmp_path / "r" / "near_duplicates.csv").exists()


def test_what_many_share_is_no_near_duplicate() -> None:
    """Strangers behind one bright frame, which alone would give a cosine near one."""
    rng = np.random.default_rng(0)
    frame = np.zeros((16, 16), np.float32)
    frame[[0, -1]], frame[:, [0, -1]] = 1, 1
    x = np.stack([0.15 * blurred(rng) + 0.85 * frame.ravel() for _ in range(60)])
    score = signature(x) @ signature(x).T
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    apart = ~np.eye(60, dtype=bool)
    assert (unit @ unit.T)[apart].min() > 0.95
    assert score[apart].max() < NEAR


@pytest.mark.parametrize("images", [1, 5])
def test_thumbnails_that_show_nothing_are_near_nothing(images: int) -> None:
    assert not signature(np.full((images, 256), 0.3, np.float32)).any()


def test_images_without_a_thumbnail_are_passed_by(tmp_path: Path) -> None:
    store = study(tmp_path, {"home-9": "home-2"})
    extra = MadeCohort(
        name="late", classes=CLASSES, image=["late-0"], label=["brain"], patient=["late"]
    )
    put_cohort(store, extra)
    opened = open_store(store)
    late = readable_rows(opened.cohort("late"), opened.images.digest, {})
    judged = (prepare(opened, PROTOCOL, ()).train, judge(late, np.array([0, 1], np.int16), ()))
    assert len(find_near_duplicates(opened, judged)) == 1
