"""The whole job with seven random checkpoints in upstream layout on some sixty real images.

What it shows: every family is read, run, stored, probed and reported side by side, and nothing of
it passes for a result. Numbers are the layout tests' matter (tests/encoders/families).
"""

from __future__ import annotations

import csv
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from embedcache import registry
from embedcache.cli import app
from embedcache.encoders.paper import SEVEN
from embedcache.store.reader import open_store

SPAIN, AFRICA = "fetal_planes_db_four_planes", "african_planes"
#: Images of each of the four planes, a patient each: 32 of Spain and 28 of Africa.
OF_SPAIN, OF_AFRICA = 8, 7

PACKAGE = Path(__file__).parent / "data" / "narrow_seven"
NARROW = tuple(f"narrow-{name}" for name in SEVEN)
#: What the full networks are asked for by: UltraSAM at 1024 takes a CPU half a minute an image.
FULL = tuple("ultrasam@256" if name == "ultrasam" else name for name in SEVEN)
SEED = 11


def embedcache(*words: str) -> str:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, f"{words}\n{done.output}\n{done.exception!r}"
    return done.stdout


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EMBEDCACHE_KEY", "5e" * 32)
        patch.setenv("COLUMNS", "200")
        yield patch


@pytest.fixture(scope="module")
def narrow(
    environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Narrow seven as an installed package, and the weights folder that holds their files."""
    folder = tmp_path_factory.mktemp("installed")
    metadata = folder / "narrow_seven-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: narrow-seven\nVersion: 1.0\n")
    entries = (f"narrow-{name} = narrow_seven:{_constant(name)}\n" for name in SEVEN)
    (metadata / "entry_points.txt").write_text("[embedcache.encoders]\n" + "".join(entries))
    for path in (folder, PACKAGE):
        environment.syspath_prepend(str(path))
    environment.setenv("EMBEDCACHE_WEIGHTS", str(folder / "weights"))
    registry._entries.cache_clear()
    yield folder / "weights"
    registry._entries.cache_clear()


@pytest.fixture(scope="module")
def sixty(shared_cohorts: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """Both cohorts cut down, in their official layouts, as `--cohort` takes them."""
    folder = tmp_path_factory.mktemp("cohorts")
    table = Path("FETAL_PLANES_DB_data.csv")
    for row in _cut(shared_cohorts / SPAIN / table, folder / SPAIN / table, OF_SPAIN, ";"):
        _copy(shared_cohorts / SPAIN, folder / SPAIN, f"Images/{row['Image_name']}")
    table = Path("African_planes_database.csv")
    for row in _cut(shared_cohorts / AFRICA / table, folder / AFRICA / table, OF_AFRICA, ","):
        _copy(shared_cohorts / AFRICA, folder / AFRICA, f"{row['Center']}/{row['Filename']}")
    spain, africa = folder / SPAIN, folder / AFRICA
    cohorts = (f"spain=fetal-planes-db:{spain}", f"africa=african-planes:{africa}")
    return ("--cohort", cohorts[0], "--cohort", cohorts[1])


@pytest.fixture(scope="module")
def job(
    narrow: Path, sixty: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The commands' output with narrow checkpoints, and the folder they ran for."""
    return _run(tmp_path_factory.mktemp("job"), sixty, NARROW)


def test_seven_encoders_and_two_cohorts_are_filled(job: dict[str, Any]) -> None:
    assert _filled(job["folder"]) == {
        (name, cohort) for name in NARROW for cohort in ("spain", "africa")
    }


def test_every_encoder_is_marked_wherever_it_shows(job: dict[str, Any]) -> None:
    _assert_marked(job, NARROW)


def test_json_marks_them_too(job: dict[str, Any]) -> None:
    shown = json.loads(embedcache("store", "ls", str(job["folder"] / "store.zarr"), "--json"))
    marks = {one["name"]: one["random_weights"] for one in shown["features"]}
    assert marks == dict.fromkeys(NARROW, True)


def test_files_in_the_weights_folder_give_the_vectors_of_the_same_tensors(
    narrow: Path, job: dict[str, Any], sixty: tuple[str, ...]
) -> None:
    for name in SEVEN:
        _save(narrow, name)
    files = job["folder"] / "files.zarr"
    shown = embedcache("extract", str(files), *sixty, "--encoder", ",".join(NARROW))
    # Nothing in a file says whether its numbers were trained: a mark would be a guess.
    assert "RANDOM WEIGHTS" not in shown
    drawn, read = open_store(job["folder"] / "store.zarr"), open_store(files)
    for name in NARROW:
        one, other = drawn.select(name).contract, read.select(name).contract
        assert one.weights == f"random:{SEED}"
        assert other.weights.startswith("sha256:")
        # Of all rows, image digest and vector: the same bytes.
        assert drawn.content_digest(one.feature_id) == read.content_digest(other.feature_id)
        vectors = drawn.to_numpy(one.feature_id)
        assert len(np.unique(vectors, axis=0)) == len(vectors), "each picture has its own"


@pytest.mark.slow
def test_the_full_networks_do_the_job(
    environment: pytest.MonkeyPatch, sixty: tuple[str, ...], tmp_path: Path
) -> None:
    job = _run(tmp_path, sixty, FULL)
    assert _filled(tmp_path) == {(name, cohort) for name in FULL for cohort in ("spain", "africa")}
    _assert_marked(job, FULL)


def _constant(name: str) -> str:
    return name.upper().replace("-", "_")


def _cut(given: Path, to: Path, count: int, delimiter: str) -> list[dict[str, str]]:
    """Write a table's first rows of each plane, none of a patient who was taken before."""
    with given.open(newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter)
        names, rows = reader.fieldnames or (), list(reader)
    taken: dict[str, list[dict[str, str]]] = defaultdict(list)
    patients = set()
    for row in rows:
        patient = (row.get("Center"), row["Patient_num"])
        if len(taken[row["Plane"]]) < count and patient not in patients:
            taken[row["Plane"]].append(row)
            patients.add(patient)
    kept = [row for plane in taken.values() for row in plane]
    assert len(kept) == 4 * count
    to.parent.mkdir(parents=True)
    with to.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, delimiter=delimiter)
        writer.writeheader()
        writer.writerows(kept)
    return kept


