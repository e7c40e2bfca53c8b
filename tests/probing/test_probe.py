"""Probing writes every prediction once, and never an image's fold model on the image itself."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import embedcache
from embedcache.errors import (
    NotConvergedError,
    OtherUnitsError,
    ProtocolDiffersError,
    UnknownNameError,
)
from embedcache.probing.efficiency import label_efficiency
from embedcache.probing.probe import plan_probe, probe
from embedcache.protocol.protocol import Efficiency, Protocol, Tuning
from embedcache.results.efficiency_file import efficiency_files, read_few
from embedcache.results.folds_file import read_folds
from embedcache.results.layout import ResultsFolder, read_record
from embedcache.results.predictions_file import read_predictions, read_unit
from embedcache.store.reader import open_store
from embedcache.testing.stored_features import MadeCohort

#: Three values of C, so that fits are quick.
PROTOCOL = Protocol(
    train="home", external=("abroad",), folds=3, tuning=Tuning(grid=(0.01, 0.1, 1.0))
)


@pytest.fixture(scope="module")
def probed(request, tmp_path_factory) -> tuple[Path, Path]:
    """A store and its finished results; tests only read them."""
    made = request.getfixturevalue("make_study")(tmp_path_factory.mktemp("study"))
    results = made.parent / "results"
    probe(made, PROTOCOL, out=results)
    return made, results


def files_of(results: Path) -> dict[str, bytes]:
    """Every file but what says when it was made, and what a kill has left half written."""
    whole = (path for path in results.rglob("*") if path.suffix != ".partial")
    every = sorted(path for path in whole if path.is_file())
    return {str(f.relative_to(results)): f.read_bytes() for f in every if f.name != "protocol.json"}


def test_every_training_image_is_predicted_once_by_a_model_that_never_saw_its_patient(
    probed,
) -> None:
    _, results = probed
    folds = read_folds(ResultsFolder(results))
    fold_of = {
        image.tobytes(): fold for image, fold in zip(folds.image, folds.fold[:, 0], strict=True)
    }
    for encoder in ("good", "other"):
        seen: dict[bytes, int] = {}
        for part in read_predictions(ResultsFolder(results)):
            if (part.maker.encoder, part.cohort) != (encoder, "home"):
                continue
            assert len(np.unique(part.fold)) == 1
            for image in part.image:
                assert image.tobytes() not in seen
                seen[image.tobytes()] = int(part.fold[0])
        assert seen == fold_of


def test_external_images_are_predicted_by_each_fold_model_and_by_the_refit(probed) -> None:
    _, results = probed
    parts = [
        part
        for part in read_predictions(ResultsFolder(results))
        if (part.maker.encoder, part.cohort) == ("good", "abroad")
    ]
    assert sorted(int(part.fold[0]) for part in parts) == [-1, 0, 1, 2]
    assert {len(part.image) for part in parts} == {12}


def test_predictions_are_distributions_and_their_labels_are_right(probed) -> None:
    _, results = probed
    right = total = 0
    for part in read_predictions(ResultsFolder(results)):
        assert part.probability is not None
        assert np.allclose(part.probability.sum(axis=1), 1, atol=1e-12)
        assert np.array_equal(part.predicted, part.probability.argmax(axis=1))
        right, total = right + int((part.predicted == part.label).sum()), total + len(part.label)
    # Chance is .33, with a standard error of .04.
    assert right / total > 0.6


def test_a_fold_model_is_fitted_without_its_fold_and_reads_the_store_s_own_vectors(probed) -> None:
    """Scikit-learn, fitted on the fold's complement alone, gives the same probabilities."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    store_path, results = probed
    store, folds = open_store(store_path), read_folds(ResultsFolder(results))
    row = {digest.tobytes(): k for k, digest in enumerate(store.images.digest)}
    rows = np.array([row[digest.tobytes()] for digest in folds.image])
    x = store.features(store.select("good").id, rows).astype(np.float64)
    for part in read_predictions(ResultsFolder(results)):
        if (part.maker.encoder, part.cohort) != ("good", "home"):
            continue
        train = folds.fold[:, 0] != part.fold[0]
        c = part.maker.settings["C"]
        reference = make_pipeline(
            StandardScaler(), LogisticRegression(C=c, tol=1e-10, max_iter=9999)
        )
        reference.fit(x[train], folds.label[train])
        assert np.allclose(reference.predict_proba(x[~train]), part.probability, atol=1e-3)


