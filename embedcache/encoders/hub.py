"""Weights on the Hugging Face hub, by its own client: its cache, its token, its offline mode."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from embedcache.encoders.weights import HubFile, how_to_fetch
from embedcache.errors import WeightsMissingError

_SHA256 = re.compile(r"[0-9a-f]{64}")


def ask_hub(encoder: str, source: HubFile) -> tuple[int | None, str | None]:
    """Size and sha256 of the file as the hub states them, each None where it does not.

    Raises:
        WeightsMissingError: if the hub refuses, or cannot be reached.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import RemoteEntryNotFoundError

    with _refusals(encoder, source):
        for name in source.names:
            url = hf_hub_url(source.repository, name, revision=source.revision)
            # The next name is tried where the hub says that it has no such file.
            with suppress(RemoteEntryNotFoundError):
                told = get_hf_file_metadata(url)
                # The hub's tag of a large file is its sha256, and of a small one git's own hash.
                tagged = _SHA256.fullmatch(told.etag or "")
                return told.size, tagged and told.etag
    raise _missing(encoder, source, "none of its files is there")


def fetch_from_hub(encoder: str, source: HubFile, advance: Callable[[int], None]) -> Path:
    """Download a file into the hub's cache.

    Args:
        encoder: what it is for, in errors.
        source: what is fetched.
        advance: told of bytes as they come.

    Raises:
        WeightsMissingError: if the hub refuses, or cannot be reached.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import RemoteEntryNotFoundError

    bar = _forwarding(advance)
    with _refusals(encoder, source):
        for name in source.names:
            with suppress(RemoteEntryNotFoundError):
                found = hf_hub_download(
                    source.repository, name, revision=source.revision, tqdm_class=bar
                )
                return Path(found)
    raise _missing(encoder, source, "none of its files is there")


@contextmanager
def _refusals(encoder: str, source: HubFile) -> Iterator[None]:
    """Say what the hub's client says in one sentence."""
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    consent = f"its owners ask for your consent at huggingface.co/{source.repository}"
    try:
        yield
    except GatedRepoError as error:  # a RepositoryNotFoundError by descent, so it comes first
        reason = f"{consent} (then: hf auth login)"
        raise _missing(encoder, source, reason) from error
    except RepositoryNotFoundError as error:
        reason = "the hub has no such model, or hides it from you"
        raise _missing(encoder, source, reason) from error
    except OfflineModeIsEnabled as error:
        raise _unreachable(encoder, source, "HF_HUB_OFFLINE is set") from error
    except LocalEntryNotFoundError as error:
        why = "HF_HUB_OFFLINE is set" if HF_HUB_OFFLINE else "no connection"
        raise _unreachable(encoder, source, why) from error
    except HfHubHTTPError as error:
        reason = f"the hub answers {error.response.status_code}"
        raise _missing(encoder, source, reason) from error
    # What it descends from: the base of all errors of whichever HTTP client the hub's works with.
    except HfHubHTTPError.__bases__ as error:  # type: ignore[misc]  # classes of exceptions, all of them
        raise _unreachable(encoder, source, type(error).__name__) from error


def _unreachable(encoder: str, source: HubFile, why: str) -> WeightsMissingError:
    reason = f"the hub cannot be reached ({why}), and its cache here does not hold it"
    hint = "unset it" if "OFFLINE" in why else "check the network and HTTPS_PROXY"
    mend = f"{hint}, or {source.mend}" if source.mend else None
    return _missing(
        encoder, source, reason, mend or f"{hint}, then {how_to_fetch(encoder, source)}"
    )


def _missing(
    encoder: str, source: HubFile, reason: str, mend: str | None = None
) -> WeightsMissingError:
    where = f"{source.repository} on the Hugging Face hub: {reason}"
    return WeightsMissingError(encoder, where, mend or source.mend or how_to_fetch(encoder, source))


def _forwarding(advance: Callable[[int], None]) -> type[Any]:
    """A bar for the hub's client that draws nothing and passes on what it is told."""
    from tqdm.auto import tqdm

    class Forwarding(tqdm):  # type: ignore[misc]  # tqdm ships no types
        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            advance(int(n or 0))

    return Forwarding
