"""The store's verbs as a person types them; what they do is tested in tests/store."""

from __future__ import annotations

import csv
import json
import tempfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.errors import (
    CohortsClashError,
    ExchangeUnusableError,
    FeaturesDifferError,
    LabelsUnusableError,
    NotOneOfTheStoresError,
    StoreNotHereError,
)
from embedcache.store.reader import open_store
from embedcache.testing.stored_features import MadeCohort, digest_of, put_cohort, put_features

CLASSES = ("brain", "femur")


def type_(*words: object) -> Result:
    return CliRunner().invoke(app, ["store", *map(str, words)])


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as at:
        yield Path(at)


@pytest.fixture(autouse=True)
def _key(monkeypatch) -> None:
    """A key of the test's own, and none in anybody's configuration folder."""
    monkeypatch.setenv("EMBEDCACHE_KEY", "0f" * 32)


def made(path: Path, images: range, *, cohort: str = "home", shift: float = 0.0) -> Path:
    names = [f"image {k}" for k in images]
    label = [CLASSES[k % 2] for k in images]
    patient = [f"patient {k // 2}" for k in images]
    put_cohort(
        path,
        MadeCohort(name=cohort, classes=CLASSES, image=names, label=label, patient=patient),
    )
    vectors = {
        name: np.array([k + 1, 2 * k, 3.0 + shift]) for k, name in zip(images, names, strict=True)
    }
    put_features(path, "pixels", vectors)
    return path


def test_merge_says_what_came_from_where(folder) -> None:
    a = made(folder / "a.zarr", range(6))
    b = made(folder / "b.zarr", range(4, 10), cohort="abroad")
    out = type_("merge", a, b, "-o", folder / "c.zarr")
    assert out.exit_code == 0, out.output
    assert "c.zarr: 10 images, 2 of them in both stores" in out.output
    assert open_store(folder / "c.zarr").cohorts() == ("abroad", "home")


def test_merge_of_what_differs_needs_a_word(folder) -> None:
    a, b = made(folder / "a.zarr", range(6)), made(folder / "b.zarr", range(6), shift=1)
    out = type_("merge", a, b, "-o", folder / "c.zarr")
    assert isinstance(out.exception, FeaturesDifferError)
    assert f"--prefer {a}" in str(out.exception)
    other = made(folder / "d.zarr", range(3))
    assert isinstance(
        type_("merge", a, other, "-o", folder / "c.zarr").exception, CohortsClashError
    )
    assert type_("merge", a, b, "-o", folder / "c.zarr", "--rename", "home").exit_code == 2
    done = type_("merge", a, b, "-o", folder / "c.zarr", "--prefer", b, "--json")
    assert json.loads(done.stdout)["features"][0]["beyond"] == 6


def test_subset_names_what_it_holds(folder) -> None:
    a = made(folder / "a.zarr", range(6))
    out = type_("subset", a, "-o", folder / "b.zarr", "--classes", "femur", "--encoder", "pixels")
    assert out.exit_code == 0, out.output
    for words in ("b.zarr: 3 images", "cohort home: 3 rows", "pixels: 3 vectors"):
        assert words in out.output


def test_labels_come_from_a_table_or_from_a_cohort(folder) -> None:
    a = made(folder / "a.zarr", range(6))
    table = folder / "second-reading.csv"
    table.write_text(f"digest,label\n{digest_of('image 0').hex()},femur\n")
    out = type_("add-labels", a, "--cohort", "home", "--labels", table)
    assert "home: 1 rows have another label, 0 the same one, 5 were not named" in out.output
    assert open_store(a).cohort("home").label.tolist() == [1, 1, 0, 1, 0, 1]
    Image.new("L", (4, 4)).save(folder / "x.png")
    (folder / "images.csv").write_text("image,label,patient\nx.png,brain,p\n")
    out = type_("add-labels", a, "--cohort", "home", "--labels", f"table:{folder / 'images.csv'}")
    assert isinstance(out.exception, LabelsUnusableError)
    assert "1 images are not in 'home'" in str(out.exception)


def test_gc_lists_and_drops_on_request(folder) -> None:
    a = made(folder / "a.zarr", range(6))
    assert "nothing to drop" in type_("gc", a).output
    fewer = MadeCohort(
        name="home",
        classes=CLASSES,
        image=[f"image {k}" for k in range(4)],
        label=["brain"] * 4,
        patient=["p"] * 4,
    )
    put_cohort(a, fewer)
    listed = type_("gc", a)
    assert "Would be dropped by --apply" in listed.output
    assert "2 images of no cohort stay in the image table" in listed.output
    assert json.loads(type_("gc", a, "--json").output)["dropped"] is False
    assert "Dropped" in type_("gc", a, "--apply").output
    assert open_store(a).feature_sets()[0].done == 4


def test_inspect_shows_contracts_or_what_a_recipient_could_learn(folder) -> None:
    a = made(folder / "a.zarr", range(6))
    assert '"architecture"' in type_("inspect", a).output
    out = type_("inspect", a, "--privacy").output
    for words in ("pseudonymous, never anonymous", "digests confirm", "same patient", "by chance"):
        assert words in out


