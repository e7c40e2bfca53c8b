"""Look at cohorts before anything is computed: counts, and what would make results wrong."""

from __future__ import annotations

from collections.abc import Sequence

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.inspection import Inspection
from embedcache.progress import Progress


def inspect(cohorts: Sequence[Cohort], progress: Progress | None = None) -> Inspection:
    """Read every image once and compare all with all.

    Args:
        cohorts: looked at one by one and against each other; their names differ.
        progress: who watches.

    Raises:
        CohortNameTakenError: if two cohorts have one name.
    """
    raise NotImplementedError
