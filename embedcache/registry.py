"""Named parts (readers, encoders, estimators, metrics) by entry point, loaded when used.

Ours enter the same way as a third party's: one file and one entry point. Two parts of one name
are an error, never a silent choice.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from embedcache.errors import NameTakenError, UnknownNameError


@cache
def _entries(kind: str) -> dict[str, tuple[EntryPoint, ...]]:
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for entry in entry_points(group=f"embedcache.{kind}"):
        same = found.get(entry.name, ())
        # One package seen twice on the path (an editable install and a wheel) is one part.
        if all(entry.value != other.value for other in same):
            found[entry.name] = (*same, entry)
    return found


def names(kind: str) -> tuple[str, ...]:
    """Names of all parts of a kind (`cohorts`, `encoders`, `estimators`, `metrics`), sorted."""
    return tuple(sorted(_entries(kind)))


def offered_by(kind: str, name: str) -> tuple[str, str] | None:
    """Distribution and version that offer a part; None where no single one does."""
    entries = _entries(kind).get(name, ())
    if len(entries) != 1 or entries[0].dist is None:
        return None
    return entries[0].dist.name, entries[0].dist.version


def module_of(kind: str, name: str) -> str:
    """Name of the module that defines a part; see `load` for errors."""
    load(kind, name)
    return _entries(kind)[name][0].module


def load(kind: str, name: str) -> Any:
    """Import and return one part.

    Raises:
        UnknownNameError: if no installed package offers it.
        NameTakenError: if two do.
    """
    entries = _entries(kind).get(name, ())
    singular = kind.removesuffix("s")
    if not entries:
        raise UnknownNameError(singular, name, names(kind))
    if len(entries) > 1:
        raise NameTakenError(singular, name, tuple(entry.value for entry in entries))
    return entries[0].load()
