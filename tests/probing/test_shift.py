"""Cohorts that differ are told apart, cohorts that do not are not; nothing is done twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import NothingToCompareError
from embedcache.probing.shift import shift
from embedcache.results.layout import ResultsFolder
from embedcache.results.shift_file import map_file, read_map, read_shift
from embedcache.testing.stored_features import MadeCohort, digest_of, put_cohort, put_features

CLASSES = ("brain", "femur")


def study(folder: Path, *, patients: int = 40) -> Path:
    """Cohorts `here` and `there` by encoders `same` (no shift), `moved` (shifted) and `twin`."""
    store = folder / "store.zarr"
    rng = np.random.default_rng(0)
    same, moved = {}, {}
    for name in ("here", "there"):
        rows = range(2 * patients)
        cohort = MadeCohort(
            name=name,
            classes=CLASSES,
            image=[f"{name}-{k}" for k in rows],
            label=[CLASSES[(k // 2) % 2] for k in rows],
            patient=[f"{name}-{k // 2}" for k in rows],
            strata={"site": [f"site of {name}"] * len(rows)},
        )
        put_cohort(store, cohort)
        for image in cohort.image:
            same[image] = rng.standard_normal(5)
            moved[image] = rng.standard_normal(4) + 4 * (name == "there")
    put_features(store, "same", same)
    put_features(store, "moved", moved)
    put_features(store, "twin", {image: 3 * vector[::-1] for image, vector in same.items()})
    return store


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    store = study(tmp_path_factory.mktemp("study"))
    out = store.parent / "results"
    return store, out, shift(store, out=out, workers=1)


def test_cohorts_are_told_apart_where_features_moved_and_only_there(measured) -> None:
    auroc = {one.encoder: one.cohorts[0].auroc for one in measured[2].encoders}
    assert auroc["moved"] > 0.99
    # 80 images a cohort: the standard error of an AUROC of one half is .046.
    assert abs(auroc["same"] - 0.5) < 0.2
    (pair,) = measured[2].encoders[0].cohorts
    assert (pair.first, pair.other, pair.classes) == ("here", "there", CLASSES)
    assert (pair.first_images, pair.other_images, pair.clusters) == (80, 80, 80)
    assert pair.fold_low <= pair.auroc <= pair.fold_high


def test_encoders_that_differ_by_a_turn_agree_and_strangers_do_not(measured) -> None:
    alike = {(one.encoder, one.other): one for one in measured[2].agreement if one.cohort == ""}
    assert alike["same", "twin"].cka == pytest.approx(1, abs=1e-6)
    assert alike["moved", "same"].cka_debiased < 0.2
    assert [one.cohort for one in measured[2].agreement[::3]] == ["", "here", "there"]


def test_maps_place_every_image_by_cohort_class_and_site(measured) -> None:
    _, out, found = measured
    for one in found.encoders:
        about, points = read_map(map_file(ResultsFolder(out), one.unit))
        assert about == one
        assert len(points.x) == 160
        assert set(points.label.tolist()) == set(CLASSES)
        assert set(points.site.tolist()) == {"site of here", "site of there"}
        assert {i.tobytes() for i in points.image[points.cohort == "here"]} == {
            digest_of(f"here-{k}") for k in range(80)
        }
        if one.encoder == "moved":
            here = points.cohort == "here"
            assert abs(points.x[here].mean() - points.x[~here].mean()) > 2


def test_the_file_says_what_the_verb_returns(measured) -> None:
    assert read_shift(ResultsFolder(measured[1])) == measured[2]


def test_a_rerun_fits_nothing_again(measured, monkeypatch) -> None:
    store, out, found = measured
    monkeypatch.setattr("embedcache.probing.shift.do_shift", None)
    again = shift(store, out=out, workers=1)
    assert (again.encoders, again.agreement) == (found.encoders, found.agreement)


def test_one_cohort_is_compared_between_encoders_only(tmp_path: Path) -> None:
    store = tmp_path / "store.zarr"
    cohort = MadeCohort(
        name="alone",
        classes=CLASSES,
        image=["a", "b", "c", "d"],
        label=[None] * 4,
        patient=["p", "p", "q", "q"],
    )
    put_cohort(store, cohort)
    rng = np.random.default_rng(0)
    for name in ("one", "other"):
        put_features(store, name, {image: rng.standard_normal(3) for image in cohort.image})
    found = shift(store, out=tmp_path / "results", workers=1)
    assert [one.cohorts for one in found.encoders] == [(), ()]
    assert [one.cohort for one in found.agreement] == ["alone"]


def test_too_few_patients_give_a_note_and_no_number(tmp_path: Path) -> None:
    found = shift(study(tmp_path, patients=6), out=tmp_path / "results", workers=1)
    assert {one.cohorts[0].auroc for one in found.encoders} == {None}
    assert "fewer than 10 patient clusters" in found.encoders[0].cohorts[0].note


def test_a_store_without_features_says_how_to_make_them(tmp_path: Path) -> None:
    cohort = MadeCohort(name="x", classes=CLASSES, image=["a"], label=[None], patient=["p"])
    put_cohort(tmp_path / "store.zarr", cohort)
    with pytest.raises(NothingToCompareError, match="embedcache extract"):
        shift(tmp_path / "store.zarr", out=tmp_path / "results")
