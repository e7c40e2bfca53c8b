"""What goes into a store comes out again, whatever the order, and any reader can open it."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache.errors import (
    AmbiguousNameError,
    CohortDiffersError,
    NewerFormatError,
    NotAStoreError,
    PathMissingError,
    RowsDifferError,
    RowsMissingError,
    StoreBusyError,
    StratumTooFineError,
    UnknownNameError,
    UnusableNameError,
    VectorsUnusableError,
)
from embedcache.store.listing import list_store
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing


def test_a_store_gives_back_what_was_put(small, tmp_path) -> None:
    store = open_store(small.build(tmp_path / "a.zarr"))
    feature_id = small.contract().feature_id
    assert np.array_equal(store.images.digest, small.digest)
    assert store.images.formats == ("JPEG", "PNG")
    assert store.images.size.tolist() == [[640, 480]] * small.images
    assert store.cohort("home").same_as(small.cohort())
    rows = np.array([5, 0, 5])
    assert np.array_equal(store.features(feature_id, rows), small.vectors()[rows])
    one = store.select("stand-in")
    assert (one.id, one.contract, one.batch, one.licence) == (
        feature_id,
        small.contract(),
        32,
        "MIT",
    )
    assert [run.rate for run in one.runs] == [1.0]
    assert store.sealed()


def test_dask_and_numpy_give_the_same_rows(make, run, lease, tmp_path) -> None:
    small = make(images=2500)
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    small.add_images(writer)
    rows = np.r_[0:1030, 2040:2500]
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(rows, small.vectors()[rows])
    store, feature_id = open_store(tmp_path / "a.zarr"), small.contract().feature_id
    lazy = store.to_dask(feature_id)
    # chunk 0 whole; 1024 to 1029 and 2040 to 2047 of chunk 1; 2048 to 2499 of chunk 2
    assert lazy.chunks[0] == (1024, 14, 452)
    assert np.array_equal(lazy.compute(scheduler="sync"), small.vectors()[rows])
    assert np.array_equal(store.to_numpy(feature_id), small.vectors()[rows])


def test_any_zarr_reader_opens_a_store_without_a_warning(small, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        members = dict(zarr.open_group(path, mode="r").members(max_depth=None))
        arrays = {key: node for key, node in members.items() if isinstance(node, zarr.Array)}
        values = {key: node[:] for key, node in arrays.items()}
    vectors = values[f"features/{small.contract().feature_id}/vectors"]
    assert np.array_equal(vectors, small.vectors())
    assert {value.dtype.kind for value in values.values()} == set("uibf")  # no strings
    codecs = {
        tuple(codec["name"] for codec in node.metadata.to_dict()["codecs"])
        for node in arrays.values()
    }
    assert codecs == {("bytes", "crc32c")}


def test_fill_values_are_illegal_values(small, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    members = dict(zarr.open_group(path, mode="r").members(max_depth=None))
    fill = {
        key.split("/", 2)[-1] if key.startswith("features") else key: node.fill_value
        for key, node in members.items()
        if isinstance(node, zarr.Array)
    }
    assert np.isnan(fill.pop("vectors"))
    assert not fill.pop("done")
    zero = {"images/digest", "cohorts/home/patient"}
    assert {key for key, value in fill.items() if value == 0} == zero
    assert {int(value) for key, value in fill.items() if key not in zero} == {-2}


#: sessions of puts of rows, across three chunks; between sessions the store is opened anew
sessions = st.lists(
    st.lists(st.lists(st.integers(0, 2099), min_size=1, max_size=30, unique=True), max_size=3),
    min_size=1,
    max_size=3,
)


@given(sessions)
@settings(max_examples=12, deadline=None)
def test_a_store_holds_what_was_put_and_nothing_else(make, run, lease, memory, sessions) -> None:
    small = make(images=2100)
    put: set[int] = set()
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        path = Path(folder) / "a.zarr"
        for puts in sessions:
            writer = create_or_open_for_writing(path)
            small.add_images(writer)
            with lease(writer, small.contract()) as held:
                held.start_run(run)
                assert set(np.flatnonzero(held.done).tolist()) == put
                for rows in puts:
                    held.put(np.array(rows), small.vectors()[rows])
                    put |= set(rows)
        store, feature_id = open_store(path), small.contract().feature_id
        rows = np.array(sorted(put), np.int64)
        assert np.array_equal(np.flatnonzero(store.done(feature_id)), rows)
        assert np.array_equal(store.to_numpy(feature_id), small.vectors()[rows])


@given(sessions)
@settings(max_examples=8, deadline=None)
def test_the_bytes_of_a_store_do_not_depend_on_order_or_interruption(
    make, run, lease, data, memory, sessions
) -> None:
    small = make(images=2100)

    def write(path: Path, parts: list[list[list[int]]]) -> dict[str, bytes]:
        for puts in parts:
            writer = create_or_open_for_writing(path)
            small.add_images(writer)
            with lease(writer, small.contract()) as held:
                held.start_run(run)
                for rows in puts:
                    held.put(np.array(rows), small.vectors()[rows])
                    held.flush()
        assert verify(path).sound
        return data(path)

    every = sorted({row for puts in sessions for rows in puts for row in rows})
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        at_once = write(Path(folder) / "a.zarr", [[every] if every else []])
        assert write(Path(folder) / "b.zarr", sessions) == at_once


def test_images_keep_their_rows_and_repeats_share_one(small, make, tmp_path) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    first = small.add_images(writer)
    assert first.tolist() == list(range(7))
    more = make(images=9)
    order = np.array([8, 3, 8, 0, 7])
    size = np.full((5, 2), 9, np.int32)
    rows = writer.add_images(more.digest[order], size, ["TIFF"] * 5, ["RGB"] * 5)
    assert rows.tolist() == [7, 3, 7, 0, 8]
    table = open_store(tmp_path / "a.zarr").images
    assert np.array_equal(table.digest[rows], more.digest[order])
    assert [table.formats[code] for code in table.format] == [
        *["JPEG", "PNG"] * 3,
        "JPEG",
        "TIFF",
        "TIFF",
    ]


def test_the_image_table_grows_across_chunks(make, tmp_path) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    for images in (4095, 4097, 8192, 8193):
        small = make(images=images)
        assert np.array_equal(small.add_images(writer), np.arange(images))
        assert np.array_equal(open_store(tmp_path / "a.zarr").images.digest, small.digest)


def test_images_that_join_later_get_vectors_later(small, make, run, lease, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    more = make(images=12)
    writer = create_or_open_for_writing(path)
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        rows = more.add_images(writer)[7:]
        held.put(rows, np.ones((5, 4), np.float32))
        assert len(held.done) == 12
    store = open_store(path)
    vectors = store.to_numpy(small.contract().feature_id)
    assert np.array_equal(vectors, np.vstack([small.vectors(), np.ones((5, 4))]))
    assert verify(path).sound


def test_writing_the_same_again_changes_no_byte(small, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    small.build(path)
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_float16_is_stored_as_asked_and_read_as_float32(small, run, lease, tmp_path) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    rows, contract = small.add_images(writer), small.contract(dtype="float16")
    with lease(writer, contract) as held:
        held.start_run(run)
        held.put(rows, small.vectors())
    vectors = open_store(tmp_path / "a.zarr").features(contract.feature_id, rows)
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, small.vectors().astype(np.float16).astype(np.float32))


def test_failed_rows_are_known_until_they_are_done(small, run, lease, tmp_path) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    small.add_images(writer)
    feature_id = small.contract().feature_id
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(np.arange(4), small.vectors()[:4])
        held.fail(5, "the file is truncated")
        held.fail(6, "the file is missing")
    store = open_store(tmp_path / "a.zarr")
    assert store.failed(feature_id) == {5: "the file is truncated", 6: "the file is missing"}
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(np.array([6]), small.vectors()[[6]])
    assert store.failed(feature_id) == {5: "the file is truncated"}


def test_the_content_digest_is_over_rows_in_digest_order(small, make, run, lease, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    pairs = sorted(
        (bytes(digest), vector.astype("<f4").tobytes())
        for digest, vector in zip(small.digest, small.vectors(), strict=True)
    )
    expected = hashlib.sha256(b"".join(digest + vector for digest, vector in pairs)).hexdigest()
    feature_id = small.contract().feature_id
    assert open_store(path).content_digest(feature_id) == expected
    # The same rows in another order of images, beside others that lack a vector.
    writer = create_or_open_for_writing(tmp_path / "b.zarr")
    other = make(images=20).digest[np.r_[13:20, 0:7][::-1]]
    rows = writer.add_images(other, np.ones((14, 2), np.int32), ["PNG"] * 14, ["L"] * 14)
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(rows[:7], small.vectors()[::-1])
    assert open_store(tmp_path / "b.zarr").content_digest(feature_id) == expected


def test_a_name_that_fits_two_feature_sets_lists_them(small, tmp_path) -> None:
    store = open_store(small.build(tmp_path / "a.zarr", codes=("1", "2")))
    first, second = sorted((small.contract("1").feature_id, small.contract("2").feature_id))
    with pytest.raises(AmbiguousNameError) as caught:
        store.select("stand-in")
    assert caught.value.ids == (first, second)
    assert store.select(f"stand-in#{second}").id == second
    assert store.reference(first) == f"stand-in#{first}"
    with pytest.raises(UnknownNameError):
        store.select("usfm")


def test_a_row_that_is_not_done_is_an_error_that_names_it(small, run, lease, tmp_path) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    small.add_images(writer)
    with lease(writer, small.contract()) as held:
        held.start_run(run)
        held.put(np.arange(3), small.vectors()[:3])
    store = open_store(tmp_path / "a.zarr")
    for row in (3, 7, -1):
        with pytest.raises(RowsMissingError) as caught:
            store.features(small.contract().feature_id, np.array([0, row]))
        assert caught.value.rows == (row,)


def test_a_done_row_is_never_replaced_by_another_vector(small, lease, run, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    with lease(create_or_open_for_writing(path), small.contract()) as held:
        held.start_run(run)
        held.put(np.array([2]), small.vectors()[[2]])
        with pytest.raises(RowsDifferError):
            held.put(np.array([2]), small.vectors()[[3]])
    feature_id = small.contract().feature_id
    assert np.array_equal(open_store(path).to_numpy(feature_id), small.vectors())


@pytest.mark.parametrize(
    ("dtype", "value"), [("float32", np.nan), ("float32", np.inf), ("float16", 1e5)]
)
def test_a_vector_that_is_not_finite_is_refused(
    small, run, lease, tmp_path, dtype: str, value: float
) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    rows = small.add_images(writer)
    vectors = small.vectors()
    vectors[4, 1] = value
    with lease(writer, small.contract(dtype=dtype)) as held:
        held.start_run(run)
        with pytest.raises(VectorsUnusableError) as caught:
            held.put(rows, vectors)
    assert caught.value.rows == (4,)


def test_a_cohort_can_be_relabelled_but_not_replaced_by_another(small, make, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    writer = create_or_open_for_writing(path)
    home = small.cohort()
    relabelled = dataclasses.replace(
        home, label=1 - home.label, strata={"machine": home.strata["site"]}
    )
    writer.put_cohort(relabelled)
    assert open_store(path).cohort("home").same_as(relabelled)
    assert not (path / "cohorts/home/site").exists()
    make(images=20).add_images(writer)
    other = dataclasses.replace(home, row=home.row + 4)  # shares rows 4, 5 and 6 of seven
    with pytest.raises(CohortDiffersError) as caught:
        writer.put_cohort(other)
    assert (caught.value.stored, caught.value.shared) == (7, 3)
    writer.put_cohort(dataclasses.replace(home, row=home.row + 3))  # shares four of seven
    assert verify(path).sound


@pytest.mark.parametrize("name", ["", "../away", "a/b", "zarr.json/x", ".hidden", "end.", "ä"])
def test_a_name_that_is_no_folder_is_refused(small, tmp_path, name: str) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    small.add_images(writer)
    with pytest.raises(UnusableNameError):
        writer.put_cohort(dataclasses.replace(small.cohort(), name=name))


@pytest.mark.parametrize("stratum", ["label", "Row", "patient"])
def test_a_stratum_never_takes_the_place_of_an_array(small, tmp_path, stratum: str) -> None:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    small.add_images(writer)
    strata = {stratum: small.cohort().strata["site"]}
    with pytest.raises(UnusableNameError):
        writer.put_cohort(dataclasses.replace(small.cohort(), strata=strata))


def test_a_stratum_of_more_values_than_codes_is_refused(make, tmp_path) -> None:
    small = make(images=32_768)
    strata = {"operator": np.arange(32_768).astype(np.str_)}
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    with pytest.raises(StratumTooFineError):
        writer.put_cohort(dataclasses.replace(small.cohort(), strata=strata))


def test_what_is_no_store_is_not_opened_and_not_touched(small, tmp_path) -> None:
    with pytest.raises(PathMissingError):
        open_store(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/notes.txt").write_text("mine")
    for refuse in (open_store, create_or_open_for_writing):
        with pytest.raises(NotAStoreError):
            refuse(tmp_path / "folder")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    small.build(tmp_path / "empty")
    assert verify(tmp_path / "empty").sound


def test_a_newer_format_names_both_versions(small, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    document = (path / "zarr.json").read_text().replace('"format_version":1', '"format_version":2')
    (path / "zarr.json").write_text(document)
    for use in (open_store, create_or_open_for_writing, verify):
        with pytest.raises(NewerFormatError) as caught:
            use(path)
        assert (caught.value.found, caught.value.known) == (2, 1)


def test_two_writers_of_one_feature_set_exclude_each_other(small, lease, run, tmp_path) -> None:
    path = small.build(tmp_path / "a.zarr")
    one, two = create_or_open_for_writing(path), create_or_open_for_writing(path)
    with lease(one, small.contract("3")) as held:
        held.start_run(run)
        with pytest.raises(StoreBusyError) as caught, lease(two, small.contract("3")):
            pass
        assert caught.value.since
        with lease(two, small.contract("4")) as other:
            other.start_run(run)
            other.put(np.arange(7), small.vectors())
            held.put(np.arange(7), small.vectors())
    assert verify(path).sound
    assert sum(one.done for one in open_store(path).feature_sets()) == 21


def test_a_listing_counts_what_there_is(small, tmp_path) -> None:
    listing = list_store(open_store(small.build(tmp_path / "a.zarr")))
    (cohort,), (features,) = listing.cohorts, listing.features
    assert listing.images == 7
    assert cohort.classes == {"brain": 4, "femur": 3}
    assert cohort.patients == 4  # images 0 and 1, 2 and 3, 4 and 5, 6
    assert cohort.strata == {"site": {"Accra": 3, "Lomé": 4}}
    assert (features.done, features.dim, features.failed) == (7, 4, {})
    assert listing.unsealed == ()
