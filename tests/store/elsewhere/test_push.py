"""Push: what is lacking and nothing else, published last, complete after any interruption."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import (
    DivergedError,
    ElsewhereDamagedError,
    EmbedcacheError,
    NoStoreElsewhereError,
    PlaceTakenError,
    PlaceUnusableError,
    PublishedMeanwhileError,
    StoreChangedError,
    TransferFailedError,
    UnknownNameError,
    UnsealedElsewhereError,
)
from embedcache.store.places import root_at
from embedcache.store.reader import open_store
from embedcache.store.sync import pull, push
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing

ROOT = "manifest/zarr.json"


def files(store: Path) -> dict[str, bytes]:
    found = (path for path in store.rglob("*") if path.is_file())
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in found}


def fetched(place: str, folder: Path) -> dict[str, bytes]:
    pull(place, folder)
    return files(folder)


@pytest.fixture
def store(make, tmp_path) -> Path:
    return make().build(tmp_path / "a.zarr", codes=("1", "2"))


def test_a_pushed_store_is_the_same_to_the_byte(store, bucket, tmp_path) -> None:
    sent = push(store, bucket.url)
    assert sent.objects == len(files(store)) - 1 == bucket.count("PUT") - 1
    assert (
        sent.size
        == sent.total
        == sum(map(len, files(store).values())) - len((store / ROOT).read_bytes())
    )
    assert fetched(bucket.url, tmp_path / "b.zarr") == files(store)
    assert verify(tmp_path / "b.zarr").sound


def test_the_manifest_is_published_last(store, bucket) -> None:
    push(store, bucket.url)
    puts = bucket.keys("PUT")
    assert puts[-1] == ROOT
    lists = [index for index, key in enumerate(puts) if key.startswith("manifest/")]
    assert min(lists[2:]) > max(i for i, key in enumerate(puts) if "/c/" in key)


def test_an_unchanged_store_moves_no_object(store, bucket, tmp_path) -> None:
    push(store, bucket.url)
    pull(bucket.url, tmp_path / "b.zarr")
    bucket.requests.clear()
    sent = push(store, bucket.url)
    assert (sent.nodes, sent.objects, sent.size) == ((), 0, 0)
    assert bucket.requests == [("GET", ROOT)]
    got = pull(bucket.url, tmp_path / "b.zarr")
    assert (got.nodes, got.objects) == ((), 0)
    assert bucket.requests == [("GET", ROOT)] * 2


def test_the_next_images_send_only_those(make, bucket, tmp_path) -> None:
    first, more = make(images=2049), make(images=2100)
    store = tmp_path / "a.zarr"
    first.build(store)
    push(store, bucket.url)
    bucket.requests.clear()
    more.build(store)
    sent = push(store, bucket.url)
    chunks = [key for key in bucket.keys("PUT") if "/vectors/c/" in key]
    feature = make().contract().feature_id
    assert chunks == [f"features/{feature}/vectors/c/2/0"]  # rows 2,048 to 2,099
    assert sent.size < sent.total
    assert fetched(bucket.url, tmp_path / "b.zarr") == files(store)


def test_a_push_that_is_refused_midway_goes_on_from_there(store, bucket, tmp_path) -> None:
    bucket.fault = lambda method, key: 403 if method == "PUT" and bucket.count("PUT") > 12 else None
    with pytest.raises(TransferFailedError, match="same command again"):
        push(store, bucket.url)
    before = {key for method, key in bucket.requests if method == "PUT"}
    arrived = len(before) - (bucket.count("PUT") - 12)
    with pytest.raises(NoStoreElsewhereError):
        root_at(bucket.url)
    bucket.fault = lambda method, key: None
    bucket.requests.clear()
    sent = push(store, bucket.url)
    assert sent.objects == len(files(store)) - 1 - arrived
    assert fetched(bucket.url, tmp_path / "b.zarr") == files(store)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of Unix")
def test_a_push_that_is_killed_is_completed_by_a_rerun(store, bucket, tmp_path) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def hang(method: str, key: str) -> None:
        if method == "PUT" and bucket.count("PUT") > 15:
            reached.set()
            go_on.wait(30)

    bucket.fault = hang
    command = [sys.executable, "-m", "embedcache", "store", "push", str(store), bucket.url]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert reached.wait(60)
    process.send_signal(signal.SIGKILL)
    process.wait()
    bucket.fault = lambda method, key: None
    go_on.set()
    with pytest.raises(NoStoreElsewhereError):
        root_at(bucket.url)
    sent = push(store, bucket.url)
    assert sent.objects < len(files(store)) - 10
    assert fetched(bucket.url, tmp_path / "b.zarr") == files(store)


def test_a_reader_amid_any_request_of_a_push_sees_right_rows_or_a_typed_error(
    make, bucket, tmp_path, monkeypatch
) -> None:
    """Stop an update after each of its changes, and read as a new and as an old reader would."""
    few, many = make(images=5), make(images=9)
    store, feature = tmp_path / "a.zarr", make().contract().feature_id
    few.build(store)
    push(store, bucket.url)
    old = open_store(root_at(bucket.url))
    many.build(store)
    seen = []

    def look(method: str, key: str) -> None:
        if method == "PUT" and bucket.count("PUT") % 7 == 1:
            with turn:
                for reader in (old, None):
                    try:
                        one = reader or open_store(root_at(bucket.url))
                        rows = np.arange(len(one), dtype=np.int64)
                        got = one.features(feature, rows)
                        assert np.array_equal(got, many.vectors()[: len(rows)])
                        seen.append(len(rows))
                    except (ElsewhereDamagedError, StoreChangedError) as error:
                        seen.append(type(error).__name__)

    turn = threading.Lock()
    monkeypatch.setattr("embedcache.store.sync.PARALLEL", 1)
    bucket.requests.clear()
    bucket.fault = look
    push(store, bucket.url)
    bucket.fault = lambda method, key: None
    assert 5 in seen
    assert "ElsewhereDamagedError" in seen
    assert len(open_store(root_at(bucket.url))) == 9


def test_an_interrupted_update_is_completed_by_a_rerun(make, bucket, tmp_path) -> None:
    """Also where objects of the old state, by which the two are compared, are replaced already."""
    store = make(images=5).build(tmp_path / "a.zarr")
    push(store, bucket.url)
    make(images=9).build(store)
    for _ in range(4):  # 4 of 23 objects arrive each time; then the manifest would be in reach
        bucket.requests.clear()
        bucket.fault = lambda method, key: refuse_after(bucket, method, 4)
        with pytest.raises(TransferFailedError):
            push(store, bucket.url)
    bucket.fault = lambda method, key: None
    push(store, bucket.url)
    assert fetched(bucket.url, tmp_path / "b.zarr") == files(store)


def refuse_after(bucket, method: str, puts: int) -> int | None:
    return 403 if method == "PUT" and bucket.count("PUT") > puts else None


def test_two_pushes_at_once_publish_one_of_them(make, bucket, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("embedcache.store.sync.PARALLEL", 1)  # the other comes before all objects
    store = make().build(tmp_path / "a.zarr")
    push(store, bucket.url)
    pull(bucket.url, tmp_path / "b.zarr")
    make(images=9).build(store)
    make(images=8).build(tmp_path / "b.zarr")

    def other_first(method: str, key: str) -> None:
        if method == "PUT" and not done:
            done.append(key)
            push(tmp_path / "b.zarr", bucket.url)

    done: list[str] = []
    bucket.fault = other_first
    with pytest.raises(PublishedMeanwhileError, match="--repair"):
        push(store, bucket.url)
    with pytest.raises(DivergedError):
        push(store, bucket.url, repair=True)
    push(tmp_path / "b.zarr", bucket.url, repair=True)
    assert fetched(bucket.url, tmp_path / "c.zarr") == files(tmp_path / "b.zarr")


def test_repair_sends_what_is_damaged_there(store, bucket, tmp_path, make) -> None:
    push(store, bucket.url)
    key = f"features/{make().contract().feature_id}/vectors/c/0/0"
    damage(bucket, key)
    with pytest.raises(ElsewhereDamagedError, match="--repair"):
        pull(bucket.url, tmp_path / "b.zarr")
    assert push(store, bucket.url).objects == 0
    bucket.requests.clear()
    assert push(store, bucket.url, repair=True).objects == 1
    assert bucket.keys("PUT") == [key, ROOT]
    assert fetched(bucket.url, tmp_path / "b.zarr") == files(store)


def damage(bucket, key: str) -> None:
    import obstore

    from embedcache.store.bucket import Bucket

    obstore.put(Bucket(bucket.url)._store, key, b"other bytes")


def test_a_dry_run_sends_nothing(store, bucket) -> None:
    planned = push(store, bucket.url, dry_run=True)
    assert planned.objects == len(files(store)) - 1
    assert bucket.count("PUT", "DELETE") == 0


def test_what_the_other_side_has_more_of_stays(make, bucket, tmp_path) -> None:
    small = make()
    store = small.build(tmp_path / "a.zarr", codes=("1",))
    push(store, bucket.url)
    pull(bucket.url, tmp_path / "b.zarr")
    make(images=9).build(tmp_path / "b.zarr")
    push(tmp_path / "b.zarr", bucket.url)
    writer = create_or_open_for_writing(store)
    small.extract(writer, "2")
    sent = push(store, bucket.url)
    assert sent.nodes == (f"features/{small.contract('2').feature_id}",)
    assert sorted(sent.ahead) == sorted(
        ("images", "cohorts/home", f"features/{small.contract().feature_id}")
    )
    pull(bucket.url, tmp_path / "c.zarr")
    both = open_store(tmp_path / "c.zarr")
    assert (len(both), sorted(one.done for one in both.feature_sets())) == (9, [7, 9])
    assert verify(tmp_path / "c.zarr").sound


def test_features_extracted_on_both_sides_are_never_overwritten(make, bucket, tmp_path) -> None:
    store = make().build(tmp_path / "a.zarr")
    push(store, bucket.url)
    other = make().build(tmp_path / "b.zarr")
    with pytest.raises(DivergedError, match="store merge"):
        push(other, bucket.url)
    assert fetched(bucket.url, tmp_path / "c.zarr") == files(store)


def test_other_images_are_never_mixed(make, bucket, tmp_path) -> None:
    push(make(images=3).build(tmp_path / "a.zarr"), bucket.url)
    other = create_or_open_for_writing(tmp_path / "b.zarr")
    digest = np.full((1, 32), 7, np.uint8)
    other.add_images(digest, np.ones((1, 2), np.int32), ["PNG"], ["L"])
    with pytest.raises(DivergedError, match="image table"):
        push(tmp_path / "b.zarr", bucket.url)


def test_changed_labels_are_sent_only_where_asked(make, store, bucket, tmp_path) -> None:
    push(store, bucket.url)
    cohort = make().cohort()
    other = replace(cohort, label=1 - cohort.label, strata={})
    create_or_open_for_writing(store).put_cohort(other)
    with pytest.raises(DivergedError, match="--replace home"):
        push(store, bucket.url)
    push(store, bucket.url, replace=["home"])
    assert fetched(bucket.url, tmp_path / "b.zarr") == files(store)  # the stratum is gone too
    assert verify(tmp_path / "b.zarr").sound
    with pytest.raises(UnknownNameError):
        push(store, bucket.url, replace=["abroad"])


def test_a_place_with_other_things_is_refused(store, bucket) -> None:
    damage(bucket, "holiday.jpg")
    with pytest.raises(PlaceTakenError, match=r"holiday\.jpg"):
        push(store, bucket.url)


def test_an_unsealed_store_is_not_sent(make, lease, run, bucket, tmp_path) -> None:
    small = make()
    store = small.build(tmp_path / "a.zarr")
    writer = create_or_open_for_writing(store)
    with lease(writer, small.contract("3")) as held:
        held.start_run(run)
        held.put(np.array([0]), small.vectors("3")[:1])
        held.flush()
        with pytest.raises(UnsealedElsewhereError, match="not sealed"):
            push(store, bucket.url)


def test_damage_here_is_not_sent(make, store, bucket) -> None:
    chunk = store / f"features/{make().contract().feature_id}/vectors/c/0/0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))
    with pytest.raises(ElsewhereDamagedError):
        push(store, bucket.url)
    assert ROOT not in bucket.keys("PUT")


REFUSED = {
    "https://example.org/study": "takes nothing",
    "ftp://example.org/study": "scheme",
    "s3://tester:secret@bucket/study": "credentials",
    "s3:///study": "names no bucket",
    "file://elsewhere/study": "another machine",
    "s3://[bucket/study": "no address",
    "file://[/study": "no address",
    "https://host:port/study": "no address",
    "https://a host/study": "takes nothing",
}


@pytest.mark.parametrize("place", REFUSED)
def test_an_address_that_cannot_be_meant_is_refused(place, store, bucket) -> None:
    with pytest.raises(PlaceUnusableError, match=REFUSED[place]) as caught:
        push(store, place)
    assert "secret" not in str(caught.value)


def test_an_unencrypted_endpoint_elsewhere_is_refused(store, bucket, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://storage.example.org")
    with pytest.raises(PlaceUnusableError, match="not encrypted"):
        push(store, bucket.url)
    with pytest.raises(PlaceUnusableError, match="not encrypted"):
        root_at("http://example.org/study")


def test_lacking_credentials_are_named(store, bucket, monkeypatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(PlaceUnusableError, match="AWS_ACCESS_KEY_ID"):
        push(store, bucket.url)


def test_a_server_that_keeps_other_bytes_is_noticed(store, bucket, monkeypatch) -> None:
    """Its tag is no md5 of what was sent, so the object is read back."""
    monkeypatch.setattr("embedcache.store.bucket._md5", lambda data: "0" * 32)
    push(store, bucket.url)  # read back, and found to be right
    assert bucket.count("GET") > len(files(store)) - 1
    assert issubclass(TransferFailedError, EmbedcacheError)


def test_what_a_server_hears_names_no_person_machine_or_folder(
    store, bucket, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("USER", "garply-user")
    monkeypatch.setenv("HOSTNAME", "waldo-host")
    push(store, bucket.url)
    pull(bucket.url, tmp_path / "b.zarr")
    words = ["garply-user", "waldo-host", str(tmp_path), str(Path.home()), socket.gethostname()]
    words += [os.environ["AWS_SECRET_ACCESS_KEY"]]
    assert len(bucket.heard) > 2 * len(files(store)) - 2
    for request in bucket.heard:
        assert not [word for word in words if len(word) > 5 and word.encode() in request]
