"""A witness: a chunk is read once, and its hash is of the bytes that the reader saw."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedcache.store import witness
from embedcache.store.objects import proof_on_disk
from embedcache.store.verify import verify
from embedcache.store.witness import Witness


@pytest.fixture
def store(make, tmp_path) -> Path:
    return make().build(tmp_path / "a.zarr")


@pytest.mark.parametrize("idle", [0, 1])
def test_a_chunk_is_known_as_it_was_when_it_was_read(store, make, idle) -> None:
    key = f"features/{make().contract().feature_id}/vectors/c/0/0"
    before, calls = proof_on_disk(store, key), []
    with ThreadPoolExecutor(1) as pool:
        seen = Witness(store, pool, idle=idle, on_chunk=lambda: calls.append(1))
        assert seen.read(key) == (store / key).read_bytes()
        (store / key).write_bytes(b"other bytes")
        assert seen.proof(key) == before
        assert key in seen
        assert calls == [1]
        assert Witness(store, pool).proof(key) == proof_on_disk(store, key) != before


def test_verify_opens_each_chunk_once(store, make, monkeypatch) -> None:
    make().build(store, codes=("1", "2", "3"))
    asked: list[str] = []

    def counted(root, key, **given):
        asked.append(key)
        return read_object(root, key, **given)

    read_object = witness.read_object
    monkeypatch.setattr(witness, "read_object", counted)
    assert verify(store).sound
    chunks = [key for key in asked if "/c/" in key]
    there = [p.relative_to(store).as_posix() for p in store.rglob("c/*") if p.is_file()]
    there += [p.relative_to(store).as_posix() for p in store.rglob("c/*/*")]
    assert sorted(chunks) == sorted(there)


def test_verify_fetches_each_chunk_once_from_elsewhere(make, tmp_path) -> None:
    from embedcache.store.elsewhere import open_elsewhere
    from embedcache.store.folder import Folder

    class Counted(Folder):
        asked: list[str]

        def get(self, key, most):
            self.asked.append(key)
            return super().get(key, most)

    store = make().build(tmp_path / "a.zarr", codes=("1", "2"))
    transport = Counted(store)
    transport.asked = []
    found = verify(open_elsewhere(transport))
    assert found.sound
    assert found.content == verify(store).content
    chunks = [key for key in transport.asked if "/c/" in key]
    assert len(chunks) == len(set(chunks))