def test_a_stored_model_gives_the_stored_predictions_again(probed) -> None:
    store_path, results = probed
    store = open_store(store_path)
    row = {digest.tobytes(): k for k, digest in enumerate(store.images.digest)}
    file = min((results / "predictions" / "linear-probe" / "good").iterdir())
    model = load_file(results / "fitted" / "linear-probe" / "good" / f"{file.stem}.safetensors")
    for part in read_unit(file):
        rows = np.array([row[digest.tobytes()] for digest in part.image])
        x = store.features(part.maker.feature_id, rows)
        logit = (x - model["mean"]) / model["scale"] @ model["weight"].T + model["bias"]
        power = np.exp(logit - logit.max(axis=1, keepdims=True))
        assert np.allclose(power / power.sum(axis=1, keepdims=True), part.probability, atol=1e-12)


def test_a_rerun_does_nothing_and_says_so(probed) -> None:
    store, results = probed
    before = files_of(results)
    again = probe(store, PROTOCOL, out=results)
    assert (again.done, again.found) == (0, 8)
    assert any("nothing was left to fit" in note for note in again.notes)
    assert files_of(results) == before


def test_processes_write_the_same_bytes_as_one(probed, tmp_path) -> None:
    store, results = probed
    probe(store, PROTOCOL, out=tmp_path / "other", encoders=["good"], workers=2)
    same = files_of(tmp_path / "other")
    assert same == {name: data for name, data in files_of(results).items() if name in same}
    assert sum(name.endswith(".parquet") for name in same) == 1 + 4


def test_what_is_missing_is_done_again_and_nothing_else(probed, tmp_path) -> None:
    store, results = probed
    shutil.copytree(results, tmp_path / "results")
    gone = sorted((tmp_path / "results" / "predictions").rglob("*.parquet"))[2]
    gone.unlink()
    plan = plan_probe(store, PROTOCOL, out=tmp_path / "results")
    assert [unit.name for unit in plan.missing] == [gone.stem]
    assert not gone.exists()
    assert probe(store, PROTOCOL, out=tmp_path / "results").done == 1
    assert files_of(tmp_path / "results") == files_of(results)


def test_a_plan_writes_nothing(probed, tmp_path) -> None:
    store, _ = probed
    plan = plan_probe(store, PROTOCOL, out=tmp_path / "results")
    assert (len(plan.missing), plan.found) == (8, 0)
    assert not (tmp_path / "results").exists()


def test_an_encoder_may_join_later(make_study, tmp_path) -> None:
    store = make_study(tmp_path)
    probe(store, PROTOCOL, out=tmp_path / "results", encoders=["good"])
    joined = probe(store, PROTOCOL, out=tmp_path / "results", encoders=["other"])
    assert (joined.done, joined.found) == (4, 0)


def test_failures_of_an_encoder_that_is_there_leave_images_out_for_one_that_joins(
    make_study, tmp_path
) -> None:
    store = make_study(tmp_path, failed={"good": {"home-4": "not finite"}})
    probe(store, PROTOCOL, out=tmp_path / "results", encoders=["good"])
    probe(store, PROTOCOL, out=tmp_path / "results", encoders=["other"])
    images = {
        (part.maker.encoder, part.cohort): set()
        for part in read_predictions(ResultsFolder(tmp_path / "results"))
    }
    for part in read_predictions(ResultsFolder(tmp_path / "results")):
        images[part.maker.encoder, part.cohort] |= {image.tobytes() for image in part.image}
    assert images["good", "home"] == images["other", "home"]
    assert len(images["good", "home"]) == 35


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"seed": 1}, "folds_sha256|protocol.seed"),
        ({"external": ()}, "cohorts|protocol.external"),
        ({"tuning": Tuning(grid=(0.1, 1.0))}, "protocol.tuning.grid"),
        ({"classes": ("brain", "femur")}, "classes"),
    ],
)
def test_another_protocol_is_refused_and_nothing_is_written(probed, change, field) -> None:
    store, results = probed
    before = files_of(results)
    with pytest.raises(ProtocolDiffersError, match=field):
        probe(store, dataclasses.replace(PROTOCOL, **change), out=results)
    assert files_of(results) == before


