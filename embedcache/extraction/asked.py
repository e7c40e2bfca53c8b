"""What a run was asked for, read in full before any work: the last typo costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_cohort
from embedcache.encoders.paper import NOTE, expand_paper, names_paper
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.errors import CohortTwiceError
from embedcache.progress import Progress


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a run works; see `extract`."""

    device: str
    batch: int
    workers: int


def resolve_all(
    encoders: Sequence[ResolvedEncoder | str], progress: Progress
) -> list[ResolvedEncoder]:
    """Resolve encoders and say what they have to say; one feature asked for twice comes once.

    `@paper` in a reference stands for seven.
    """
    if names_paper(encoder for encoder in encoders if isinstance(encoder, str)):
        progress.note(NOTE)
    found = [
        one
        for encoder in encoders
        for one in (_resolved(encoder) if isinstance(encoder, str) else (encoder,))
    ]
    distinct = list({encoder.contract.feature_id: encoder for encoder in found}.values())
    for encoder in distinct:
        for note in encoder.notes:
            progress.note(f"{encoder.name}: {note}")
    return distinct


def _resolved(reference: str) -> tuple[ResolvedEncoder, ...]:
    return tuple(resolve(name) for name in expand_paper([reference]))


def read_all(cohorts: Sequence[Cohort | str]) -> list[Cohort]:
    """Read cohorts.

    Raises:
        CohortTwiceError: if two have one name.
        BadInputError: whatever else their readers find wrong.
    """
    read = [read_cohort(cohort) if isinstance(cohort, str) else cohort for cohort in cohorts]
    names = [cohort.name for cohort in read]
    for name in names:
        if names.count(name) > 1:
            raise CohortTwiceError(name)
    return read
