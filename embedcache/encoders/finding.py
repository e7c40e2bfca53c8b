"""Where an encoder's weights lie on this machine: the weights folder first, then its sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache.encoders.hub import fetch_from_hub
from embedcache.encoders.reference import OPEN_CLIP, TIMM, EncoderRef
from embedcache.encoders.weights import DriveFile, HttpsFile, HubFile, WeightSource
from embedcache.encoders.weights_lock import pinned_file
from embedcache.errors import WeightsMissingError


def find_weights(encoder: str, sources: Sequence[WeightSource]) -> tuple[Path, WeightSource | None]:
    """The weight file, and the source that led to it; None: `weights.lock` names it.

    Raises:
        WeightsMissingError: if it is not here; says what the first source says.
    """
    pinned = pinned_file(encoder)
    return (pinned, None) if pinned is not None else find_at(encoder, sources)


def find_at(encoder: str, sources: Sequence[WeightSource]) -> tuple[Path, WeightSource]:
    """As `find_weights`, at the sources alone: what a user named is not what the lock names."""
    refusals = []
    for source in sources:
        try:
            return source.find(encoder), source
        except WeightsMissingError as refusal:
            refusals.append(refusal)
    if refusals:
        raise refusals[0]
    mend = f"give a file ({encoder}=PATH) or ask for untrained weights ({encoder}=random)"
    raise WeightsMissingError(encoder, "nobody publishes any where we can fetch them", mend)


def find_or_fetch(ref: EncoderRef, sources: Sequence[WeightSource]) -> tuple[Path, str | None]:
    """The weight file, and the sha256 that its publisher states, if any.

    What a library defines is fetched as that library does; for a named encoder somebody has to
    accept its licence first, which is `encoders fetch`.

    Raises:
        WeightsMissingError: if it cannot be had.
    """
    find = find_weights if ref.weights is None else find_at
    try:
        file, source = find(ref.name, sources)
    except WeightsMissingError:
        hub = [source for source in sources if isinstance(source, HubFile)]
        if not hub or not ref.name.startswith((TIMM, OPEN_CLIP)):
            raise
        return fetch_from_hub(ref.name, hub[0], advance=lambda _: None), hub[0].sha256
    return file, source.sha256 if isinstance(source, HubFile | HttpsFile | DriveFile) else None