def test_export_and_import_make_the_same_store(folder) -> None:
    a = made(folder / "a.zarr", range(6))
    sent = type_("export", a, "--encoder", "pixels", "--to", "hdf5", "-o", folder / "a.h5")
    assert "a.h5: 6 vectors of 3 numbers, 6 images, cohorts home" in sent.output
    got = type_("import", folder / "a.h5", "--from", "hdf5", "-o", folder / "b.zarr")
    assert "b.zarr: 6 vectors of pixels" in got.output
    one, other = open_store(a), open_store(folder / "b.zarr")
    feature_id = one.select("pixels").id
    assert other.content_digest(feature_id) == one.content_digest(feature_id)


def test_eva_s_folder_is_imported_with_its_images(folder) -> None:
    import torch

    (folder / "eva").mkdir()
    with (folder / "eva/manifest.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["origin", "embeddings", "target", "split", "patient"])
        for k in range(4):
            Image.new("L", (5, 4), k).save(folder / f"{k}.png")
            torch.save([torch.full((3,), float(k + 1))], folder / f"eva/{k}.pt")
            lines.writerow([f"{k}.png", f"{k}.pt", k % 2, "train", f"p{k // 2}"])
    words = ["import", folder / "eva", "--from", "eva", "-o", folder / "a.zarr"]
    assert isinstance(type_(*words).exception, ExchangeUnusableError)
    words += ["--encoder", "dino", "--cohort", "home", "--classes", "brain,femur"]
    lacking = type_(*words)
    assert lacking.exit_code == 2
    assert "--images and --patient-column" in lacking.output
    done = type_(*words, "--images", folder, "--patient-column", "patient")
    assert done.exit_code == 0, done.output
    store = open_store(folder / "a.zarr")
    assert store.images.size.tolist() == [[5, 4]] * 4
    assert store.cohort("home").classes == CLASSES


@pytest.fixture
def served(folder) -> Iterator[str]:
    """Stores of a folder, behind a web server on this machine."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    (folder / "www").mkdir()
    with ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=str(folder / "www"))
    ) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_verbs_that_read_take_a_store_where_it_lies(folder, served) -> None:
    made(folder / "www/a.zarr", range(6))
    b = made(folder / "b.zarr", range(4, 10), cohort="abroad")
    type_("pack", b, folder / "b.zip")
    there = f"{served}/a.zarr"
    for words in (
        ["ls", there],
        ["inspect", there],
        ["inspect", there, "--privacy"],
        ["verify", there],
        ["subset", there, "-o", folder / "c.zarr", "--classes", "femur"],
        ["export", there, "--encoder", "pixels", "--to", "hdf5", "-o", folder / "a.h5"],
        ["merge", there, folder / "b.zip", "-o", folder / "d.zarr"],
        ["pack", there, folder / "a.zip"],
        ["pull", there, folder / "e.zarr"],
        ["verify", folder / "a.zip"],
    ):
        done = type_(*words)
        assert done.exit_code == 0, (words, done.exception)
    assert open_store(folder / "c.zarr").feature_sets()[0].done == 3
    assert len(open_store(folder / "d.zarr")) == 10
    assert open_store(folder / "d.zarr").cohorts() == ("abroad", "home")


def test_merge_prefers_a_store_by_the_address_that_was_typed(folder, served) -> None:
    b = made(folder / "b.zarr", range(6))
    made(folder / "www/a.zarr", range(6), shift=1)
    there = f"{served}/a.zarr"
    differ = type_("merge", b, there, "-o", folder / "c.zarr").exception
    assert isinstance(differ, FeaturesDifferError)
    assert there in differ.second
    done = type_("merge", b, there, "-o", folder / "c.zarr", "--prefer", there)
    assert done.exit_code == 0, done.exception
    made_of = open_store(folder / "c.zarr")
    assert made_of.to_numpy(made_of.select("pixels").id)[0, 2] == 4
    for other in ("s3://bucket/x", folder / "d.zarr"):
        words = ["merge", b, there, "-o", folder / "d.zarr", "--prefer", other]
        assert isinstance(type_(*words).exception, NotOneOfTheStoresError)


def test_what_changes_a_store_says_that_it_must_be_a_folder(folder, served) -> None:
    a = made(folder / "a.zarr", range(6))
    type_("pack", a, folder / "a.zip")
    for place in ("s3://bucket/study", f"{served}/a.zarr", folder / "a.zip"):
        for words in (
            ["gc", place],
            ["add-labels", place, "--cohort", "home", "--labels", "x.csv"],
            ["push", place, folder / "b.zarr"],
            ["pull", a, place],
        ):
            refused = type_(*words).exception
            assert isinstance(refused, StoreNotHereError), (words, refused)
            assert f"store pull {place} FOLDER" in str(refused)
    assert type_("gc", a.as_uri()).exit_code == 0
