"""Encoders that differ in their pooling alone share one network: built once, run once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from embedcache.contract import Contract
from embedcache.encoders.network import NetworkEncoder, seeded
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.spec import Encoder, EncoderSpec


def trunk(encoder: ResolvedEncoder) -> tuple[Callable[..., Any], Contract]:
    """What decides the output of an encoder's network before pooling; equal ones share it."""
    make = encoder.spec.build if isinstance(encoder.spec, EncoderSpec) else encoder.spec.compute
    pooling = encoder.contract.pooling
    shared = isinstance(encoder.spec, EncoderSpec) and encoder.spec.pool is not None
    # Without a pool the network itself pools, and is another one for another pooling.
    return make, replace(encoder.contract, pooling="" if shared else pooling, dim=0)


def build_together(encoders: Sequence[ResolvedEncoder], device: str) -> list[Encoder]:
    """Build encoders of one `trunk` around one network; see `ResolvedEncoder.build`."""
    first = encoders[0].build(device)
    return [first, *(_beside(first, one) for one in encoders[1:])]


def _beside(first: Encoder, other: ResolvedEncoder) -> Encoder:
    assert isinstance(first, NetworkEncoder), "what has no network shares none"
    assert isinstance(other.spec, EncoderSpec)
    assert other.spec.pool is not None, "see `trunk`"
    state = other.state()
    with seeded(0):
        pool = other.spec.pool(state)
    return NetworkEncoder(
        first.module,
        pool,
        name=other.name,
        contract=other.contract,
        licence=other.licence,
        citation=other.citation,
        device=first.device,
    )