def test_predictions_from_other_vectors_are_never_put_beside_the_old_ones(
    make_study, tmp_path
) -> None:
    probe(make_study(tmp_path / "a"), PROTOCOL, out=tmp_path / "results", encoders=["other"])
    changed = make_study(tmp_path / "b", seed=5)
    with pytest.raises(OtherUnitsError, match="other features"):
        probe(changed, PROTOCOL, out=tmp_path / "results", encoders=["other"])


def test_a_fit_that_does_not_converge_names_encoder_fold_and_c(
    make_study, tmp_path, monkeypatch
) -> None:
    store = make_study(tmp_path)
    for solver in ("path", "scikit_learn"):
        monkeypatch.setattr(f"embedcache.probing.estimators.{solver}._ITERATIONS", 0)
    with pytest.raises(NotConvergedError) as error:
        probe(store, PROTOCOL, out=tmp_path / "results", encoders=["good"], workers=1)
    assert (error.value.encoder, error.value.training, error.value.c) == ("good", "fold 0", 0.01)


def test_an_unknown_estimator_lists_the_known_ones(probed, tmp_path) -> None:
    with pytest.raises(UnknownNameError, match="linear-probe"):
        probe(probed[0], PROTOCOL, out=tmp_path / "results", estimator="forest")


def test_the_record_tells_what_was_judged(probed) -> None:
    record = read_record(ResultsFolder(probed[1]))
    assert record.protocol == PROTOCOL
    assert record.classes == ("brain", "femur", "thorax")
    assert [(c.name, c.images, c.patients, c.clusters) for c in record.cohorts] == [
        ("home", 36, 18, 18),
        ("abroad", 12, 6, 6),
    ]
    assert record.folds_sha256 == read_folds(ResultsFolder(probed[1])).sha256


def test_the_verb_and_its_protocol_are_public() -> None:
    assert embedcache.probe is probe
    assert embedcache.Protocol is Protocol


def test_a_killed_run_goes_on_from_where_it_stopped(probed, tmp_path) -> None:
    store, results = probed
    script = (
        "import sys, time, pathlib, dataclasses\n"
        "import embedcache.probing.probe as room\n"
        "from embedcache.protocol.protocol import Protocol, Tuning\n"
        "work = room.do_units\n"
        "room.do_units = lambda units: (work(units), time.sleep(60))[0]\n"
        "protocol = Protocol(train='home', external=('abroad',), folds=3,"
        " tuning=Tuning(grid=(0.01, 0.1, 1.0)))\n"
        "store, out = map(pathlib.Path, sys.argv[1:])\n"
        "room.probe(store, protocol, out=out, workers=1)\n"
    )
    out = tmp_path / "results"
    running = subprocess.Popen([sys.executable, "-c", script, str(store), str(out)])
    deadline = time.monotonic() + 60
    while len(list(out.glob("predictions/*/*/*.parquet"))) < 2:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    rest = probe(store, PROTOCOL, out=out)
    assert rest.found >= 2
    assert rest.done + rest.found == 8
    assert files_of(out) == files_of(results)


