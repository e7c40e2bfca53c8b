"""From a reference to an encoder, in two steps: what it is (cheap, fails on a typo), then itself.

A command resolves all its encoders first, so that the last one's typo costs no work, and builds
each when its turn comes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from embedcache.contract import Contract
from embedcache.encoders.spec import ArithmeticSpec, Encoder, EncoderSpec


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedEncoder:
    """An encoder that is known in full and not yet built; it crosses process pools.

    Attributes:
        name: the reference without weights: `efficientnet-lite0`, `usfm@cls`.
        contract: all that decides its numbers.
        spec: what it is made from.
        file: its weight file; None for random weights and for none.
        licence: SPDX name or the licence's own name; empty if not known.
        citation: how to cite it; empty if not known.
        notes: sentences that whoever uses it should see.
    """

    name: str
    contract: Contract
    spec: EncoderSpec | ArithmeticSpec
    file: Path | None
    licence: str
    citation: str
    notes: tuple[str, ...]

    def build(self, device: str = "cpu") -> Encoder:
        """Read the weights and put the network on a device (`cpu`, `cuda:0`, `mps`).

        Raises:
            WeightsUnreadableError: if the file holds no weights.
            WeightsMismatchError: if they are another network's.
            WeightsChangedError: if the file is not the one that was resolved.
        """
        raise NotImplementedError


def resolve(reference: str) -> ResolvedEncoder:
    """Find all that a reference means: its contract, its weight file, its licence.

    Named encoders need no torch for it; `timm:` and `open-clip:` do, and may download weights.

    Raises:
        ReferenceSyntaxError: if it is no reference.
        UnknownNameError: if there is no such encoder or architecture.
        VariantUnknownError: if the encoder has no such variant.
        WeightsMissingError: if its weights are not to be had.
        WeightsUnwantedError: if it cannot take the weights named.
        PathMissingError: if the weight file named does not exist.
        PreprocessingUnknownError: if a library's preprocessing cannot be expressed.
    """
    raise NotImplementedError


def contract_of(reference: str) -> Contract:
    """The contract of a reference; see `resolve`."""
    return resolve(reference).contract


def load_encoder(reference: str, device: str = "cpu") -> Encoder:
    """Resolve and build in one step; see `resolve` and `ResolvedEncoder.build`."""
    return resolve(reference).build(device)
