"""A cohort as it is written on the command line: `[NAME=]KIND:PLACE` or `[NAME=]FILE.toml`."""

from __future__ import annotations

from embedcache.cohorts.cohort import Cohort


def read_cohort(reference: str) -> Cohort:
    """Read the cohort that a reference names.

    Raises:
        ReferenceSyntaxError: if it is no reference.
        UnknownNameError: if there is no such kind.
        BadInputError: whatever else the reader finds wrong.
    """
    raise NotImplementedError
