"""Encoders that differ in pooling run one network, once, and give what each gives alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from embedcache.contract import Contract, Preprocessing
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.together import trunk
from embedcache.extraction.extract import extract
from embedcache.store.reader import open_store
from embedcache.testing.paced_run import speckles

if TYPE_CHECKING:
    from torch import Tensor, nn

SHAPE = Preprocessing(height=8, width=8, mean=(0.5,) * 3, std=(0.5,) * 3)
BUILT: list[str] = []
FORWARDS: list[int] = []


def build(state: dict[str, Tensor]) -> nn.Module:
    """A convolution that counts its calls."""
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 5, 3)

        def forward(self, picture: Tensor) -> Tensor:
            FORWARDS.append(len(picture))
            return self.layer(picture)

    BUILT.append("network")
    network = Network()
    network.layer.load_state_dict(state)
    return network


def pooling_by(reduce: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], nn.Module]:
    from torch import nn

    class Pool(nn.Module):
        def forward(self, maps: Tensor) -> Tensor:
            return reduce(maps)

    return lambda _: Pool()


def untrained(seed: int) -> dict[str, Tensor]:
    import torch

    draw = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn((5, 3, 3, 3), generator=draw),
        "bias": torch.randn(5, generator=draw),
    }


REDUCE = {"mean": lambda maps: maps.mean((2, 3)), "most": lambda maps: maps.amax((2, 3))}


def full_batches() -> list[int]:
    """Forward passes of a batch; others try a network out on a picture."""
    return [pictures for pictures in FORWARDS if pictures > 1]


def encoder(pooling: str, seed: int = 0) -> ResolvedEncoder:
    spec = EncoderSpec(
        name="tiny",
        dim=5,
        architecture="test:tiny",
        preprocessing=SHAPE,
        pooling=pooling,
        build=build,
        pool=pooling_by(REDUCE[pooling]),
        untrained=untrained,
    )
    contract = Contract(
        architecture="test:tiny",
        code="1",
        weights=f"random:{seed}",
        preprocessing=SHAPE,
        pooling=pooling,
        dim=5,
    )
    return ResolvedEncoder(
        name=f"tiny@{pooling}", contract=contract, spec=spec, file=None, licence="", citation=""
    )


@pytest.fixture(autouse=True)
def _counters() -> None:
    BUILT.clear()
    FORWARDS.clear()


def test_variants_of_one_network_build_it_once_and_run_it_once_a_batch(tmp_path) -> None:
    both = [encoder("mean"), encoder("most")]
    extract(tmp_path / "both.zarr", [speckles(20)], both, device="cpu", batch=8)
    assert BUILT == ["network"]
    assert full_batches() == [8, 8, 8]
    for one in both:
        path = tmp_path / f"{one.contract.pooling}.zarr"
        extract(path, [speckles(20)], [one], device="cpu", batch=8)
        feature = one.contract.feature_id
        assert open_store(path).content_digest(feature) == open_store(
            tmp_path / "both.zarr"
        ).content_digest(feature)


def test_a_variant_asked_for_later_has_a_forward_pass_of_its_own(tmp_path) -> None:
    extract(tmp_path / "s.zarr", [speckles(20)], [encoder("mean")], device="cpu", batch=8)
    both = [encoder("mean"), encoder("most")]
    extract(tmp_path / "s.zarr", [speckles(28)], both, device="cpu", batch=8)
    # Rows 0 to 19 lack `most` alone: another set of rows is another lane.
    assert len(full_batches()) == 3 + 2 + 4
    store = open_store(tmp_path / "s.zarr")
    assert {found.done for found in store.feature_sets()} == {28}


def test_other_weights_precision_or_preprocessing_are_another_network() -> None:
    one = encoder("mean")
    assert trunk(one) == trunk(encoder("most"))
    assert trunk(one) != trunk(encoder("mean", seed=1))
    half = dataclasses.replace(one, contract=dataclasses.replace(one.contract, precision="bf16"))
    assert trunk(one) != trunk(half)
    alone = dataclasses.replace(one, spec=dataclasses.replace(one.spec, pool=None))
    assert trunk(one) != trunk(alone)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its compiler uses its own past
def test_a_compiled_network_says_its_cost_stays_within_tolerance_and_is_recorded(tmp_path) -> None:
    notes: list[str] = []

    class Listening:
        def stage(self, name, total, unit):
            from embedcache.progress import Silent

            return Silent().stage(name, total, unit)

        def note(self, line: str) -> None:
            notes.append(line)

    one = encoder("mean")
    arguments = {"device": "cpu", "batch": 8}
    extract(tmp_path / "a.zarr", [speckles(20)], [one], **arguments)
    extract(
        tmp_path / "b.zarr", [speckles(20)], [one], compiled=True, progress=Listening(), **arguments
    )
    assert "compiled in" in notes[-1]
    plain, compiled = open_store(tmp_path / "a.zarr"), open_store(tmp_path / "b.zarr")
    feature = one.contract.feature_id
    assert np.allclose(plain.to_numpy(feature), compiled.to_numpy(feature), rtol=1e-4)
    assert [run.compiled for run in compiled.feature_sets()[0].runs] == [True]
    assert [run.compiled for run in plain.feature_sets()[0].runs] == [False]
