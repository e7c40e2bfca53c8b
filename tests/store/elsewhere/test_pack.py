"""A packed store: one file that any zip tool and zarr open, and that a stranger cannot abuse."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedcache.errors import (
    EmbedcacheError,
    FileInTheWayError,
    PackUnusableError,
    UnsealedElsewhereError,
)
from embedcache.progress import Silent
from embedcache.store import pack as packing
from embedcache.store.elsewhere import open_elsewhere
from embedcache.store.folder import Folder
from embedcache.store.pack import open_packed, pack
from embedcache.store.reader import open_store
from embedcache.store.sync import pull
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing


@pytest.fixture(scope="module")
def store(make, tmp_path_factory) -> Path:
    return make().build(tmp_path_factory.mktemp("packed") / "a.zarr")


@pytest.fixture(scope="module")
def packed(store) -> Path:
    pack(store, store.with_name("a.zip"))
    return store.with_name("a.zip")


def test_a_packed_store_reads_as_the_folder_does(store, packed, make) -> None:
    here = open_store(packed)
    feature = make().contract().feature_id
    assert np.array_equal(here.to_numpy(feature), make().vectors())
    assert here.cohort("home").same_as(open_store(store).cohort("home"))
    assert verify(here.path).sound
    assert verify(here.path).content == verify(store).content


def test_the_same_store_packs_to_the_same_bytes_and_lies_there_uncompressed(
    store, packed, tmp_path
) -> None:
    shutil.copytree(store, tmp_path / "elsewhere/other name.zarr")
    pack(tmp_path / "elsewhere/other name.zarr", tmp_path / "b.zip")
    assert (tmp_path / "b.zip").read_bytes() == packed.read_bytes()
    with zipfile.ZipFile(packed) as file:
        assert file.testzip() is None
        assert {one.compress_type for one in file.infolist()} == {zipfile.ZIP_STORED}


def test_zarr_opens_it(packed, make) -> None:
    feature = make().contract().feature_id
    with zarr.storage.ZipStore(packed, mode="r") as inside:
        vectors = zarr.open_array(inside, path=f"features/{feature}/vectors", mode="r")
        assert np.array_equal(vectors[:], make().vectors())


def test_unpacking_it_gives_the_store(store, packed, tmp_path) -> None:
    pull(str(packed), tmp_path / "b.zarr")
    with zipfile.ZipFile(packed) as file:
        file.extractall(tmp_path / "c.zarr")
    assert verify(tmp_path / "b.zarr").content == verify(store).content
    assert verify(tmp_path / "c.zarr").sound


@pytest.mark.skipif(shutil.which("zip") is None, reason="Debian's zip is not installed")
def test_a_store_packed_by_a_zip_tool_is_read_too(store, tmp_path, make) -> None:
    subprocess.run(["zip", "-q", "-0", "-r", tmp_path / "b.zip", "."], cwd=store, check=True)
    here = open_store(tmp_path / "b.zip")
    assert np.array_equal(here.to_numpy(make().contract().feature_id), make().vectors())


def test_nothing_is_overwritten_and_nothing_half_is_left(store, packed, make, tmp_path) -> None:
    with pytest.raises(FileInTheWayError):
        pack(store, packed)
    shutil.copytree(store, tmp_path / "b.zarr")
    chunk = tmp_path / "b.zarr" / f"features/{make().contract().feature_id}/vectors/c/0/0"
    chunk.write_bytes(bytes(20))
    with pytest.raises(EmbedcacheError):
        pack(tmp_path / "b.zarr", tmp_path / "b.zip")
    assert not list(tmp_path.glob("b.zip*"))


def test_what_a_killed_command_left_of_the_file_goes_with_the_next(store, tmp_path) -> None:
    old, new, other = (tmp_path / name for name in ("b.zip.1.partial", "b.zip.2.partial", "c.zip"))
    for file in (old, new, other):
        file.write_bytes(b"begun")
    for file in (old, other):
        os.utime(file, (0, 0))
    pack(store, tmp_path / "b.zip")
    assert not old.exists()
    assert new.exists(), "somebody may be at it"
    assert other.exists()


def test_an_unsealed_store_is_not_packed(make, lease, run, tmp_path) -> None:
    small = make()
    with lease(
        create_or_open_for_writing(small.build(tmp_path / "a.zarr")), small.contract("2")
    ) as one:
        one.start_run(run)
        with pytest.raises(UnsealedElsewhereError):
            pack(tmp_path / "a.zarr", tmp_path / "a.zip")


HOSTILE = {
    "a way out": "../evil",
    "an absolute name": "/etc/passwd",
    "a drive": "C:/evil",
    "a backslash": "images\\evil",
    "a dot": "images/./evil",
    "an empty part": "images//evil",
    "a hidden name": ".evil",
}


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_name_is_refused(name, packed, tmp_path) -> None:
    shutil.copy(packed, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as file:
        file.writestr(zipfile.ZipInfo(name), b"evil")
    with pytest.raises(PackUnusableError, match="no name of ours"):
        open_packed(tmp_path / "b.zip")


def changed(packed: Path, to: Path, **fields: int) -> Path:
    """A copy with one more member, whose entry says what `fields` say."""
    shutil.copy(packed, to)
    with zipfile.ZipFile(to, "a") as file:
        member = zipfile.ZipInfo("images/evil")
        for name, value in fields.items():
            setattr(member, name, value)
        file.writestr(member, b"evil" * 100)
    return to


def test_compressed_members_and_links_are_refused(packed, tmp_path) -> None:
    bomb = changed(packed, tmp_path / "b.zip", compress_type=zipfile.ZIP_DEFLATED)
    with pytest.raises(PackUnusableError, match="compressed"):
        open_packed(bomb)
    link = changed(packed, tmp_path / "c.zip", create_system=3, external_attr=0o120777 << 16)
    with pytest.raises(PackUnusableError, match="link"):
        open_packed(link)


def test_a_name_twice_is_refused(packed, tmp_path) -> None:
    shutil.copy(packed, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as file, pytest.warns(UserWarning, match="Dup"):
        file.writestr(zipfile.ZipInfo("zarr.json"), b"evil")
    with pytest.raises(PackUnusableError, match="twice"):
        open_packed(tmp_path / "b.zip")


def test_a_list_that_would_fill_the_memory_is_refused_unread(packed, tmp_path) -> None:
    whole = bytearray(packed.read_bytes())
    whole[-10:-6] = struct.pack("<L", 1 << 30)
    (tmp_path / "b.zip").write_bytes(whole)
    with pytest.raises(PackUnusableError, match="1,073,741,824 bytes"):
        open_packed(tmp_path / "b.zip")


def test_a_list_is_refused_whichever_of_its_two_ends_is_too_long(packed, tmp_path) -> None:
    whole = packed.read_bytes()
    end, start = whole[-22:], len(whole) - 22
    size, offset = struct.unpack("<2L", end[12:20])
    long = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 1 << 30, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, start, 1)
    assert size < 1 << 20
    (tmp_path / "b.zip").write_bytes(whole[:-22] + long + locator + end)
    with pytest.raises(PackUnusableError, match="1,073,741,824 bytes"):
        open_packed(tmp_path / "b.zip")


def test_the_shortest_files_that_look_like_an_end_are_refused(tmp_path) -> None:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 46, 0, 0)
    for start in (b"", b"PK\6\6", b"PK\6\6" + bytes(20), b"PK\6\6" + bytes(72)):
        (tmp_path / "b.zip").write_bytes(start + end)
        with pytest.raises(PackUnusableError):
            open_packed(tmp_path / "b.zip")


@pytest.mark.skipif(os.name == "nt", reason="a file with a hole of 5 GB would take 5 GB")
def test_a_store_packed_beyond_four_gigabytes_is_read_and_proved(store, make, tmp_path) -> None:
    """Its members lie behind a hole in the file, so that every place in it takes 64 bits."""
    with (tmp_path / "b.zip").open("wb") as out:
        out.seek(5 << 30)
        packing._write(open_elsewhere(Folder(store)), out, Silent())
    with zipfile.ZipFile(tmp_path / "b.zip") as file:
        assert min(one.header_offset for one in file.infolist()) > 1 << 32
    here = open_store(tmp_path / "b.zip")
    assert np.array_equal(here.to_numpy(make().contract().feature_id), make().vectors())
    assert verify(here.path).content == verify(store).content
    pull(str(tmp_path / "b.zip"), tmp_path / "b.zarr")
    assert verify(tmp_path / "b.zarr").sound


def test_members_with_sizes_of_64_bits_are_read(store, make, tmp_path) -> None:
    source = open_elsewhere(Folder(store))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        for key in sorted(p.relative_to(store).as_posix() for p in store.rglob("*") if p.is_file()):
            with file.open(zipfile.ZipInfo(key), "w", force_zip64=True) as member:
                member.write(source.read(key))
    assert np.array_equal(
        open_store(tmp_path / "b.zip").to_numpy(make().contract().feature_id), make().vectors()
    )


def test_more_members_than_16_bits_count_are_all_there(packed, tmp_path) -> None:
    shutil.copy(packed, tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "a") as file:
        before = len(file.infolist())
        for number in range(66_000):
            file.writestr(zipfile.ZipInfo(f"images/stranger-{number}"), b"")
    inside = open_packed(tmp_path / "b.zip")
    assert len(list(inside.keys(""))) == before + 66_000


def test_a_member_added_by_a_stranger_is_found_by_verify(packed, tmp_path) -> None:
    assert "images/evil" in {
        finding.node
        for finding in verify(open_packed(changed(packed, tmp_path / "b.zip"))).findings
    }


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_any_damage_is_a_typed_error_or_a_right_answer(
    place, bit, cut, packed, make, tmp_path_factory
) -> None:
    whole = bytearray(packed.read_bytes())
    where = int(place * len(whole))
    whole[where] ^= 1 << bit
    file = tmp_path_factory.mktemp("damaged") / "b.zip"
    file.write_bytes(whole[:where] if cut else whole)
    try:
        vectors = open_store(file).to_numpy(make().contract().feature_id)
    except EmbedcacheError:
        return
    assert np.array_equal(vectors, make().vectors())