def test_names_row_order_and_the_key_change_nothing_in_folds_draws_and_predictions(
    make_study, tmp_path
) -> None:
    """Two hospitals' tables of one study: other patient names, another order, another key."""
    protocol = dataclasses.replace(PROTOCOL, efficiency=Efficiency(patients=(1, 2), repeats=2))
    results = []
    for name, change in (("plain", lambda made: made), ("changed", _disguised)):
        store = make_study(tmp_path / name, change=change)
        out = tmp_path / name / "results"
        probe(store, protocol, out=out)
        label_efficiency(store, protocol, out=out)
        results.append(out)
    # When features were extracted stands in the files of predictions, so these are read.
    one, other = (
        {name: data for name, data in files_of(out).items() if not name.endswith(".parquet")}
        for out in results
    )
    assert one == other
    one, other = (_numbers(ResultsFolder(out)) for out in results)
    assert one == other
    # Per encoder: three folds at home and abroad, a refit abroad; two draws at home and abroad.
    assert len(one) == 1 + 2 * (3 * 2 + 1) + 2 * (2 * 2)


def _numbers(folder: ResultsFolder) -> dict[tuple[str, str], tuple[bytes, ...]]:
    """Every array of folds, predictions and draws, by file and cohort."""
    found = {("folds", ""): (read_folds(folder).sha256.encode(),)}
    fields = ("image", "label", "cluster", "fold", "predicted", "probability")
    for read, files in (
        (read_unit, folder.prediction_files()),
        (read_few, efficiency_files(folder)),
    ):
        for file in files:
            for part in read(file):
                arrays = [getattr(part, name, None) for name in fields]
                known = tuple(a.tobytes() for a in arrays if a is not None)
                found[str(file.relative_to(folder.path)), part.cohort] = known
    return found


def _disguised(cohort: MadeCohort) -> MadeCohort:
    """The same cohort, rows shuffled, patients renamed, pseudonyms under another key."""
    order = np.random.default_rng(7).permutation(len(cohort.image))
    return MadeCohort(
        name=cohort.name,
        classes=cohort.classes,
        image=[cohort.image[k] for k in order],
        label=[cohort.label[k] for k in order],
        patient=[f"P{cohort.patient[k][::-1]}" for k in order],
        strata={name: [values[k] for k in order] for name, values in cohort.strata.items()},
        key_id="another",
    )


@pytest.mark.parametrize("rule", ["split", "site"])
def test_a_rule_of_folds_is_probed_evaluated_and_complete(make_study, tmp_path, rule) -> None:
    def told(cohort: MadeCohort) -> MadeCohort:
        thirds = [f"site {k // 2 % 9 // 3}" for k in range(len(cohort.image))]
        words = ["test" if site == "site 0" else "train" for site in thirds]
        return dataclasses.replace(cohort, strata={"site": thirds, "split": words})

    store = make_study(tmp_path, change=told)
    protocol = dataclasses.replace(PROTOCOL, folds=rule)
    out = tmp_path / "results"
    done = probe(store, protocol, out=out)
    folds = {"split": 1, "site": 3}[rule]
    assert done.done == 2 * (folds + 1)
    rows = [row for row in embedcache.evaluate(out) if row.metric == "accuracy"]
    home = [row for row in rows if row.cohort == "home" and not row.stratum]
    assert {row.images for row in home if row.level == "image"} == {12 if folds == 1 else 36}
    assert {row.estimand for row in rows} >= {"oof", "external-folds", "external-refit"}
    # One training set has no variance between training sets.
    assert {row.low_train is None for row in home if row.low is not None} == {folds == 1}


def test_dask_writes_the_same_bytes_as_this_process(probed, tmp_path) -> None:
    store, results = probed
    probe(store, PROTOCOL, out=tmp_path / "other", encoders=["good"], scheduler="local:1")
    same = files_of(tmp_path / "other")
    assert same == {name: data for name, data in files_of(results).items() if name in same}
    assert sum(name.endswith(".parquet") for name in same) == 1 + 4


def test_dask_hears_no_feature(make_study, tmp_path) -> None:
    """What travels to a worker is small, whatever the number of dimensions."""
    from distributed.protocol import serialize_bytelist

    plan = plan_probe(make_study(tmp_path), PROTOCOL, out=tmp_path / "results")
    units = [unit for unit in plan.missing if unit.encoder == "good"]
    sent = sum(len(part) for part in serialize_bytelist(tuple(units)))
    images = 36 + 12
    # Digest, label, row, cluster and strata of each image, and a few kilobytes about the encoder.
    assert sent < 40_000 + 400 * images
