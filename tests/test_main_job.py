"""The main job on real images, by its commands, against scikit-learn on thumbnails of our own.

`pixels` alone: it is the one encoder whose features a test can restate in a line of PIL. The
figures of efficientnet-lite0 are measured by benchmarks/reference.py.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from embedcache.cli import app
from embedcache.errors import BadInputError

SPAIN, AFRICA = "fetal_planes_db_four_planes", "african_planes"
PROBE = ("probe", "store.zarr", "--train", "spain", "--external", "africa", "--out", "results")


def embedcache(*words: str) -> Result:
    return CliRunner().invoke(app, words, env={"EMBEDCACHE_KEY": "5e" * 32})


@pytest.fixture(scope="module")
def job(shared_cohorts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the four commands have run."""
    folder = tmp_path_factory.mktemp("job")
    spain = f"spain=fetal-planes-db:{shared_cohorts / SPAIN}"
    africa = f"africa=african-planes:{shared_cohorts / AFRICA}"
    with pytest.MonkeyPatch.context() as there:
        there.chdir(folder)
        for line in (
            ("extract", "store.zarr", "--cohort", spain, "--cohort", africa, "--encoder", "pixels"),
            PROBE,
            ("compare", "results"),
            ("report", "results", "--out", "report.html"),
        ):
            done = embedcache(*line)
            assert done.exit_code == 0, done.output
    return folder


@pytest.fixture(scope="module")
def thumbnails(shared_cohorts: Path) -> dict[bytes, np.ndarray]:
    """16 x 16 grey means of every real image, by the sha256 of its file."""
    files = [*(shared_cohorts / SPAIN / "Images").iterdir(), *(shared_cohorts / AFRICA).glob("*/*")]
    found = {}
    for file in files:
        with Image.open(file) as picture:
            small = picture.convert("L").resize((16, 16), Image.Resampling.BOX)
        digest = hashlib.sha256(file.read_bytes()).digest()
        found[digest] = np.asarray(small, np.float32).ravel() / 255
    return found


def units(job: Path) -> list[tuple[dict[str, Any], Any]]:
    """Each fitted model's settings, and its predictions."""
    import pyarrow.parquet as pq

    fitted = sorted((job / "results" / "fitted" / "linear-probe" / "pixels").glob("*.json"))
    folder = job / "results" / "predictions" / "linear-probe" / "pixels"
    return [
        (json.loads(file.read_text()), pq.read_table(folder / f"{file.stem}.parquet"))
        for file in fitted
    ]


def score(job: Path, estimand: str) -> dict[str, str]:
    with (job / "results" / "metrics.csv").open() as file:
        (row,) = [
            row
            for row in csv.DictReader(file)
            if row["metric"] == "macro-f1"
            and row["estimand"] == estimand
            and row["level"] == "image"
            and not row["class"]
            and not row["stratum"]
        ]
    return row


def test_every_fold_predicts_as_scikit_learn_does(
    job: Path, thumbnails: dict[bytes, np.ndarray]
) -> None:
    import pyarrow.parquet as pq
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    folds = pq.read_table(job / "results" / "folds.parquet")
    image, label = folds["image"].to_pylist(), np.array(folds["label"])
    fold = np.array(folds["fold:0"])
    x = np.stack([thumbnails[digest] for digest in image])
    for fitted, predictions in units(job):
        train = fold != fitted["fold"]
        model = make_pipeline(
            StandardScaler(),
            LogisticRegression(C=fitted["settings"]["C"], max_iter=10_000, tol=1e-8),
        )
        model.fit(x[train].astype(np.float64), label[train])
        tested = np.stack([thumbnails[digest] for digest in predictions["image"].to_pylist()])
        ours = np.stack(
            [np.array(predictions[f"probability:{name}"]) for name in fitted["classes"]], axis=1
        )
        assert np.abs(model.predict_proba(tested.astype(np.float64)) - ours).max() < 5e-3


def test_no_patient_trains_and_tests(job: Path, shared_cohorts: Path) -> None:
    import pyarrow.parquet as pq

    table = shared_cohorts / SPAIN / "FETAL_PLANES_DB_data.csv"
    patient = {}
    with table.open() as file:
        for row in csv.DictReader(file, delimiter=";"):
            found = list((shared_cohorts / SPAIN / "Images").glob(f"{row['Image_name']}.*"))
            patient[hashlib.sha256(found[0].read_bytes()).digest()] = row["Patient_num"]
    folds = pq.read_table(job / "results" / "folds.parquet")
    of_patient: dict[str, set[int]] = {}
    for digest, fold in zip(folds["image"].to_pylist(), folds["fold:0"].to_pylist(), strict=True):
        of_patient.setdefault(patient[digest], set()).add(fold)
    assert len(of_patient) == 437
    assert all(len(found) == 1 for found in of_patient.values())
    assert set.union(*of_patient.values()) == {0, 1, 2, 3, 4}


def test_the_scores_are_scikit_learn_s_on_the_predictions(job: Path) -> None:
    from sklearn.metrics import f1_score

    home = [table.filter(_of(table, "spain", fold=True)) for _, table in units(job)]
    labels = np.concatenate([np.array(table["label"]) for table in home])
    predicted = np.concatenate([np.array(table["predicted"]) for table in home])
    assert len(labels) == 888
    assert float(score(job, "oof")["value"]) == pytest.approx(
        f1_score(labels, predicted, average="macro"), abs=1e-12
    )
    abroad = [table.filter(_of(table, "africa", fold=True)) for _, table in units(job)]
    labels = np.concatenate([np.array(table["label"]) for table in abroad])
    predicted = np.concatenate([np.array(table["predicted"]) for table in abroad])
    assert len(labels) == 5 * 248
    assert float(score(job, "external-folds")["value"]) == pytest.approx(
        f1_score(labels, predicted, average="macro"), abs=1e-12
    )


def _of(table: Any, cohort: str, *, fold: bool) -> Any:
    import pyarrow.compute as pc

    return pc.and_(
        pc.equal(table["cohort"], cohort), pc.equal(pc.greater_equal(table["fold"], 0), fold)
    )


def test_the_external_cohort_counts_copies_once_and_their_patients_together(job: Path) -> None:
    row = score(job, "external-folds")
    assert (row["images"], row["clusters"]) == ("248", "67")


def test_the_report_stands_alone_and_names_what_it_is_about(job: Path) -> None:
    page = (job / "report.html").read_text("utf-8")
    assert len(page) < 1_500_000
    assert "spain" in page
    assert "Ghana" in page
    assert "SYNTHETIC" not in page


def test_the_whole_job_again_changes_nothing(job: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _files(job / "results" / "predictions")
    monkeypatch.chdir(job)
    assert embedcache(*PROBE).exit_code == 0
    assert _files(job / "results" / "predictions") == before


def test_another_protocol_is_refused_in_the_same_folder(
    job: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(job)
    other = embedcache("probe", "store.zarr", "--train", "africa", "--out", "results").exception
    assert isinstance(other, BadInputError)
    assert "train" in str(other)


def test_nothing_that_the_job_leaves_names_a_patient_a_file_or_a_place(
    job: Path, shared_cohorts: Path
) -> None:
    raw = (b"Patient00", b"_Plane", b"_GHA_", b"_DZA_", b".png", b"four_planes", bytes(job.parent))
    left = [path for path in job.rglob("*") if path.is_file()]
    assert len(left) > 50
    found = [(path.name, word) for path in left for word in raw if word in path.read_bytes()]
    assert not found


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.parquet")}
