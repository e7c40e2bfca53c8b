"""A store in a folder, as a place that objects are fetched from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from embedcache.durable import PARTIAL
from embedcache.errors import ObjectTooLargeError, StoreAccessError
from embedcache.store.objects import files_below, object_size, reason_of


class Folder:
    """The files of a store; a `Transport`."""

    def __init__(self, path: Path) -> None:
        """See the class."""
        self.path = path.absolute()  # a worker may stand in another folder

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    def get(self, key: str, most: int) -> bytes | None:
        """A file; see `Transport`."""
        size = object_size(self.path, key)
        if size is None:
            return None
        if size > most:
            raise ObjectTooLargeError(self.name, key, size, most)
        try:
            return (self.path / key).read_bytes()
        except OSError as error:
            raise StoreAccessError("read", key, reason_of(error)) from error

    def keys(self) -> Iterable[str] | None:
        """Keys of all files but those that somebody is writing."""
        return tuple(key for key in files_below(self.path) if not key.endswith(PARTIAL))
