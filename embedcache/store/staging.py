"""A store that is built from others appears whole, or not at all.

It is written beside the locks of the store that it will be, through the same writer as any other,
and renamed into place when it is sealed. What a killed build left, the next one clears.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedcache.durable import sync_folder
from embedcache.errors import FileInTheWayError, StoreAccessError
from embedcache.store.locks import hold, lock_folder
from embedcache.store.objects import reason_of
from embedcache.store.writer import StoreWriter, create_or_open_for_writing

#: Where a store is built, in the folder of its locks; not `*.partial`, which other writers clear.
_STAGE = "making.zarr"


@contextmanager
def new_store(path: Path) -> Iterator[StoreWriter]:
    """Give a writer of an empty store that lies at `path` once the context ends without an error.

    Raises:
        FileInTheWayError: if something is there already.
        StoreBusyError: if another process builds a store there.
        StoreAccessError: if the system refuses.
    """
    path = path.resolve()  # its locks lie beside the store itself, not beside a link to it
    _refuse_taken(path)
    with hold(path, "making", path.name, 0):
        stage = lock_folder(path) / _STAGE
        _clear(stage)
        try:
            writer = create_or_open_for_writing(stage)
            yield writer
            writer.seal()
            _refuse_taken(path)
            _move(stage, path)
        finally:
            _clear(stage)


def _refuse_taken(path: Path) -> None:
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise FileInTheWayError("the feature store", path)


def _move(stage: Path, path: Path) -> None:
    try:
        if path.is_dir():
            path.rmdir()  # empty; not every system renames over a folder
        stage.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreAccessError("create", path.name, reason_of(error)) from error


def _clear(stage: Path) -> None:
    try:
        for folder in (stage, lock_folder(stage)):
            if folder.is_dir():
                shutil.rmtree(folder)
    except OSError as error:
        raise StoreAccessError("delete", "what was begun", reason_of(error)) from error
