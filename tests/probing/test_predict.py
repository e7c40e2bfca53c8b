"""A fitted probe predicts other cohorts of its store, or of another with the same feature id."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import (
    FeatureIdDiffersError,
    FileInTheWayError,
    IncompleteFeaturesError,
    NotATableNameError,
    NothingToJudgeError,
    UnknownNameError,
)
from embedcache.evaluation.foreign import evaluate_table
from embedcache.probing.predict import predict
from embedcache.probing.probe import probe
from embedcache.protocol.protocol import Protocol, Tuning
from embedcache.results.layout import ResultsFolder
from embedcache.results.predictions_file import read_predictions
from embedcache.testing.stored_features import MadeCohort, digest_of, put_cohort, put_features

CLASSES = ("brain", "femur", "thorax")
PROTOCOL = Protocol(
    train="home", external=("abroad",), folds=3, tuning=Tuning(grid=(0.01, 0.1, 1.0))
)


@pytest.fixture(scope="module")
def probed(request, tmp_path_factory) -> tuple[Path, Path]:
    store = request.getfixturevalue("make_study")(tmp_path_factory.mktemp("study"))
    results = store.parent / "results"
    probe(store, PROTOCOL, out=results)
    return store, results


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))


def other_store(folder: Path, cohort: MadeCohort, name: str = "good", **more) -> Path:
    store = folder / "other.zarr"
    put_cohort(store, cohort)
    rng = np.random.default_rng(0)
    vectors = {i: rng.standard_normal(6) for i in cohort.image}
    put_features(store, name, vectors, **more)
    return store


def unlabelled(*images: str) -> MadeCohort:
    patients = [f"new-{k // 2}" for k in range(len(images))]
    return MadeCohort(
        name="ours",
        classes=CLASSES,
        image=images,
        label=[None] * len(images),
        patient=patients,
        strata={"site": ["east"] * len(images)},
    )


def test_an_external_cohort_gets_the_refit_s_own_predictions(probed, tmp_path: Path) -> None:
    store, results = probed
    done = predict(store, "abroad", results=results, encoder="good", out=tmp_path / "p.csv")
    (refit,) = [
        part
        for part in read_predictions(ResultsFolder(results))
        if (part.maker.encoder, part.cohort, int(part.fold[0])) == ("good", "abroad", -1)
    ]
    table = rows_of(tmp_path / "p.csv")
    assert [row["image"] for row in table] == [image.tobytes().hex() for image in refit.image]
    found = [[float(row[f"probability:{name}"]) for name in CLASSES] for row in table]
    assert np.array_equal(found, refit.probability)
    assert [row["label"] for row in table] == [CLASSES[k] for k in refit.label]
    assert [int(row["cluster"]) for row in table] == refit.cluster.tolist()
    assert (done.images, done.labelled, done.left_out) == (12, 12, {})


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_evaluate_reads_what_predict_writes(probed, tmp_path: Path, suffix: str) -> None:
    store, results = probed
    out = tmp_path / f"p{suffix}"
    predict(store, "abroad", results=results, encoder="good", out=out)
    rows = evaluate_table(out, tmp_path / "judged")
    assert {(row.encoder, row.arm, row.estimand) for row in rows} == {
        ("good", "linear-probe", "external-refit")
    }


def test_another_store_of_the_same_feature_id_is_predicted_labels_or_not(
    probed, tmp_path: Path
) -> None:
    store = other_store(tmp_path, unlabelled("one", "two", "three"))
    out = tmp_path / "p.csv"
    done = predict(store, "ours", results=probed[1], encoder="good", out=out)
    assert (done.images, done.labelled) == (3, 0)
    assert any("no label" in note for note in done.notes)
    table = rows_of(out)
    assert {row["label"] for row in table} == {""}
    assert {row["stratum:site"] for row in table} == {"east"}
    for row in table:
        assert sum(float(row[f"probability:{name}"]) for name in CLASSES) == pytest.approx(1)


def test_what_the_model_was_trained_on_is_left_out_and_counted(probed, tmp_path: Path) -> None:
    cohort = unlabelled("home-0", "one", "two", "two")
    done = predict(
        other_store(tmp_path, cohort),
        "ours",
        results=probed[1],
        encoder="good",
        out=tmp_path / "p.csv",
    )
    # `one` shares its patient with a training image; `two` is listed twice.
    assert done.left_out == {
        "also a training image": 1,
        "listed twice": 1,
        "patient also in training": 1,
    }
    assert [row["image"] for row in rows_of(tmp_path / "p.csv")] == [digest_of("two").hex()]


def test_a_training_patient_s_new_image_is_known_in_the_training_store(probed, tmp_path) -> None:
    store, results = probed
    new = MadeCohort(
        name="later",
        classes=CLASSES,
        image=["later-0", "later-1"],
        label=["brain", "femur"],
        patient=["home-patient-3", "stranger"],
    )
    put_cohort(store, new)
    names = ("good", "other")
    for name, dim in zip(names, (6, 4), strict=True):
        put_features(store, name, {i: np.ones(dim) for i in new.image})
    done = predict(store, "later", results=results, encoder="other", out=tmp_path / "p.csv")
    assert (done.images, done.left_out) == (1, {"patient also in training": 1})


def test_the_training_cohort_itself_leaves_nothing_to_predict(probed, tmp_path: Path) -> None:
    store, results = probed
    with pytest.raises(NothingToJudgeError, match="36 also a training image"):
        predict(store, "home", results=results, encoder="good", out=tmp_path / "p.csv")


def test_another_feature_id_is_refused_naming_both(probed, tmp_path: Path) -> None:
    store = other_store(tmp_path, unlabelled("one", "two"), weights="random:1")
    with pytest.raises(FeatureIdDiffersError) as error:
        predict(store, "ours", results=probed[1], encoder="good", out=tmp_path / "p.csv")
    assert len(error.value.there) == 1
    assert error.value.fitted in str(error.value)
    assert error.value.there[0] in str(error.value)
    assert not (tmp_path / "p.csv").exists()


def test_a_cohort_that_is_not_extracted_yet_names_the_command(probed, tmp_path: Path) -> None:
    store = other_store(tmp_path, unlabelled("one", "two"))
    put_cohort(store, unlabelled("one", "two", "three"))
    with pytest.raises(IncompleteFeaturesError, match="embedcache extract"):
        predict(store, "ours", results=probed[1], encoder="good", out=tmp_path / "p.csv")


def test_an_encoder_that_was_not_probed_lists_those_that_were(probed, tmp_path: Path) -> None:
    store, results = probed
    with pytest.raises(UnknownNameError, match="good, other"):
        predict(store, "abroad", results=results, encoder="best", out=tmp_path / "p.csv")


def test_nothing_is_overwritten_and_a_table_names_its_format(probed, tmp_path: Path) -> None:
    store, results = probed
    (tmp_path / "p.csv").write_text("mine")
    with pytest.raises(FileInTheWayError, match="exists"):
        predict(store, "abroad", results=results, encoder="good", out=tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text() == "mine"
    with pytest.raises(NotATableNameError, match=r"\.csv or \.parquet"):
        predict(store, "abroad", results=results, encoder="good", out=tmp_path / "p.xlsx")
