"""Damage to a store, drawn at random: a flipped bit, a lost or cut file, two chunks swapped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

KINDS = ("flip", "delete", "truncate", "swap")


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """What was done to a store, and what undoes it.

    Attributes:
        kind: one of `KINDS`.
        before: what the files held, by key.
    """

    kind: str
    before: dict[str, bytes]

    @property
    def keys(self) -> tuple[str, ...]:
        """The files that were hurt."""
        return tuple(self.before)

    def undo(self, store: Path) -> None:
        """Put back what was there."""
        for key, data in self.before.items():
            (store / key).write_bytes(data)


def damage(store: Path, draw: np.random.Generator) -> Damage:
    """Hurt one file of a store, or swap two chunks of equal length and other content."""
    files = {p.relative_to(store).as_posix(): p for p in store.rglob("*") if p.is_file()}
    keys = sorted(files)
    kind = str(draw.choice(KINDS))
    key = str(draw.choice(keys))
    if kind == "swap":
        pairs = _swappable({name: files[name].read_bytes() for name in keys if "/c/" in name})
        one, other = pairs[int(draw.integers(len(pairs)))]
        before = {name: files[name].read_bytes() for name in (one, other)}
        files[one].write_bytes(before[other])
        files[other].write_bytes(before[one])
        return Damage(kind=kind, before=before)
    whole = files[key].read_bytes()
    place = int(draw.integers(len(whole)))
    if kind == "flip":
        bit = np.uint8(1 << int(draw.integers(8)))
        files[key].write_bytes(whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :])
    elif kind == "truncate":
        files[key].write_bytes(whole[:place])
    else:
        files[key].unlink()
    return Damage(kind=kind, before={key: whole})


def _swappable(chunk: dict[str, bytes]) -> list[tuple[str, str]]:
    keys = list(chunk)
    return [
        (one, other)
        for index, one in enumerate(keys)
        for other in keys[index + 1 :]
        if len(chunk[one]) == len(chunk[other]) and chunk[one] != chunk[other]
    ]
