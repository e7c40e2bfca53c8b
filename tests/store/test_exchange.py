"""What goes out in another format comes back to the bit, and a stranger's file does no harm."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from embedcache import registry
from embedcache.errors import (
    EmbedcacheError,
    ExchangeUnusableError,
    FileInTheWayError,
    PackageMissingError,
    PathMissingError,
    UnknownNameError,
    UnusableNameError,
)
from embedcache.store.exchange.format import Claims, ImageFacts, describe
from embedcache.store.exchange.transfer import export_features, import_features, load_features
from embedcache.store.pseudonyms import OwnerKey
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing

FORMATS = ("hdf5", "npy-parquet")
KEY = OwnerKey(secret=bytes(range(32)), place="test")


@pytest.fixture
def tmp_path(memory):
    """In memory: many small files that are synced one by one."""
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


@pytest.fixture(params=["float32", "float16"])
def dtype(request) -> str:
    return request.param


def built(make, lease, run, path: Path, dtype: str) -> Path:
    """Images of which one failed and one belongs to a second cohort alone; an unreadable row."""
    small = make(images=9)
    writer = create_or_open_for_writing(path)
    small.add_images(writer)
    home = small.cohort()
    writer.put_cohort(
        dataclasses.replace(
            home,
            row=np.array([0, 1, 2, 3, 4, 5, 6, 7, -1]),
            label=np.array([0, 1, 0, 1, 0, 1, 0, -1, 1], np.int16),
            unreadable={"empty": 1},
        )
    )
    part = {name: getattr(home, name)[6:] for name in ("row", "label", "patient")}
    writer.put_cohort(dataclasses.replace(home, name="abroad", strata={}, **part))
    with lease(writer, small.contract(dtype=dtype)) as held:
        held.start_run(run)
        held.put(np.array([8, 0, 1, 3, 4, 5, 6, 7]), small.vectors()[[8, 0, 1, 3, 4, 5, 6, 7]])
        held.fail(2, "cut")
        held.finish(rate=3.5)
    writer.seal()
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_round_trip_is_exact_to_the_bit(make, lease, run, tmp_path, form, dtype) -> None:
    store = built(make, lease, run, tmp_path / "a.zarr", dtype)
    export_features(store, "stand-in", tmp_path / "out", to=form)
    import_features([load_features(tmp_path / "out", form=form)], tmp_path / "b.zarr")
    before, after = open_store(store), open_store(tmp_path / "b.zarr")
    (one,), (other,) = before.feature_sets(), after.feature_sets()
    assert verify(tmp_path / "b.zarr").sound
    assert after.content_digest(one.id) == before.content_digest(one.id)
    row_of = {bytes(digest): row for row, digest in enumerate(after.images.digest)}
    there = np.array([row_of[bytes(digest)] for digest in before.images.digest])
    assert sorted(row_of.values()) == sorted(there.tolist())
    for name in ("size", "format", "mode"):
        assert np.array_equal(after.images.arrays()[name][there], before.images.arrays()[name])
    moved = [dataclasses.replace(r, failed={"cut": (int(there[2]),)}) for r in one.runs]
    assert dataclasses.replace(other, runs=(), rows=one.rows) == dataclasses.replace(one, runs=())
    assert list(other.runs) == moved
    assert after.cohorts() == ("abroad", "home")
    for name in after.cohorts():
        cohort = before.cohort(name)
        row = np.where(cohort.row >= 0, there[cohort.row], -1)
        assert after.cohort(name).same_as(dataclasses.replace(cohort, row=row))


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_features_are_the_same_bytes(make, lease, run, tmp_path, form) -> None:
    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    held = []
    for name in ("one", "two"):
        export_features(store, "stand-in", tmp_path / name, to=form)
        files = sorted(p for p in [tmp_path / name, *(tmp_path / name).rglob("*")] if p.is_file())
        held.append([file.read_bytes() for file in files])
    assert held[0] == held[1]
    assert not list(tmp_path.glob("*.partial"))


def test_hdf5_reads_as_pathology_tools_read_it(make, lease, run, tmp_path) -> None:
    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    export_features(store, "stand-in", tmp_path / "a.h5", to="hdf5", cohorts=["abroad"])
    small = make(images=9)
    with h5py.File(tmp_path / "a.h5") as file:  # CLAM: features = file['features'][:]
        assert np.array_equal(file["features"][:], small.vectors()[6:])
        assert np.array_equal(file["digest"][:], small.digest[6:])
        assert file["features"].attrs["encoder"] == "stand-in"
        assert list(file["cohorts"]) == ["abroad"]


def test_npy_and_parquet_rows_belong_together(make, lease, run, tmp_path) -> None:
    import pyarrow.parquet as pq

    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    export_features(store, "stand-in", tmp_path / "out", to="npy-parquet")
    vectors = np.load(tmp_path / "out/features.npy")
    images = pq.read_table(tmp_path / "out/images.parquet").to_pylist()
    small = make(images=9)
    row_of = {bytes(digest).hex(): row for row, digest in enumerate(small.digest)}
    rows = [row_of[image["digest"]] for image in images]
    assert np.array_equal(vectors, small.vectors()[rows[:8]])
    assert rows[8:] == [2]  # the one without a vector
    home = pq.read_table(tmp_path / "out/cohorts/home.parquet").to_pylist()
    assert [one["label"] for one in home[:2]] == ["brain", "femur"]
    assert (home[7]["label"], home[8]["digest"]) == (None, None)
    assert home[1]["stratum:site"] == "Lomé"


def test_what_cannot_be_exported_is_an_error_and_leaves_nothing(make, lease, run, tmp_path) -> None:
    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    with pytest.raises(ExchangeUnusableError, match="only be imported"):
        export_features(store, "stand-in", tmp_path / "out", to="eva")
    with pytest.raises(UnknownNameError, match="hdf5, npy-parquet"):
        export_features(store, "stand-in", tmp_path / "out", to="matlab")
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileInTheWayError):
        export_features(store, "stand-in", store, to="hdf5")
    with pytest.raises(PathMissingError):
        load_features(tmp_path / "out", form="hdf5")


def test_ours_enter_as_a_plugin_would() -> None:
    assert {registry.load("exchange", name).name for name in registry.names("exchange")} == {
        "eva",
        *FORMATS,
    }


def hurt_link(file: h5py.File) -> None:
    del file["features"]
    file["features"] = h5py.ExternalLink("/etc/hostname", "/x")


def hurt_soft(file: h5py.File) -> None:
    del file["images/size"]
    file["images/size"] = h5py.SoftLink("/images/digest")


def hurt_external(file: h5py.File) -> None:
    del file["features"]
    file.create_dataset("features", (8, 4), "<f4", external=[("/etc/hostname", 0, 128)])


def hurt_shape(file: h5py.File) -> None:
    del file["features"]
    file.create_dataset("features", (1 << 40, 4), "<f4", chunks=(1024, 4))


def hurt_packed(file: h5py.File) -> None:
    del file["features"]
    file.create_dataset("features", data=np.zeros((1 << 16, 4), "<f4"), compression="gzip")


def hurt_group(file: h5py.File) -> None:
    del file["features"]
    file.create_group("features")


def hurt_row(file: h5py.File) -> None:
    file["cohorts/home/row"][0] = 99


def hurt_category(file: h5py.File) -> None:
    file["cohorts/home/site"][0] = 7


def hurt_twice(file: h5py.File) -> None:
    file["images/digest"][1] = file["images/digest"][0]


def hurt_vector(file: h5py.File) -> None:
    file["features"][3, 2] += 1


def hurt_label(file: h5py.File) -> None:
    file["cohorts/home/label"][0] = 1


def hurt_class(file: h5py.File) -> None:
    about = file["about"][:].tobytes().replace(b"femur", b"lemur")
    file["about"][:] = np.frombuffer(about, np.uint8)


def hurt_about(file: h5py.File) -> None:
    del file["about"]
    file["about"] = np.frombuffer(b'{"format": 3}', np.uint8)


HURTS = [
    hurt_link,
    hurt_soft,
    hurt_external,
    hurt_shape,
    hurt_packed,
    hurt_group,
    hurt_row,
    hurt_category,
    hurt_twice,
    hurt_vector,
    hurt_label,
    hurt_class,
    hurt_about,
]


@pytest.mark.parametrize("hurt", HURTS, ids=lambda hurt: hurt.__name__)
def test_an_hdf5_file_from_a_stranger_is_refused(make, lease, run, tmp_path, hurt) -> None:
    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    export_features(store, "stand-in", tmp_path / "a.h5", to="hdf5")
    with h5py.File(tmp_path / "a.h5", "a") as file:
        hurt(file)
    with pytest.raises(ExchangeUnusableError):
        load_features(tmp_path / "a.h5", form="hdf5")


def test_a_damaged_file_is_an_error_of_ours_or_what_it_was(make, lease, run, tmp_path) -> None:
    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    export_features(store, "stand-in", tmp_path / "a.h5", to="hdf5")
    described = describe(load_features(tmp_path / "a.h5", form="hdf5"))
    whole, draw = (tmp_path / "a.h5").read_bytes(), np.random.default_rng(0)
    for number in range(60):
        data = bytearray(whole)
        data[draw.integers(len(data))] ^= 1 << draw.integers(8)
        hurt = tmp_path / f"{number}.h5"
        hurt.write_bytes(data[: len(data) - (number % 2) * int(draw.integers(1, len(data)))])
        try:
            table = load_features(hurt, form="hdf5")
        except EmbedcacheError:
            continue
        assert describe(table) == described


def write_about(folder: Path, **changed: object) -> None:
    about = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps(about | changed))


def test_a_folder_from_a_stranger_is_refused(make, lease, run, tmp_path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    store = built(make, lease, run, tmp_path / "a.zarr", "float32")

    def given(name: str) -> Path:
        export_features(store, "stand-in", tmp_path / name, to="npy-parquet")
        return tmp_path / name

    pickled = given("pickled")
    np.save(pickled / "features.npy", np.array([{}] * 8, object), allow_pickle=True)
    linked = given("linked")
    (linked / "features.npy").rename(tmp_path / "elsewhere.npy")
    (linked / "features.npy").symlink_to(tmp_path / "elsewhere.npy")
    larger = given("larger")
    with (larger / "features.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (1 << 40, 4)}
        np.lib.format.write_array_header_1_0(file, header)
    cut = given("cut")
    (cut / "images.parquet").write_bytes((cut / "images.parquet").read_bytes()[:-9])
    columns = given("columns")
    pq.write_table(pa.table({"digest": ["00" * 32]}), columns / "images.parquet")
    values = given("values")
    table = pq.read_table(values / "images.parquet")
    bad = table.set_column(0, "digest", pa.array(["zz"] * 9))
    pq.write_table(bad, values / "images.parquet")
    changed = given("changed")
    np.save(changed / "features.npy", np.load(changed / "features.npy") + 1)
    newer = given("newer")
    write_about(newer, version=2)
    for place in (pickled, linked, larger, cut, columns, values, changed, newer):
        with pytest.raises(ExchangeUnusableError):
            load_features(place, form="npy-parquet")
    outside = given("outside")
    cohorts = json.loads((outside / "about.json").read_text())["cohorts"]
    write_about(outside, cohorts={"../../a.zarr/images": cohorts["home"]})
    with pytest.raises(UnusableNameError):
        load_features(outside, form="npy-parquet")


def test_a_run_s_name_never_leads_out_of_the_store(make, lease, run, tmp_path) -> None:
    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    export_features(store, "stand-in", tmp_path / "out", to="npy-parquet")
    (one,) = json.loads((tmp_path / "out/about.json").read_text())["runs"]
    for name in ("../../../../outside", "..", "a\0b", "/tmp/outside", "x" * 300):
        write_about(tmp_path / "out", runs=[{**one, "id": name}])
        with pytest.raises(UnusableNameError, match="run"):
            load_features(tmp_path / "out", form="npy-parquet")


@pytest.mark.parametrize(
    ("about", "cohort"),
    [
        ({"batch": 0}, {}),
        ({"batch": 1 << 40}, {}),
        ({"contract": {"dim": 0}}, {}),
        ({"contract": {"dim": 1 << 40}}, {}),
        ({}, {"categories": {"site": ["x" * 10_000]}}),
    ],
    ids=["no batch", "a huge batch", "no dimension", "huge vectors", "free text"],
)
def test_what_no_memory_holds_is_refused_before_it_is_set_aside(
    make, lease, run, tmp_path, about, cohort
) -> None:
    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    export_features(store, "stand-in", tmp_path / "out", to="npy-parquet")
    said = json.loads((tmp_path / "out/about.json").read_text())
    contract = {**said["about"]["contract"], **about.get("contract", {})}
    said["about"] |= {**about, "contract": contract}
    said["cohorts"]["home"] |= cohort
    write_about(tmp_path / "out", about=said["about"], cohorts=said["cohorts"])
    with pytest.raises(ExchangeUnusableError, match=r"has that size|too many characters"):
        load_features(tmp_path / "out", form="npy-parquet")


def eva_folder(folder: Path, vectors: np.ndarray, *, wrap, rows: list[list[str]]) -> Path:
    """A folder as eva's writer leaves it: see its `ManifestManager` and `_save_predictions`."""
    import torch

    folder.mkdir()
    with (folder / "manifest.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["origin", "embeddings", "target", "split", "patient"])
        for row, vector in zip(rows, vectors, strict=True):
            (folder / row[1]).parent.mkdir(exist_ok=True)
            torch.save(wrap(torch.from_numpy(vector.copy())), folder / row[1])
            writer.writerow(row)
    return folder


def claims(tmp_path: Path, **changed: object) -> Claims:
    said = {
        "encoder": "dino",
        "cohort": "home",
        "classes": ("brain", "femur"),
        "patient": "patient",
        "namespace": "ward",
        "images": tmp_path / "images",
        "identify": identify,
        "key": KEY,
    }
    return Claims(**{**said, **changed})  # type: ignore[arg-type]  # a dict of mixed values


def identify(path: Path) -> ImageFacts:
    digest = hashlib.sha256(path.read_bytes()).digest()
    return ImageFacts(digest=digest, width=4, height=3, format="PNG", mode="L")


@pytest.fixture
def rows(tmp_path) -> list[list[str]]:
    """Four images of two patients, the last a copy of the first under another name."""
    (tmp_path / "images/test").mkdir(parents=True)
    for number, content in enumerate(("a", "b", "c", "a")):
        (tmp_path / f"images/test/{number}.png").write_text(content)
    return [
        [f"test/{n}.png", f"test/{n}.pt", str(n % 2 * (n < 3)), "train" if n else "", f"p{n // 2}"]
        for n in range(4)
    ]


@pytest.mark.parametrize(
    "wrap",
    [lambda one: one, lambda one: one[None], lambda one: [one]],
    ids=["(dim,)", "(1, dim)", "a list of one"],
)
def test_eva_s_folder_becomes_a_store(tmp_path, rows, wrap) -> None:
    vectors = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    vectors[3] = vectors[0]
    place = eva_folder(tmp_path / "eva", vectors, wrap=wrap, rows=rows)
    table = load_features(place, form="eva", claims=claims(tmp_path))
    import_features([table], tmp_path / "a.zarr")
    store = open_store(tmp_path / "a.zarr")
    (one,) = store.feature_sets()
    assert np.array_equal(store.to_numpy(one.id), vectors[:3])
    assert store.images.digest[1].tobytes() == hashlib.sha256(b"b").digest()
    home = store.cohort("home")
    assert home.row.tolist() == [0, 1, 2, 0]
    assert home.label.tolist() == [0, 1, 0, 0]
    assert np.array_equal(home.patient, KEY.pseudonyms("ward", ["p0", "p0", "p1", "p1"]))
    assert home.strata["split"].tolist() == ["not given", "train", "train", "train"]
    assert one.runs[0].provenance.device == "not known: imported from eva"
    assert verify(tmp_path / "a.zarr").sound


class Harmful:
    """Runs code when unpickled by anything but a careful reader."""

    def __reduce__(self):
        return exec, ("raise SystemExit('ran code')",)


def test_eva_s_folder_runs_no_code_and_leads_nowhere(tmp_path, rows) -> None:
    vectors = np.zeros((4, 5), np.float32)

    def refused(name: str, words: str, *, wrap=lambda one: one, change=None, said=None) -> None:
        changed = [row.copy() for row in rows]
        place = eva_folder(tmp_path / name, vectors, wrap=wrap, rows=changed)
        if change is not None:
            text = (place / "manifest.csv").read_text()
            (place / "manifest.csv").write_text(text.replace(*change))
        with pytest.raises(ExchangeUnusableError, match=words):
            load_features(place, form="eva", claims=said or claims(tmp_path))

    refused("harmful", "or code", wrap=lambda one: Harmful())
    refused("several", "2 vectors", wrap=lambda one: [one, one])
    refused("square", "not one vector", wrap=lambda one: one[None].repeat(2, 1).reshape(2, 5))
    refused("huge", "not one vector", wrap=lambda one: one[:1].expand(1 << 20, 1 << 10))
    refused("repeats", "not one vector", wrap=lambda one: one[:1].expand(1 << 40))
    refused("sparse", "not one vector", wrap=lambda one: one.to_sparse())
    refused("digits", "no class number", change=("1.pt,1", "1.pt," + "9" * 5000))
    refused("zero", "outside its folder", change=("test/1.pt", "test/\0.pt"))
    refused("cell", "no CSV", change=("test/1.pt", "x" * 200_000))
    refused("outside", "outside its folder", change=("test/1.pt", "../test/1.pt"))
    refused("absolute", "outside its folder", change=("test/1.png", "/etc/hostname"))
    refused("missing", "is missing", change=("test/1.pt", "test/9.pt"))
    refused("target", "no class number", change=("1.pt,1", "1.pt,high"))
    refused("classes", "none of the 1 classes", said=claims(tmp_path, classes=("brain",)))
    refused("patients", "no column 'who'", said=claims(tmp_path, patient="who"))
    refused("nobody", "name no patient", change=(",p0", ","))
    vectors[3] = 1
    refused("differs", "different vectors")


def test_who_imports_must_say_what_eva_does_not(make, lease, run, tmp_path, rows) -> None:
    place = eva_folder(
        tmp_path / "eva", np.zeros((4, 5), np.float32), wrap=lambda one: one, rows=rows
    )
    with pytest.raises(ExchangeUnusableError, match="--patient-column"):
        load_features(place, form="eva")
    store = built(make, lease, run, tmp_path / "a.zarr", "float32")
    export_features(store, "stand-in", tmp_path / "a.h5", to="hdf5")
    with pytest.raises(ExchangeUnusableError, match="says itself"):
        load_features(tmp_path / "a.h5", form="hdf5", claims=claims(tmp_path))


def test_vectors_become_a_tensor(make, lease, run, tmp_path, dtype) -> None:
    store = open_store(built(make, lease, run, tmp_path / "a.zarr", dtype))
    feature_id = store.feature_sets()[0].id
    tensor = store.to_torch(feature_id)
    assert str(tensor.dtype) == "torch.float32"
    assert np.array_equal(tensor.numpy(), store.to_numpy(feature_id))


def test_vectors_become_a_frame_by_digest(make, lease, run, tmp_path) -> None:
    pytest.importorskip("pandas", reason="pandas is no dependency of embedcache")
    store = open_store(built(make, lease, run, tmp_path / "a.zarr", "float32"))
    frame = store.to_pandas(store.feature_sets()[0].id)
    small = make(images=9)
    assert frame.shape == (8, 4)
    assert np.array_equal(frame.loc[bytes(small.digest[3]).hex()].to_numpy(), small.vectors()[3])


def test_without_pandas_the_error_says_how_to_get_it(
    make, lease, run, tmp_path, monkeypatch
) -> None:
    store = open_store(built(make, lease, run, tmp_path / "a.zarr", "float32"))
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(PackageMissingError, match="pip install pandas"):
        store.to_pandas(store.feature_sets()[0].id)
