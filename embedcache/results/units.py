"""Names of units: one file, named by the sha256 of all that decides its content."""

from __future__ import annotations

from embedcache.schema import sha256_json


def unit_name(decides: object) -> str:
    """Name a unit, 64 hex digits; the same inputs give the same name on every machine.

    Args:
        decides: dataclasses, dicts, tuples, text, numbers: everything that a changed value of
            would change the unit's content (hashes stand for arrays).

    Raises:
        ValueError: if it holds a float that JSON lacks.
    """
    return sha256_json(decides)
