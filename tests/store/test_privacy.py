"""No store holds a patient's number, a file's name, a path, a host or a user."""

from __future__ import annotations

import dataclasses
import getpass
import hashlib
import hmac
import os
import socket
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import KeyUnusableError
from embedcache.provenance import provenance
from embedcache.store.pseudonyms import OwnerKey, key_file, owner_key
from embedcache.store.writer import create_or_open_for_writing

KEY = OwnerKey(secret=bytes(range(32)), place="test")


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A configuration folder of its own, without a key in the environment."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("EMBEDCACHE_KEY", raising=False)
    return tmp_path


def test_a_pseudonym_is_the_hmac_of_namespace_nul_patient() -> None:
    given = KEY.pseudonyms("ward", np.array(["4711", "Ødegård", "4711"]))
    expected = [
        hmac.new(bytes(range(32)), f"ward\0{name}".encode(), hashlib.sha256).digest()[:16]
        for name in ("4711", "Ødegård", "4711")
    ]
    assert [bytes(row) for row in given] == expected
    assert given.dtype == np.uint8
    assert KEY.pseudonyms("ward", []).shape == (0, 16)


def test_namespaces_and_keys_part_patients() -> None:
    other = OwnerKey(secret=bytes(32), place="test")
    one = KEY.pseudonyms("ward", ["4711"])
    assert not np.array_equal(one, KEY.pseudonyms("clinic", ["4711"]))
    assert not np.array_equal(one, other.pseudonyms("ward", ["4711"]))
    assert KEY.key_id != other.key_id


def test_the_key_id_is_the_hash_of_a_fixed_word_and_the_key() -> None:
    expected = hashlib.sha256(b"embedcache key id\0" + bytes(range(32))).hexdigest()[:8]
    assert KEY.key_id == expected
    assert "0001020304" not in repr(KEY)


def test_a_key_is_made_once_for_its_owner_alone(home) -> None:
    first = owner_key()
    assert owner_key() == first
    assert len(first.secret) == 32
    assert key_file().is_relative_to(home)
    assert first.place == str(key_file())
    if os.name == "posix":
        assert stat.S_IMODE(key_file().stat().st_mode) == 0o600
    assert [path.name for path in key_file().parent.iterdir()] == ["key"]


def test_two_processes_that_make_a_key_get_the_same_one(home) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {future.result().secret for future in [pool.submit(owner_key) for _ in range(16)]}
    assert len(keys) == 1


def test_a_key_of_the_environment_wins_and_leaves_no_file(home, monkeypatch) -> None:
    monkeypatch.setenv("EMBEDCACHE_KEY", "0f" * 32)
    assert owner_key().secret == b"\x0f" * 32
    assert not key_file().exists()


@pytest.mark.parametrize("given", ["", "secret-word", "0f" * 15])
def test_what_is_no_key_is_refused_without_being_repeated(home, monkeypatch, given: str) -> None:
    monkeypatch.setenv("EMBEDCACHE_KEY", given)
    with pytest.raises(KeyUnusableError) as caught:
        owner_key()
    assert not given or given not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_key_that_others_may_read_is_refused(home) -> None:
    owner_key()
    key_file().chmod(0o644)
    with pytest.raises(KeyUnusableError, match="chmod 600"):
        owner_key()


def test_no_byte_of_a_store_or_of_its_locks_tells_who_or_where(make, lease, tmp_path) -> None:
    small, path = make(images=40), tmp_path / "very-private-folder" / "a.zarr"
    patients = [f"patient {one // 2}" for one in range(40)]
    writer = create_or_open_for_writing(path)
    small.add_images(writer)
    key = OwnerKey(secret=b"k" * 32, place="test")
    pseudonym = key.pseudonyms("home", patients)
    writer.put_cohort(dataclasses.replace(small.cohort(), patient=pseudonym))
    with lease(writer, small.contract()) as held:
        held.start_run(provenance())
        held.put(np.arange(39), small.vectors()[:39])
        held.fail(39, "the file is truncated")
        held.flush()
        locks = _bytes(tmp_path / "very-private-folder")  # while the lease is held
    writer.seal()
    words = ["patient 1", "very-private-folder", str(Path.home()), socket.gethostname()]
    words += [getpass.getuser(), str(tmp_path), "k" * 32, (b"k" * 32).hex()]
    whole = locks + _bytes(path)
    # A word of four letters may occur in random numbers: `root` is no finding.
    assert [word for word in words if len(word) > 4 and word.encode() in whole] == []
    assert pseudonym[0].tobytes() in whole  # the search finds what is there


def _bytes(folder: Path) -> bytes:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return b"\n".join(path.read_bytes() for path in files)
