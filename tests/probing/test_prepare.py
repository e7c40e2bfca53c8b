"""Which images are judged, for all encoders alike, and what becomes of the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import (
    IncompleteFeaturesError,
    LeakError,
    MergeUnknownError,
    NoFeaturesError,
    NothingToJudgeError,
    TooFewPatientsError,
    UnknownNameError,
)
from embedcache.probing.prepare import Prepared, prepare
from embedcache.protocol.clusters import cluster_images
from embedcache.protocol.protocol import Protocol
from embedcache.store.reader import open_store
from embedcache.testing.stored_features import MadeCohort, digest_of, put_cohort, put_features

CLASSES = ("brain", "femur", "thorax")
PROTOCOL = Protocol(train="home", external=("abroad",), folds=3)


def made(name: str, patients: int, **more) -> MadeCohort:
    """Patients of two images and one class each; `more` replaces or extends columns."""
    rows = range(2 * patients)
    given = {
        "classes": CLASSES,
        "image": [f"{name}-{k}" for k in rows],
        "label": [CLASSES[(k // 2) % 3] for k in rows],
        "patient": [f"{name}-patient-{k // 2}" for k in rows],
        "strata": {"site": [("north", "south")[(k // 2) % 2] for k in rows]},
    }
    return MadeCohort(name=name, **{**given, **more})


def extended(cohort: MadeCohort, *rows: tuple[str | None, str | None, str]) -> MadeCohort:
    """The cohort with (image, label, patient) rows more."""
    image, label, patient = zip(*rows, strict=True)
    return MadeCohort(
        name=cohort.name,
        classes=cohort.classes,
        image=[*cohort.image, *image],
        label=[*cohort.label, *label],
        patient=[*cohort.patient, *patient],
        strata={"site": [*cohort.strata["site"], *("north" for _ in rows)]},
        key_id=cohort.key_id,
    )


def stored(folder: Path, *cohorts: MadeCohort, encoders: dict | None = None) -> Path:
    """A store where each encoder has failed on the images named, with a reason."""
    path = folder / "store.zarr"
    for cohort in cohorts:
        put_cohort(path, cohort)
    images = {i for cohort in cohorts for i in cohort.image if i is not None}
    rng = np.random.default_rng(0)
    for name, failed in (encoders or {"good": {}}).items():
        vectors = {
            i: rng.standard_normal(4).astype(np.float32) for i in sorted(images - set(failed))
        }
        put_features(path, name, vectors, failed=failed)
    return path


def prepared(path: Path, protocol: Protocol = PROTOCOL, encoders=()) -> Prepared:
    return prepare(open_store(path), protocol, encoders)


def judged_images(judged) -> set[bytes]:
    return {digest.tobytes() for digest in judged.image}


def test_judged_rows_stand_in_digest_order_with_their_own_label_and_cluster(tmp_path) -> None:
    home = made("home", 18)
    train = prepared(stored(tmp_path, home, made("abroad", 6))).train
    digests = [digest.tobytes() for digest in train.image]
    assert digests == sorted(map(digest_of, home.image))
    row = {digest_of(image): k for k, image in enumerate(home.image)}
    order = [row[digest] for digest in digests]
    assert [CLASSES[k] for k in train.label] == [home.label[k] for k in order]
    patient = np.array([home.patient[k] for k in order])
    assert train.cluster.tolist() == cluster_images(train.image, patient).tolist()
    assert train.strata["site"].tolist() == [home.strata["site"][k] for k in order]


def test_neither_row_order_nor_pseudonyms_nor_the_external_cohort_move_the_folds(tmp_path) -> None:
    home = made("home", 18)
    turned = made(
        "home",
        18,
        image=home.image[::-1],
        label=home.label[::-1],
        patient=[f"other-{name}" for name in home.patient[::-1]],
        strata={"site": home.strata["site"][::-1]},
    )
    one = prepared(stored(tmp_path / "a", home, made("abroad", 6)))
    other = prepared(stored(tmp_path / "b", turned, made("abroad", 9)))
    assert one.folds.sha256 == other.folds.sha256
    assert one.record.cohorts[0] == other.record.cohorts[0]
    assert one.record.cohorts[1] != other.record.cohorts[1]


def test_an_image_listed_twice_counts_once_and_joins_its_patients(tmp_path) -> None:
    home = extended(made("home", 18), ("home-0", "brain", "home-patient-3"))
    found = prepared(stored(tmp_path, home, made("abroad", 6)))
    record = found.record.cohorts[0]
    assert (record.rows, record.images, record.clusters) == (37, 36, 17)
    assert record.left_out == {"listed twice": 1}


def test_which_of_two_equal_images_stays_does_not_depend_on_their_order(tmp_path) -> None:
    found = []
    for k, sites in enumerate((["north", "south"], ["south", "north"])):
        home = made("home", 18)
        image, site = [*home.image], [*home.strata["site"]]
        image[1], site[:2] = image[0], sites
        home = made("home", 18, image=image, strata={"site": site})
        found.append(prepared(stored(tmp_path / str(k), home, made("abroad", 6))).train)
    assert np.array_equal(found[0].strata["site"], found[1].strata["site"])


def test_an_image_with_two_labels_is_left_out_named_and_counted(tmp_path) -> None:
    home = extended(made("home", 18), ("home-0", "femur", "home-patient-0"))
    found = prepared(stored(tmp_path, home, made("abroad", 6)))
    assert found.record.cohorts[0].left_out == {"two labels": 2}
    assert digest_of("home-0") not in judged_images(found.train)
    assert any(digest_of("home-0").hex()[:12] in note for note in found.notes)


def test_what_one_encoder_failed_on_is_left_out_for_all(tmp_path) -> None:
    failed = {"good": {"home-3": "not finite"}, "other": {}}
    path = stored(tmp_path, made("home", 18), made("abroad", 6), encoders=failed)
    found = prepared(path)
    assert found.record.cohorts[0].left_out == {"failed: not finite": 1}
    assert digest_of("home-3") not in judged_images(found.train)
    # Alone, the encoder that has all images is judged on all.
    assert prepared(path, encoders=["other"]).record.cohorts[0].left_out == {}


def test_what_no_encoder_could_use_counts_once_beside_what_no_one_could_read(tmp_path) -> None:
    failed = {name: {"home-3": "the file is truncated"} for name in ("good", "other")}
    home = extended(made("home", 18), (None, "brain", "home-patient-0"))
    found = prepared(stored(tmp_path, home, made("abroad", 6), encoders=failed))
    assert found.record.cohorts[0].left_out == {
        "failed: the file is truncated": 1,
        "unreadable: the file is empty": 1,
    }


def test_unlabelled_rows_and_classes_not_judged_are_counted(tmp_path) -> None:
    home = extended(made("home", 18), ("extra", None, "someone"))
    abroad = made("abroad", 6, classes=("femur", "brain"), label=["brain", "femur"] * 6)
    found = prepared(stored(tmp_path, home, abroad))
    assert found.record.classes == ("brain", "femur")
    assert found.record.cohorts[0].left_out == {"class not judged": 12, "no label": 1}


def test_labels_follow_names_where_cohorts_list_classes_in_another_order(tmp_path) -> None:
    abroad = made("abroad", 6, classes=("thorax", "brain", "femur"))
    judged = prepared(stored(tmp_path, made("home", 18), abroad)).external[0]
    row = {digest_of(image): k for k, image in enumerate(abroad.image)}
    expected = [abroad.label[row[digest.tobytes()]] for digest in judged.image]
    assert [CLASSES[k] for k in judged.label] == expected


def test_external_images_that_were_trained_on_are_dropped_and_counted(tmp_path) -> None:
    abroad = extended(
        made("abroad", 6),
        ("home-0", "brain", "x"),  # a training image
        ("copy", "femur", "y"),  # linked to one
        ("new", "thorax", "home-patient-5"),  # a new image of a training patient
    )
    link = (digest_of("copy").hex(), digest_of("home-8").hex())
    protocol = Protocol(train="home", external=("abroad",), folds=3, links=(link,))
    found = prepared(stored(tmp_path, made("home", 18), abroad), protocol)
    assert found.record.cohorts[1].left_out == {
        "also a training image": 1,
        "near-duplicate of a training image": 1,
        "patient also in training": 1,
    }
    assert not judged_images(found.external[0]) & judged_images(found.train)


def test_patients_under_another_key_cannot_be_compared_and_that_is_said(tmp_path) -> None:
    abroad = extended(
        made("abroad", 6, key_id="other"),
        ("home-0", "brain", "x"),
        ("new", "brain", "home-patient-5"),
    )
    found = prepared(stored(tmp_path, made("home", 18), abroad))
    assert found.record.cohorts[1].left_out == {"also a training image": 1}
    assert any("different keys" in note for note in found.notes)


def test_an_unfinished_encoder_names_what_it_lacks_and_the_command(tmp_path) -> None:
    path = stored(tmp_path, made("home", 18), made("abroad", 6))
    put_features(path, "half", {f"home-{k}": np.ones(4, np.float32) for k in range(30)})
    with pytest.raises(
        IncompleteFeaturesError, match=r"no features yet of 18 .* extract "
    ) as error:
        prepared(path, encoders=["half"])
    assert (error.value.encoder, error.value.missing) == ("half", 6 + 12)
    found = prepared(path)
    assert list(found.encoders) == ["good"]
    assert any(note.startswith("half is left out") for note in found.notes)


def test_encoders_of_one_name_are_told_apart_by_their_ids(tmp_path) -> None:
    path = stored(tmp_path, made("home", 18), made("abroad", 6))
    images = [f"home-{k}" for k in range(36)] + [f"abroad-{k}" for k in range(12)]
    vectors = {image: np.ones(4, np.float32) for image in images}
    contract = put_features(path, "good", vectors, weights="random:0")
    names = list(prepared(path).encoders)
    assert f"good#{contract.feature_id}" in names
    assert all(name.startswith("good#") for name in names)


def test_an_unknown_cohort_or_encoder_lists_what_is_there(tmp_path) -> None:
    path = stored(tmp_path, made("home", 18), made("abroad", 6))
    with pytest.raises(UnknownNameError, match="abroad, home"):
        prepared(path, Protocol(train="Home"))
    with pytest.raises(UnknownNameError, match="good"):
        prepared(path, encoders=["best"])


def test_a_store_without_features_says_how_to_make_them(tmp_path) -> None:
    path = tmp_path / "store.zarr"
    put_cohort(path, made("home", 18))
    with pytest.raises(NoFeaturesError, match="extract"):
        prepared(path, Protocol(train="home"))


def test_a_cohort_with_nothing_left_says_why(tmp_path) -> None:
    abroad = MadeCohort(
        name="abroad", classes=CLASSES, image=["home-0"], label=["brain"], patient=["x"]
    )
    protocol = Protocol(train="home", external=("abroad",), classes="all", folds=3)
    with pytest.raises(NothingToJudgeError, match="1 also a training image"):
        prepared(stored(tmp_path, made("home", 18), abroad), protocol)


def test_too_few_patients_of_a_class_are_found_before_anything_is_fitted(tmp_path) -> None:
    with pytest.raises(TooFewPatientsError, match=r"'brain' has 3 patient clusters.*--folds 3"):
        prepared(stored(tmp_path, made("home", 9)), Protocol(train="home"))


def test_classes_merge_in_every_cohort_before_all_else(tmp_path) -> None:
    names = {"brain": "thalami", "femur": "femur", "thorax": "thorax"}
    abroad = made("abroad", 6)
    abroad = made(
        "abroad",
        6,
        classes=("thalami", "cerebellum", "femur", "thorax"),
        label=[names[label] for label in abroad.label[:11]] + ["cerebellum"],
    )
    # One image under two labels that merge is one image under one label.
    abroad = MadeCohort(
        name="abroad",
        classes=abroad.classes,
        image=[*abroad.image, "abroad-0"],
        label=[*abroad.label, "cerebellum"],
        patient=[*abroad.patient, "abroad-patient-0"],
        strata={"site": [*abroad.strata["site"], "north"]},
    )
    merged = Protocol(
        train="home",
        external=("abroad",),
        folds=3,
        merges={"brain": ("thalami", "cerebellum")},
    )
    path = stored(tmp_path, made("home", 18), abroad)
    found = prepared(path, merged)
    assert found.record.classes == CLASSES
    assert found.record.cohorts[1].left_out == {"listed twice": 1}
    plain = prepared(path)
    assert plain.record.classes == ("femur", "thorax")
    assert any("thalami (3 rows), cerebellum (1 rows)" in note for note in plain.notes)


def test_a_slip_in_a_merge_is_named(tmp_path) -> None:
    path = stored(tmp_path, made("home", 18))
    with pytest.raises(MergeUnknownError, match=r"merges.head names brian"):
        prepared(path, Protocol(train="home", folds=3, merges={"head": ("brian",)}))


def test_a_class_without_an_image_is_left_out_of_all_and_named(tmp_path) -> None:
    home = made("home", 18, classes=("brain", "cervix", "femur", "thorax"))
    found = prepared(stored(tmp_path, home), Protocol(train="home", folds=3, classes="all"))
    assert found.record.classes == CLASSES
    assert "home: no image is labelled cervix, so it is left out of the classes" in found.notes


def test_an_external_cohort_s_own_classes_are_named_and_counted(tmp_path) -> None:
    abroad = made("abroad", 6, classes=(*CLASSES, "spine"))
    abroad = MadeCohort(
        name="abroad",
        classes=abroad.classes,
        image=abroad.image,
        label=[*abroad.label[:10], "spine", "spine"],
        patient=abroad.patient,
        strata=abroad.strata,
    )
    found = prepared(stored(tmp_path, made("home", 18), abroad))
    assert found.record.cohorts[1].left_out == {"class not judged": 2}
    assert "abroad: classes not judged: spine (2 rows)" in found.notes


def test_the_publisher_s_split_tests_its_test_images_once(tmp_path) -> None:
    split = ["test" if k // 2 < 6 else "train" for k in range(36)]
    home = made("home", 18, strata={"split": split})
    found = prepared(stored(tmp_path, home), Protocol(train="home", folds="split"))
    tested = found.folds.fold[:, 0] == 0
    assert tested.sum() == 12
    assert (found.train.strata["split"][tested] == "test").all()


def test_a_published_split_that_parts_a_linked_pair_is_refused(tmp_path) -> None:
    split = ["test" if k // 2 < 6 else "train" for k in range(36)]
    home = made("home", 18, strata={"split": split})
    link = tuple(sorted(digest_of(image).hex() for image in ("home-0", "home-30")))
    with pytest.raises(LeakError):
        prepared(stored(tmp_path, home), Protocol(train="home", folds="split", links=(link,)))


def test_each_site_can_be_left_out_in_turn(tmp_path) -> None:
    sites = [f"site {k // 2 // 3 % 3}" for k in range(36)]
    home = made("home", 18, strata={"site": sites})
    folds = prepared(stored(tmp_path, home), Protocol(train="home", folds="site")).folds
    for fold in range(3):
        assert len(set(folds.strata["site"][folds.fold[:, 0] == fold].tolist())) == 1
