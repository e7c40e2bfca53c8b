"""Damage is found and named: by verify wherever it is, by a reader where it would be read."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import DamagedRowsError, DamagedStoreError, EmbedcacheError
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing
from embedcache.testing.damage import KINDS, damage


@pytest.fixture(scope="module")
def sound(make, tmp_path_factory) -> Path:
    return make().build(tmp_path_factory.mktemp("sound") / "a.zarr", codes=("1", "2"))


@pytest.fixture
def store(sound, tmp_path) -> Path:
    shutil.copytree(sound, tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


def objects(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


def is_found(store: Path, file: Path) -> bool:
    """Whether opening refuses the store, or verify names the file or its node.

    A manifest whose word for another object changed disagrees with that object: either may be
    named.
    """
    try:
        found = verify(store)
    except EmbedcacheError:
        return True
    key = file.relative_to(store).as_posix()
    if key.startswith("manifest/"):
        return bool(found.findings)
    return any(key.startswith(f.node) or f.node.startswith(key) for f in found.findings)


def test_a_sound_store_has_no_findings(sound) -> None:
    found = verify(sound)
    assert found.sound
    assert found.objects == len(objects(sound))
    assert found.size == sum(path.stat().st_size for path in objects(sound))
    assert len(found.content) == 2


def test_a_flipped_byte_in_any_file_is_found(store) -> None:
    draw = np.random.default_rng(13)
    for file in objects(store):
        whole = file.read_bytes()
        for place in (len(whole) - 1, int(draw.integers(len(whole)))):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(draw.integers(8))
            file.write_bytes(flipped)
            assert is_found(store, file), (file, place)
        file.write_bytes(whole)
    assert verify(store).sound


@pytest.mark.slow
def test_every_ninth_flipped_byte_of_the_documents_is_found(store) -> None:
    for file in store.rglob("zarr.json"):
        whole = file.read_bytes()
        for place in range(0, len(whole), 9):
            flipped = bytearray(whole)
            flipped[place] ^= 1
            file.write_bytes(flipped)
            assert is_found(store, file), (file, place)
        file.write_bytes(whole)


def test_a_deleted_or_shortened_file_is_found(store) -> None:
    for file in objects(store):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        assert is_found(store, file), file
        file.unlink()
        assert is_found(store, file), file
        file.write_bytes(whole)


def test_random_flips_losses_cuts_and_swaps_are_all_found(make, memory) -> None:
    # 60 of the 1,000 of benchmarks/damage.py, which found all.
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        store = make(images=1_100).build(Path(folder) / "a.zarr", codes=("1", "2"))
        draw, kinds = np.random.default_rng(60), set()
        for _ in range(60):
            one = damage(store, draw)
            kinds.add(one.kind)
            assert any(is_found(store, store / key) for key in one.keys), one.keys
            one.undo(store)
        assert kinds == set(KINDS)
        assert verify(store).sound


def test_chunks_swapped_between_two_features_are_found(store, make) -> None:
    small = make()
    one, two = (store / "features" / small.contract(c).feature_id for c in ("1", "2"))
    first, second = (one / "vectors/c/0/0").read_bytes(), (two / "vectors/c/0/0").read_bytes()
    (one / "vectors/c/0/0").write_bytes(second)
    (two / "vectors/c/0/0").write_bytes(first)
    found = verify(store)
    assert {finding.node for finding in found.findings} == {
        f"features/{node.name}/vectors/c/0/0" for node in (one, two)
    }
    assert found.content == {}


def test_a_stranger_in_a_store_is_found(store) -> None:
    (store / "images/notes.txt").write_text("mine")
    assert [finding.node for finding in verify(store).findings] == ["images/notes.txt"]


@pytest.mark.skipif(os.name == "nt", reason="Windows lets few users make links")
def test_a_link_is_never_followed(store, make, tmp_path) -> None:
    feature_id = make().contract().feature_id
    chunk = store / "features" / feature_id / "vectors/c/0/0"
    chunk.rename(tmp_path / "outside")
    chunk.symlink_to(tmp_path / "outside")
    assert is_found(store, chunk)
    with pytest.raises(DamagedRowsError):
        open_store(store).features(feature_id, np.array([0]))
    folder = store / "images/digest/c"
    folder.rename(tmp_path / "folder")
    folder.symlink_to(tmp_path / "folder", target_is_directory=True)
    assert is_found(store, folder)
    with pytest.raises(DamagedStoreError):
        _ = open_store(store).images


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes in folders on this system")
def test_a_pipe_in_place_of_a_chunk_does_not_hang(store, make) -> None:
    feature_id = make().contract().feature_id
    chunk = store / "features" / feature_id / "vectors/c/0/0"
    chunk.unlink()
    os.mkfifo(chunk)
    assert is_found(store, chunk)
    with pytest.raises(DamagedRowsError):
        open_store(store).features(feature_id, np.array([0]))


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


HURT: dict[str, Callable[[Path], object]] = {
    "gone": lambda chunk: chunk.unlink(),
    "flipped": lambda chunk: chunk.write_bytes(flip(chunk.read_bytes())),
    "cut short": lambda chunk: chunk.write_bytes(chunk.read_bytes()[:-5]),
}


@pytest.mark.parametrize("hurt", HURT)
def test_a_reader_names_the_rows_of_a_damaged_chunk(make, tmp_path, hurt: str) -> None:
    small = make(images=1500)
    store = small.build(tmp_path / "a.zarr")
    feature_id = small.contract().feature_id
    HURT[hurt](store / "features" / feature_id / "vectors/c/1/0")
    opened = open_store(store)
    assert np.array_equal(opened.features(feature_id, np.arange(1024)), small.vectors()[:1024])
    with pytest.raises(DamagedRowsError) as caught:
        opened.features(feature_id, np.array([3, 1400, 1024, 3]))
    assert caught.value.rows == (1024, 1400)


@pytest.mark.parametrize("hurt", HURT)
@pytest.mark.parametrize("array", ["vectors/c/1/0", "done/c/1"])
def test_extracting_again_mends_damaged_rows_and_says_which(
    make, data, run, tmp_path, hurt: str, array: str
) -> None:
    small = make(images=1500)
    store = small.build(tmp_path / "a.zarr")
    before = data(store)
    HURT[hurt](store / "features" / small.contract().feature_id / array)
    writer = create_or_open_for_writing(store)
    with writer.lease(small.contract(), name="s", licence="", citation="", batch=1) as lease:
        assert lease.damaged.tolist() == list(range(1024, 1500))
        missing = np.flatnonzero(~lease.done)
        assert np.array_equal(missing, lease.damaged)
        lease.start_run(run)
        lease.put(missing, small.vectors()[missing])
    assert data(store) == before
    assert verify(store).sound


def test_a_swapped_chunk_is_noticed_and_mended_by_extracting_again(
    make, data, run, tmp_path
) -> None:
    small = make()
    store = small.build(tmp_path / "a.zarr", codes=("1", "2"))
    before = data(store)
    one, two = (store / "features" / small.contract(c).feature_id for c in ("1", "2"))
    (one / "vectors/c/0/0").write_bytes((two / "vectors/c/0/0").read_bytes())
    small.extract(create_or_open_for_writing(store))
    assert data(store) == before
    assert verify(store).sound


def test_sealing_never_signs_damage_that_a_killed_writer_left(small, run, lease, tmp_path) -> None:
    store = tmp_path / "a.zarr"
    writer = create_or_open_for_writing(store)
    small.add_images(writer)
    held = lease(writer, small.contract())
    with held:
        held.start_run(run)
        held.put(np.arange(7), small.vectors())
    manifest = store / "manifest/zarr.json"
    node = f"features/{small.contract().feature_id}"
    document = json.loads(manifest.read_text())
    document["attributes"]["open"] = [node]  # as a kill right after the last chunk leaves it
    manifest.write_text(json.dumps(document, sort_keys=True, separators=(",", ":")))
    assert verify(store).unsealed == (node,)
    chunk = store / node / "vectors/c/0/0"
    whole = chunk.read_bytes()
    chunk.write_bytes(flip(whole))
    with pytest.raises(DamagedRowsError):
        create_or_open_for_writing(store).seal()
    assert not open_store(store).sealed()
    chunk.write_bytes(whole)
    create_or_open_for_writing(store).seal()
    assert verify(store).sound


def edit(store: Path, key: str, change: Callable[[dict[str, object]], object]) -> None:
    document = json.loads((store / key).read_text())
    change(document)
    (store / key).write_text(json.dumps(document))


def read_everything(store: Path, feature_id: str) -> None:
    opened = open_store(store)
    opened.features(feature_id, np.arange(7))
    opened.cohort("home")


def test_array_metadata_is_compared_with_what_we_would_write(store, make) -> None:
    feature_id = make().contract().feature_id
    vectors, done = (f"features/{feature_id}/{a}/zarr.json" for a in ("vectors", "done"))
    edits: list[tuple[str, Callable[[dict[str, object]], object]]] = [
        (vectors, lambda d: d.update(fill_value=0.0)),
        (vectors, lambda d: d.update(codecs=[{"name": "bytes"}])),
        (vectors, lambda d: d.update(data_type="float64")),
        (vectors, lambda d: d.update(shape=[10**12, 4])),
        (done, lambda d: d.update(shape=[10**12])),
        (done, lambda d: d.update(shape=[3])),
        ("images/digest/zarr.json", lambda d: d.update(shape=[10**12, 32])),
        ("cohorts/home/row/zarr.json", lambda d: d.update(shape=[10**12])),
    ]
    for key, change in edits:
        whole = (store / key).read_bytes()
        edit(store, key, change)
        # Even with no manifest to tell: every node counts as open.
        manifest = (store / "manifest/zarr.json").read_bytes()
        for signed in (True, False):
            if not signed:
                edit(store, "manifest/zarr.json", _open_all)
            tracemalloc.start()
            with pytest.raises(EmbedcacheError):
                read_everything(store, feature_id)
            assert tracemalloc.get_traced_memory()[1] < 50e6
            tracemalloc.stop()
        (store / key).write_bytes(whole)
        (store / "manifest/zarr.json").write_bytes(manifest)
    assert verify(store).sound


def test_a_manifest_never_leads_out_of_the_store(store) -> None:
    def lead_out(document: dict[str, object]) -> None:
        objects = document["attributes"]["objects"]  # type: ignore[index]  # JSON
        objects["../../etc/passwd"] = {"size": 1, "sha256": "0" * 64}

    edit(store, "manifest/zarr.json", lead_out)
    with pytest.raises(DamagedStoreError):
        open_store(store)
    assert not verify(store).sound


def test_a_document_nested_without_end_is_damage_and_no_crash(store) -> None:
    (store / "images/zarr.json").write_text("[" * 200_000)
    assert is_found(store, store / "images/zarr.json")
    with pytest.raises(DamagedStoreError):
        _ = open_store(store).images


def _open_all(document: dict[str, object]) -> None:
    attributes = document["attributes"]
    lists = [key for key in attributes["objects"] if key.count("/") == 3]  # type: ignore[index]  # JSON
    nodes = [key.removeprefix("manifest/").removesuffix("/zarr.json") for key in lists]
    attributes["open"] = ["images", *nodes]  # type: ignore[index]  # JSON
