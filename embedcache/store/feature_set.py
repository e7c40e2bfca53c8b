"""One encoder's features in a store: what they are, and the runs that made them."""

from __future__ import annotations

from dataclasses import dataclass

from embedcache.contract import Contract
from embedcache.provenance import Provenance


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One extraction into a feature set.

    Attributes:
        id: random, 16 hex digits.
        provenance: where and when.
        rate: images a second; None: the run was killed before it could say.
        failed: reason -> rows of the image table that it could not encode.
    """

    id: str
    provenance: Provenance
    rate: float | None
    failed: dict[str, tuple[int, ...]]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSet:
    """What a store says of one encoder's features.

    Attributes:
        id: feature id, from the contract.
        name: the encoder's reference without weights.
        contract: what decides the numbers.
        licence: of the weights.
        citation: of the encoder.
        batch: images a batch in the first run; later runs keep it, for the same bits.
        fingerprint: self-check of the encoder in the first run, or None.
        rows: rows that the arrays span; images added later are not among them yet.
        done: rows whose vector is there.
        runs: in order of time.
    """

    id: str
    name: str
    contract: Contract
    licence: str
    citation: str
    batch: int
    fingerprint: str | None
    rows: int
    done: int
    runs: tuple[Run, ...]
