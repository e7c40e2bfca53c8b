"""Prove a whole store from its manifest, without images or models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        node: the node of the store.
        problem: what is wrong with it, in a phrase.
        rows: first and last row that it concerns; None: not a matter of rows.
    """

    node: str
    problem: str
    rows: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What `verify` found.

    Attributes:
        findings: everything wrong; empty for a sound store.
        unsealed: nodes that a writer left, or still has, open.
        content: content digest by feature id, of the sets that are sound.
        objects: files read.
        size: their bytes.
    """

    findings: tuple[Finding, ...]
    unsealed: tuple[str, ...]
    content: dict[str, str]
    objects: int
    size: int

    @property
    def sound(self) -> bool:
        """Nothing is wrong, and the manifest covers everything."""
        return not self.findings and not self.unsealed


def verify(path: Path) -> Verification:
    """Read every object of a store and compare it with the manifest and with its neighbours.

    Raises:
        PathMissingError, NotAStoreError, NewerFormatError: as `open_store`.
    """
    raise NotImplementedError
