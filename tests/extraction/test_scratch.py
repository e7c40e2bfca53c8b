"""Scratch files of worker processes: bounded together, shared by a command's passes, then gone."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embedcache.contract import Preprocessing
from embedcache.extraction import scratch as module
from embedcache.extraction.scratch import Scratch, drop_scratch, shared_scratch

SHAPE = Preprocessing(height=8, width=8, mean=(0.5,) * 3, std=(0.5,) * 3)
PLANES = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)


@pytest.fixture
def disk(monkeypatch) -> SimpleNamespace:
    """A disk of 1,000 free bytes, of which scratch may take a quarter."""
    made = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: made)
    monkeypatch.setattr(module, "_UNSEEN", 0)
    return made


def test_processes_on_one_disk_keep_a_quarter_of_it_together(tmp_path: Path, disk) -> None:
    with Scratch(tmp_path) as one, Scratch(tmp_path) as other:
        for row in range(9):
            for each in (one, other):
                before = each.take(row, [SHAPE])
                assert before is None
                each.keep(row, SHAPE, PLANES)
                disk.free -= 64 * (each.take(row, [SHAPE]) is not None)
        assert disk.free == 1000 - 3 * 64  # a fourth picture would be 256 bytes of 250
        assert not one.has_room
        assert not other.has_room
        assert np.array_equal(one.take(0, [SHAPE])[SHAPE], PLANES)


def test_a_disk_that_takes_no_more_ends_keeping_and_not_the_run(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with Scratch(tmp_path) as scratch:
        scratch._file = full.open("r+b", buffering=0)
        scratch.keep(0, SHAPE, PLANES)
        assert scratch.take(0, [SHAPE]) is None
        assert not scratch.has_room


def test_closed_scratch_has_nothing_and_keeps_nothing(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.keep(0, SHAPE, PLANES)
    scratch.close()
    scratch.keep(1, SHAPE, PLANES)
    assert [scratch.take(row, [SHAPE]) for row in (0, 1)] == [None, None]


def test_passes_of_one_command_share_a_scratch_until_it_is_dropped() -> None:
    first = shared_scratch("one")
    assert shared_scratch("one") is first
    assert shared_scratch("other") is not first
    drop_scratch("one")
    drop_scratch("other")
    drop_scratch("never opened")
    assert not first.has_room
    assert shared_scratch("one") is not first
    drop_scratch("one")


def test_scratch_of_a_command_that_was_killed_is_closed_when_another_comes(monkeypatch) -> None:
    forsaken = shared_scratch("killed")
    monkeypatch.setattr(module, "_FORSAKEN", -1.0)
    shared_scratch("another")
    assert not forsaken.has_room
    drop_scratch("another")
