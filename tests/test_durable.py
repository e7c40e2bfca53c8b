"""A file is whole or as it was."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest

from embedcache.durable import clear_partial, refusal, write_file


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file.json"
    write_file(file, b"one")
    write_file(file, b"two")
    assert file.read_bytes() == b"two"
    assert list(file.parent.iterdir()) == [file]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file.json"
    write_file(file, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_what_a_killed_writer_left_is_cleared_and_counted(tmp_path: Path) -> None:
    write_file(tmp_path / "node" / "kept", b"kept")
    (tmp_path / "node" / "kept.12ab34cd.partial").write_bytes(b"half")
    assert clear_partial(tmp_path) == 1
    assert [path.name for path in (tmp_path / "node").iterdir()] == ["kept"]


def test_where_there_is_no_lock_only_old_partial_files_are_cleared(tmp_path: Path) -> None:
    for name, age in (("old", 7200), ("young", 0)):
        partial = tmp_path / f"{name}.12ab34cd.partial"
        partial.write_bytes(b"half")
        os.utime(partial, (partial.stat().st_atime, partial.stat().st_mtime - age))
    assert clear_partial(tmp_path, idle=3600) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["young.12ab34cd.partial"]


@pytest.mark.parametrize(
    ("number", "mend"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EROFS, "choose a place that can be written"),
        (errno.EACCES, "ask whoever owns it"),
    ],
)
def test_what_the_system_refuses_is_a_sentence_with_its_mend(number: int, mend: str) -> None:
    refused = refusal(OSError(number, os.strerror(number), "/disk/file"))
    assert refused is not None
    assert str(refused).startswith("/disk/file cannot be used (")
    assert mend in str(refused)
    assert refused.exit_code == 1


def test_of_a_copy_the_target_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        shutil.copyfile(tmp_path / "a", tmp_path / "folder")
    told = refusal(caught.value)
    assert told is not None
    assert str(tmp_path / "folder") in str(told)
    both = OSError(errno.ENOSPC, "full", str(tmp_path / "a"), None, str(tmp_path / "b"))
    assert str(refusal(both)).startswith(f"{tmp_path / 'b'} cannot")


def test_what_is_no_refusal_of_a_place_stays_what_it_is() -> None:
    assert refusal(ConnectionRefusedError(errno.ECONNREFUSED, "refused")) is None
    assert refusal(OSError("of some library")) is None
