"""`embedcache store` and `embedcache key` as a person types them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.contract import Contract, Preprocessing
from embedcache.errors import NotAStoreError
from embedcache.provenance import provenance
from embedcache.store.reader import open_store
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import create_or_open_for_writing

CONTRACT = Contract(
    architecture="stand-in",
    code="1",
    weights="random:0",
    preprocessing=Preprocessing(height=8, width=8, mean=(0.0,), std=(1.0,)),
    pooling="none",
    dim=4,
)


def type_(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def store(tmp_path) -> Path:
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    digest = [hashlib.sha256(bytes([one])).digest() for one in range(5)]
    images = np.frombuffer(b"".join(digest), np.uint8).reshape(5, 32)
    row = writer.add_images(images, np.ones((5, 2), np.int32), ["PNG"] * 5, ["L"] * 5)
    writer.put_cohort(
        StoredCohort(
            name="home",
            classes=("brain", "femur"),
            row=np.append(row, -1),
            label=np.array([0, 0, 0, 1, 1, 1], np.int16),
            patient=np.repeat(np.arange(1, 4, dtype=np.uint8), 2)[:, None].repeat(16, axis=1),
            strata={"site": np.array(["Accra"] * 6)},
            reader="folder",
            citation="",
            licence="",
            synthetic=True,
            key_id="0badcafe",
            unreadable={"the file is empty": 1},
        )
    )
    with writer.lease(CONTRACT, name="stand-in", licence="", citation="", batch=8) as lease:
        lease.start_run(provenance())
        lease.put(row[:4], np.ones((4, 4), np.float32))
        lease.fail(4, "out of memory")
    return tmp_path / "a.zarr"


def test_ls_says_what_matters_before_anyone_trusts_a_store(store) -> None:
    out = type_("store", "ls", store)
    assert out.exit_code == 0
    for words in (
        "5 images, sealed",
        "brain 3, femur 3",
        "SYNTHETIC",
        "0badcafe",
        "RANDOM WEIGHTS",
        "4 of 5",
        "not known",
        CONTRACT.feature_id,
    ):
        assert words in out.output


def test_ls_as_json_counts_cohorts_and_features(store) -> None:
    listing = json.loads(type_("store", "ls", store, "--json").output)
    (cohort,), (features,) = listing["cohorts"], listing["features"]
    assert (cohort["rows"], cohort["images"], cohort["patients"]) == (6, 5, 3)
    assert cohort["unreadable"] == {"the file is empty": 1}
    assert (features["done"], features["failed"]) == (4, {"out of memory": 1})
    assert features["random_weights"] is True


def test_verify_prints_content_digests_and_ends_well(store) -> None:
    out = type_("store", "verify", store)
    assert out.exit_code == 0
    assert open_store(store).content_digest(CONTRACT.feature_id) in out.output
    assert "origin unproven" in out.output


def test_verify_names_damage_and_ends_with_one(store) -> None:
    chunk = store / "features" / CONTRACT.feature_id / "vectors/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    out = type_("store", "verify", store)
    assert out.exit_code == 1
    assert f"damaged: features/{CONTRACT.feature_id}/vectors" in out.output
    assert "embedcache extract" in out.output
    found = json.loads(type_("store", "verify", store, "--json").stdout)
    assert found["sound"] is False
    assert [0, 1, 2, 3] in [finding["rows"] for finding in found["findings"]]


def test_verify_of_no_store_is_a_typed_error(tmp_path) -> None:
    (tmp_path / "x").write_text("no store")
    assert isinstance(type_("store", "verify", tmp_path).exception, NotAStoreError)


def test_key_show_keeps_the_key_unless_asked(monkeypatch) -> None:
    monkeypatch.setenv("EMBEDCACHE_KEY", "0123456789abcdef" * 4)
    key_id = hashlib.sha256(
        b"embedcache key id\0" + bytes.fromhex("0123456789abcdef" * 4)
    ).hexdigest()[:8]
    out = type_("key", "show")
    assert key_id in out.output
    assert "EMBEDCACHE_KEY" in out.output
    assert "never anonymous" in out.output
    assert "0123456789abcdef" not in out.output
    assert "0123456789abcdef" * 4 in type_("key", "show", "--reveal").output
    assert json.loads(type_("key", "show", "--json").output) == {
        "key_id": key_id,
        "place": "EMBEDCACHE_KEY",
    }