def _copy(given: Path, to: Path, stem: str) -> None:
    (image,) = given.glob(f"{stem}.*")
    target = to / image.relative_to(given)
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(image, target)


def _run(folder: Path, cohorts: tuple[str, ...], encoders: tuple[str, ...]) -> dict[str, Any]:
    """Extract, probe, report; what each printed."""
    store, results = str(folder / "store.zarr"), str(folder / "results")
    asked = ",".join(f"{name}=random:{SEED}" for name in encoders)
    protocol = ("--train", "spain", "--external", "africa", "--out", results)
    return {
        "folder": folder,
        "extract": embedcache("extract", store, *cohorts, "--encoder", asked),
        "probe": embedcache("probe", store, *protocol),
        "ls": embedcache("store", "ls", store),
        "report": embedcache("report", results, "--out", str(folder / "report.html")),
    }


def _filled(folder: Path) -> set[tuple[str, str]]:
    """Encoders and cohorts with a macro-F1 that is a number."""
    rows = _rows(folder / "results" / "metrics.csv")
    return {
        (row["encoder"], row["cohort"])
        for row in rows
        if row["metric"] == "macro-f1" and row["value"] and 0 <= float(row["value"]) <= 1
    }


def _rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as table:
        return list(csv.DictReader(table))


def _assert_marked(job: dict[str, Any], encoders: tuple[str, ...]) -> None:
    for table in ("metrics.csv", "comparisons.csv"):
        rows = _rows(job["folder"] / "results" / table)
        assert {row["encoder"] for row in rows} == set(encoders)
        assert [row for row in rows if "RANDOM WEIGHTS" not in row["note"]] == []
    for name in encoders:
        for command in ("extract", "ls", "probe"):
            # probe's first table leads; the one beside it repeats its encoders.
            line = next(line for line in job[command].splitlines() if f" {name} " in line)
            assert "RANDOM WEIGHTS" in line, (command, line)
    page = (job["folder"] / "report.html").read_text("utf-8")
    assert page.count('<span class="mark">RANDOM WEIGHTS</span>') >= len(encoders)


def _save(folder: Path, name: str) -> None:
    """The tensors of `random:SEED` as the encoder's authors save them, under the published name."""
    import torch
    from safetensors.torch import save_file

    spec = registry.load("encoders", f"narrow-{name}")
    state = {key: value.contiguous() for key, value in spec.untrained(SEED).items()}
    file = folder / spec.name / spec.sources[0].file
    file.parent.mkdir(parents=True)
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save({spec.wrapper: state} if spec.wrapper else state, file)
