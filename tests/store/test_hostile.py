"""A stranger's store: an embedcache error or a right answer; nothing outside, nothing huge."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedcache.errors import (
    DamagedStoreError,
    EmbedcacheError,
    StoreAccessError,
    StratumValueTooLongError,
)
from embedcache.store.incoming import IncomingFolder
from embedcache.store.layout import MOST_BATCH, MOST_DIM, MOST_VALUE
from embedcache.store.objects import MOST_DOCUMENT, proof_of
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
from embedcache.store.writer import create_or_open_for_writing
from embedcache.testing.hostile_store import (
    answers,
    are_right,
    evil_document,
    open_all,
    other_bytes,
)

#: What opening and reading a small store may allocate, however it is damaged.
BOUND = 64 << 20


@pytest.fixture(scope="module")
def sound(make, tmp_path_factory) -> Path:
    return make().build(tmp_path_factory.mktemp("sound") / "a.zarr")


@pytest.fixture
def store(sound, tmp_path) -> Path:
    shutil.copytree(sound, tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_a_document_with_anything_anywhere_is_an_error_or_a_right_answer(store, data) -> None:
    right = answers(store)
    with evil_document(store, data) as file:
        tracemalloc.start()
        found = answers(store)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert most < BOUND
    assert are_right(found, right, file)


@pytest.mark.parametrize("place", ["images/digest", "done"])
@pytest.mark.parametrize("rows", [0, 3])
def test_while_nobody_vouches_fewer_rows_are_the_first_ones(store, small, place, rows) -> None:
    right = answers(store)
    folder = store / (f"features/{small.contract().feature_id}/done" if place == "done" else place)
    document = json.loads((folder / "zarr.json").read_text())
    document["shape"][0] = rows
    (folder / "zarr.json").write_text(json.dumps(document))
    assert answers(store)[0 if place != "done" else 2] == ("error",)
    open_all(store)
    assert are_right(answers(store), right, folder / "zarr.json")
    assert not are_right(answers(store), right)
    assert not verify(store).sound


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.data())
def test_bytes_damaged_anywhere_are_an_error_or_a_right_answer(store, data) -> None:
    right = answers(store)
    with other_bytes(store, data):
        found = answers(store)
    assert are_right(found, right)


def edit(store: Path, key: str, change: Callable[[dict[str, Any]], object]) -> None:
    document = json.loads((store / key).read_text())
    change(document["attributes"])
    (store / key).write_text(json.dumps(document))


def test_a_stratum_s_name_never_leads_out_of_the_store(store) -> None:
    open_all(store)
    outside = store.parent / "outside"
    shutil.copytree(store / "cohorts/home/site", outside)
    for name in ("../../../outside", str(outside), "..", "row", "zarr.json"):
        edit(store, "cohorts/home/zarr.json", lambda a, n=name: a.update(categories={n: ["x"]}))
        assert any("stratum" in finding.problem for finding in verify(store).findings), name


@pytest.mark.parametrize("node", ["images", "cohorts", "features", "manifest"])
def test_nothing_is_read_or_written_through_a_linked_folder(store, small, node: str) -> None:
    outside = store.parent / "outside"
    (store / node).rename(outside)
    (outside / "mine.partial").write_text("keep")
    (store / node).symlink_to(outside, target_is_directory=True)
    before = {path: path.stat().st_mtime_ns for path in outside.rglob("*")}
    assert not verify(store).sound
    with pytest.raises(EmbedcacheError):
        small.build(store, codes=("1", "2"))
    assert {path: path.stat().st_mtime_ns for path in outside.rglob("*")} == before


def test_a_lock_that_is_a_link_is_not_written_through(store, small, tmp_path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep")
    locks = store.parent / "a.zarr.locks"
    for name in ("table.lock", "table.holder"):
        shutil.rmtree(locks, ignore_errors=True)
        locks.mkdir()
        (locks / name).symlink_to(victim)
        with pytest.raises(StoreAccessError, match="is a link"):
            create_or_open_for_writing(store)
        assert victim.read_text() == "keep"


@pytest.mark.parametrize("place", ["nodes", "moved", "removed"])
def test_a_journal_that_came_with_a_store_leads_nowhere(store, place: str) -> None:
    victim = store.parent / "victim"
    victim.write_text("keep")
    locks = store.parent / "a.zarr.locks"
    locks.mkdir(exist_ok=True)
    document = (store / "manifest/zarr.json").read_text()
    journal: dict[str, Any] = {"nodes": [], "moved": {}, "removed": [], "document": document}
    proof = dataclasses.asdict(proof_of(b"keep"))
    journal[place] = {"../victim": proof} if place == "moved" else ["../victim"]
    (locks / "incoming.json").write_text(json.dumps(journal))
    with (
        pytest.raises(DamagedStoreError, match="no object of a store"),
        IncomingFolder(store).opened(),
    ):
        pass
    assert victim.read_text() == "keep"


def test_a_lock_s_holder_that_is_nested_a_hundred_thousand_deep_is_nobody(store) -> None:
    locks = store.parent / "a.zarr.locks"
    locks.mkdir(exist_ok=True)
    (locks / "table.holder").write_text("[" * 100_000)
    create_or_open_for_writing(store)


def test_half_a_character_is_refused_however_it_is_written(store) -> None:
    open_all(store)
    for half in ("\\ud800", "\\uD800", "\\uDbFf"):
        edit(store, "cohorts/home/zarr.json", lambda a: a.update(citation="HALF"))
        file = store / "cohorts/home/zarr.json"
        file.write_text(file.read_text().replace("HALF", half))
        assert not verify(store).sound


def test_a_folder_that_looks_unfinished_is_a_sentence_and_no_crash(store) -> None:
    (store / "images/x.partial").mkdir()
    with pytest.raises(StoreAccessError):
        create_or_open_for_writing(store)


def test_a_file_that_cannot_be_printed_is_named_in_ascii(store) -> None:
    (store / "images/\x1b[31m").write_text("")
    (finding,) = verify(store).findings
    assert finding.node == r"images/\x1b[31m"


def test_a_terabyte_in_place_of_a_chunk_is_not_read(store) -> None:
    for key in ("images/digest/c/0/0", "images/stranger"):
        with (store / key).open("r+b" if (store / key).exists() else "wb") as file:
            file.truncate(10**12)  # sparse: it takes no room
    assert {finding.node for finding in verify(store).findings} >= {"images/digest/c/0/0"}
    with pytest.raises(DamagedStoreError):
        _ = open_store(store).images


def test_vectors_and_batches_too_large_are_refused_before_anything_is_allocated(
    store, small
) -> None:
    open_all(store)
    feature_id = small.contract().feature_id
    for change in ({"batch": MOST_BATCH + 1}, {"batch": 0}):
        edit(store, f"features/{feature_id}/zarr.json", lambda a, c=change: a.update(c))
        with pytest.raises(DamagedStoreError, match="no vector or batch"):
            open_store(store).feature_sets()
    assert MOST_DIM * 1024 * 4 <= 1 << 30


def test_free_text_is_no_stratum(small, tmp_path) -> None:
    long = np.array(["x" * (MOST_VALUE + 1)] * small.images)
    cohort = dataclasses.replace(small.cohort(), strata={"note": long})
    writer = create_or_open_for_writing(tmp_path / "a.zarr")
    small.add_images(writer)
    with pytest.raises(StratumValueTooLongError, match="leave free text out"):
        writer.put_cohort(cohort)


BOMB = """
import resource, sys
from pathlib import Path
from embedcache.errors import EmbedcacheError
from embedcache.store.reader import open_store
from embedcache.store.verify import verify
path = Path(sys.argv[1])
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
limit = used + (1 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    open_store(path).images
except EmbedcacheError:
    print(verify(path).sound)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells what is mapped")
@pytest.mark.parametrize("size", [MOST_DOCUMENT, MOST_DOCUMENT + 2, 1 << 33])
def test_a_document_of_brackets_stays_below_a_gigabyte(store, size: int) -> None:
    with (store / "images/zarr.json").open("wb") as file:
        pairs = min(size, MOST_DOCUMENT + 2) // 3 - 1
        file.write(b"[" + b"[]," * pairs + b"0]")
        file.truncate(size)
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(store)],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout.strip() == "False"
