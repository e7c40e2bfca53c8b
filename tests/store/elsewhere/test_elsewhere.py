"""A store elsewhere is read in place: only what is needed, and nothing unchecked."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from typer.testing import CliRunner

from embedcache.cli import app
from embedcache.errors import ElsewhereDamagedError, NewerFormatError
from embedcache.store.listing import list_store
from embedcache.store.places import root_at
from embedcache.store.reader import open_store
from embedcache.store.sync import push
from embedcache.store.verify import verify


def test_only_the_chunks_that_hold_the_rows_are_read_and_once_each(make, web) -> None:
    large = make(images=3000)
    large.build(web.folder / "study", codes=("1", "2"))
    feature = large.contract().feature_id
    store = open_store(root_at(web.url))
    web.asked()
    rows = np.array([2100, 5, 2050, 7])
    assert np.array_equal(store.features(feature, rows), large.vectors()[rows])
    asked = web.asked()
    read = sorted(key for key in asked if "/vectors/c/" in key)
    assert read == [f"features/{feature}/vectors/c/{chunk}/0" for chunk in (0, 2)]
    assert len(asked) == len(set(asked))
    assert not any(large.contract("2").feature_id in key for key in asked)


def test_it_reads_as_the_folder_does(make, bucket, tmp_path) -> None:
    folder = make().build(tmp_path / "a.zarr", codes=("1", "2"))
    push(folder, bucket.url)
    here, there = open_store(folder), open_store(root_at(bucket.url))
    assert list_store(there) == list_store(here)
    assert there.cohort("home").same_as(here.cohort("home"))
    for one in here.feature_sets():
        assert there.content_digest(one.id) == here.content_digest(one.id)
        assert np.array_equal(there.to_dask(one.id).compute(), here.to_numpy(one.id))
    assert verify(there.path).content == verify(folder).content


def test_a_changed_chunk_elsewhere_is_found_by_reading_and_by_verify(make, liar) -> None:
    make().build(liar.folder)
    feature = make().contract().feature_id
    chunk = f"features/{feature}/vectors/c/0/0"
    liar.keys, liar.how = (chunk,), "lies"
    root = root_at(liar.url)
    with pytest.raises(ElsewhereDamagedError, match=chunk):
        open_store(root).features(feature, np.arange(3))
    assert chunk in {finding.node for finding in verify(root).findings}


def test_what_was_fetched_is_shared_by_the_processes_of_a_command(make, web, tmp_path) -> None:
    make().build(web.folder / "study")
    feature = make().contract().feature_id
    root = root_at(web.url)
    root.cache = tmp_path / "cache"
    open_store(root).to_numpy(feature)
    web.asked()
    other = open_store(pickle.loads(pickle.dumps(root)))
    assert np.array_equal(other.to_numpy(feature), make().vectors())
    assert web.asked() == []
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"other bytes")
    fresh = open_store(pickle.loads(pickle.dumps(root)))
    assert np.array_equal(fresh.to_numpy(feature), make().vectors())


def test_ls_and_verify_take_an_address(make, web) -> None:
    make().build(web.folder / "study")
    out = CliRunner().invoke(app, ["store", "ls", web.url, "--json"])
    assert json.loads(out.stdout)["images"] == 7
    out = CliRunner().invoke(app, ["store", "verify", web.url])
    assert out.exit_code == 0
    assert "is sound" in out.stdout


def test_push_pull_and_pack_say_what_they_did(make, tmp_path) -> None:
    def type_(*words: object) -> str:
        out = CliRunner().invoke(app, ["store", *map(str, words)])
        assert out.exit_code == 0, out.output
        return out.stdout

    store = make().build(tmp_path / "a.zarr")
    assert "would be sent" in type_("push", store, tmp_path / "b.zarr", "--dry-run")
    assert not (tmp_path / "b.zarr").exists()
    sent = json.loads(type_("push", store, tmp_path / "b.zarr", "--json"))
    assert sent["size"] == sent["total"]
    assert "nothing was fetched" in type_("pull", tmp_path / "b.zarr", store)
    assert "study.zip" in type_("pack", store, tmp_path / "study.zip")
    listed = type_("ls", tmp_path / "study.zip", "--json")
    assert json.loads(listed) == json.loads(type_("ls", store, "--json"))


def test_a_newer_format_elsewhere_is_said_so(make, liar) -> None:
    from embedcache.store.layout import group_document
    from embedcache.store.objects import proof_of

    make().build(liar.folder)
    newer = group_document({"format": "embedcache", "format_version": 2})
    (liar.folder / "zarr.json").write_bytes(newer)
    manifest = json.loads((liar.folder / "manifest/zarr.json").read_bytes())
    proof = proof_of(newer)
    known = {"size": proof.size, "sha256": proof.sha256}
    manifest["attributes"]["objects"]["zarr.json"] = known
    (liar.folder / "manifest/zarr.json").write_text(json.dumps(manifest))
    with pytest.raises(NewerFormatError):
        open_store(root_at(liar.url))


def test_a_probe_in_place_gives_the_numbers_of_a_probe_here(make, web, tmp_path) -> None:
    many = make(images=80)
    store = many.build(web.folder / "study")
    web.asked()
    for place, out in ((web.url, "there"), (store, "here")):
        words = ["probe", place, "--train", "home", "--out", tmp_path / out, "--folds", 2]
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
    there, here = ((tmp_path / out / "metrics.csv").read_bytes() for out in ("there", "here"))
    assert there == here
    asked = web.asked()
    assert len(asked) == len(set(asked))
    assert sum("/vectors/c/" in key for key in asked) == 1
