"""Push: what is lacking and nothing else, published last, and complete after any interruption."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from embedcache.store.places import root_at
from embedcache.store.reader import open_store
from embedcache.store.sync import pull, push
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing


def test_a_pushed_store_is_the_same_to_the_byte(make, bucket, tmp_path) -> None:
    store = make().build(tmp_path / "a.zarr", codes=("1", "2"))
    sent = push(store, bucket.url)
    assert sent.size + len((store / "manifest/zarr.json").read_bytes()) == sent.total + len(
        (store / "manifest/zarr.json").read_bytes()
    )
    pull(bucket.url, tmp_path / "b.zarr")
    assert files(tmp_path / "b.zarr") == files(store)
    assert verify(tmp_path / "b.zarr").sound


def files(store: Path) -> dict[str, bytes]:
    return {p.relative_to(store).as_posix(): p.read_bytes() for p in store.rglob("*") if p.is_file()}
