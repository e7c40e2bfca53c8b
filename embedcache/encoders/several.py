"""All encoders that a command was asked for, resolved before any work."""

from __future__ import annotations

from collections.abc import Sequence

from embedcache.encoders.paper import NOTE, expand_paper, names_paper
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.errors import ManyWeightsMissingError, WeightsMissingError
from embedcache.progress import Progress


def resolve_all(
    encoders: Sequence[ResolvedEncoder | str], progress: Progress
) -> list[ResolvedEncoder]:
    """Resolve encoders and say what they have to say; one feature asked for twice comes once.

    `@paper` in a reference stands for seven.

    Raises:
        ManyWeightsMissingError: if several have no weights here, so that they are named at once.
        BadInputError: as `resolve`.
    """
    if names_paper(encoder for encoder in encoders if isinstance(encoder, str)):
        progress.note(NOTE)
    found: list[ResolvedEncoder] = []
    missing: list[WeightsMissingError] = []
    for one in encoders:
        for name in expand_paper([one]) if isinstance(one, str) else [one]:
            try:
                found.append(resolve(name) if isinstance(name, str) else name)
            except WeightsMissingError as error:
                missing.append(error)
    if missing:
        names = tuple(dict.fromkeys(error.encoder for error in missing))
        raise missing[0] if len(names) == 1 else ManyWeightsMissingError(names)
    distinct = list({encoder.contract.feature_id: encoder for encoder in found}.values())
    for encoder in distinct:
        for note in encoder.notes:
            progress.note(f"{encoder.name}: {note}")
    return distinct
