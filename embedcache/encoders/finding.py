"""Where on this machine an encoder's weights lie: the weights folder first, then its sources."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache.encoders.weights import WeightSource
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
