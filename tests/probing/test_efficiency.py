"""Models of few patients: nested samples, the same for all encoders, tested on nobody they saw."""

from __future__ import annotations

import numpy as np
import pytest

from embedcache.errors import ProtocolDiffersError, TooFewForEfficiencyError
from embedcache.probing.efficiency import C, label_efficiency
from embedcache.probing.probe import probe
from embedcache.protocol.protocol import Efficiency, Protocol, Tuning
from embedcache.protocol.subsets import draw_patients
from embedcache.results.efficiency_file import efficiency_files, read_few
from embedcache.results.folds_file import read_folds
from embedcache.results.layout import ResultsFolder
from embedcache.store.reader import open_store
from embedcache.testing.stored_features import MadeCohort, put_cohort

PROTOCOL = Protocol(
    train="home",
    external=("abroad",),
    folds=3,
    tuning=Tuning(grid=(0.1, 1.0)),
    efficiency=Efficiency(patients=(1, 2, 9), repeats=3),
)


@pytest.fixture(scope="module")
def learned(request, tmp_path_factory):
    """A store of 18 and 6 patients in three classes, and its draws of few patients."""
    store = request.getfixturevalue("make_study")(tmp_path_factory.mktemp("study"))
    out = store.parent / "results"
    return store, out, label_efficiency(store, PROTOCOL, out=out, workers=1)


def test_every_draw_of_every_encoder_is_one_file(learned) -> None:
    _, out, done = learned
    assert (done.encoders, done.patients, done.done, done.found) == (
        ("good", "other"),
        (1, 2),
        6,
        0,
    )
    assert "9 patients a class are left out" in done.notes[0]
    repeats = [read_few(file)[0].repeat for file in efficiency_files(ResultsFolder(out))]
    assert sorted(repeats) == [0, 0, 1, 1, 2, 2]


def test_each_image_at_home_is_tested_once_and_abroad_by_every_fold(learned) -> None:
    folds = read_folds(ResultsFolder(learned[1]))
    fold_of = {i.tobytes(): k for i, k in zip(folds.image, folds.fold[:, 0], strict=True)}
    for file in efficiency_files(ResultsFolder(learned[1])):
        abroad, home = read_few(file)
        assert {i.tobytes(): k for i, k in zip(home.image, home.fold, strict=True)} == fold_of
        assert len(home.image) == len(fold_of)
        assert np.bincount(abroad.fold).tolist() == [12, 12, 12]


def test_models_are_scikit_learn_s_on_one_image_of_each_patient_drawn(learned) -> None:
    from sklearn.linear_model import LogisticRegression

    store_path, out, _ = learned
    store, folds = open_store(store_path), read_folds(ResultsFolder(out))
    row = {digest.tobytes(): k for k, digest in enumerate(store.images.digest)}
    rows = np.array([row[digest.tobytes()] for digest in folds.image])
    x = store.features(store.select("good").id, rows).astype(np.float64)
    for file in efficiency_files(ResultsFolder(out)):
        _, home = read_few(file)
        if home.maker.encoder != "good":
            continue
        for fold in range(3):
            pool = folds.fold[:, 0] != fold
            drawn = draw_patients(
                folds.label, folds.cluster, pool, most=2, seed=(0, home.repeat, fold)
            )
            for size, patients in enumerate((1, 2)):
                taught = drawn[:, :patients].ravel()
                assert not set(folds.cluster[taught]) & set(folds.cluster[~pool])
                mean, scale = x[taught].mean(axis=0), x[taught].std(axis=0)
                model = LogisticRegression(C=C, tol=1e-8, max_iter=10_000)
                model.fit((x[taught] - mean) / scale, folds.label[taught])
                expected = model.predict((x[~pool] - mean) / scale)
                found = {
                    i.tobytes(): k for i, k in zip(home.image, home.predicted[size], strict=True)
                }
                images = [i.tobytes() for i in folds.image[~pool]]
                assert [found[i] for i in images] == expected.tolist()


def test_a_rerun_does_nothing_and_a_lost_draw_is_done_again_alike(learned) -> None:
    store, out, _ = learned
    files = efficiency_files(ResultsFolder(out))
    before = {file: file.read_bytes() for file in files}
    files[2].unlink()
    again = label_efficiency(store, PROTOCOL, out=out, workers=1)
    assert (again.done, again.found) == (1, 5)
    assert {file: file.read_bytes() for file in files} == before


def test_draws_stand_beside_a_probe_of_the_same_protocol_only(make_study, tmp_path) -> None:
    store = make_study(tmp_path)
    probe(store, PROTOCOL, out=tmp_path / "results", encoders=["good"])
    done = label_efficiency(store, PROTOCOL, out=tmp_path / "results", encoders=["good"])
    assert done.done == 3
    with pytest.raises(ProtocolDiffersError):
        label_efficiency(store, Protocol(train="home", folds=3), out=tmp_path / "results")


def test_classes_that_a_cohort_lacks_are_never_predicted_there(make_study, tmp_path) -> None:
    store = make_study(tmp_path)
    two = MadeCohort(
        name="elsewhere",
        classes=("brain", "femur"),
        image=["abroad-0", "abroad-1", "abroad-2", "abroad-3"],
        label=["brain", "brain", "femur", "femur"],
        patient=["p", "p", "q", "q"],
    )
    put_cohort(store, two)
    protocol = Protocol(
        train="home",
        external=("elsewhere",),
        classes="all",
        folds=3,
        efficiency=Efficiency(patients=(1,), repeats=2),
    )
    label_efficiency(store, protocol, out=tmp_path / "results", workers=1)
    for file in efficiency_files(ResultsFolder(tmp_path / "results")):
        abroad, home = sorted(read_few(file), key=lambda part: part.cohort == "home")
        assert set(abroad.predicted.ravel().tolist()) <= {0, 1}
        assert set(home.predicted.ravel().tolist()) == {0, 1, 2}


def test_too_few_patients_are_refused_before_anything_is_written(make_study, tmp_path) -> None:
    store = make_study(tmp_path)
    protocol = Protocol(train="home", folds=3, efficiency=Efficiency(patients=(5,), repeats=2))
    with pytest.raises(TooFewForEfficiencyError):
        label_efficiency(store, protocol, out=tmp_path / "results")
    assert not (tmp_path / "results").exists()
