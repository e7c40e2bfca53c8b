"""A CUDA device gives what the processor gives, whatever is copied beside what it computes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from embedcache.contract import TOLERANCE
from embedcache.encoders.resolve import load_encoder
from embedcache.extraction.extract import extract
from embedcache.extraction.recheck import recompute
from embedcache.store.reader import open_store
from embedcache.testing.paced_run import KEY, speckles

pytestmark = pytest.mark.gpu

ENCODERS = ("efficientnet-lite0", "timm:vit_small_patch16_224=random", "resnet50=random")


@pytest.fixture(autouse=True)
def _cuda(monkeypatch) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch finds no CUDA device here")
    monkeypatch.setenv("EMBEDCACHE_KEY", KEY)


def content(store: Path) -> dict[str, str]:
    opened = open_store(store)
    return {one.id: opened.content_digest(one.id) for one in opened.feature_sets()}


@pytest.mark.parametrize("reference", ENCODERS)
def test_full_precision_agrees_with_the_processor(reference: str) -> None:
    from embedcache.encoders.selfcheck import pattern

    here, there = load_encoder(reference, "cpu"), load_encoder(reference, "cuda")
    pixels = np.repeat(here.prepare(pattern())[np.newaxis], 4, axis=0)
    processor, device = here.encode(pixels), there.encode(pixels)
    apart = np.linalg.norm(device - processor, axis=1) / np.linalg.norm(processor, axis=1)
    assert apart.max() <= TOLERANCE["fp32"]


def test_pinned_copies_on_two_streams_give_each_row_its_own_vector(tmp_path: Path) -> None:
    cohort, store = speckles(600), tmp_path / "s.zarr"
    extract(store, [cohort], list(ENCODERS), device="cuda", batch=16)
    # One batch after the other, each waited for.
    for found in recompute(
        open_store(store), [cohort], list(ENCODERS), rows=600, seed=0, device="cuda"
    ):
        assert found.beyond == ()
        assert found.largest <= 1e-6
    extract(tmp_path / "again.zarr", [cohort], list(ENCODERS), device="cuda", batch=16)
    assert content(tmp_path / "again.zarr") == content(store)


def test_a_process_for_every_gpu_gives_the_bits_of_one(tmp_path: Path) -> None:
    for device in ("cuda", "cuda:all"):
        store = tmp_path / device.replace(":", "-")
        extract(store, [speckles(600)], [ENCODERS[1]], device=device, batch=16)
    assert content(tmp_path / "cuda-all") == content(tmp_path / "cuda")


@pytest.fixture
def _little_memory() -> Iterator[None]:
    """Room for the weights of a small network, and not for 512 pictures in it."""
    import torch

    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(600e6 / total)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.mark.usefixtures("_little_memory")
def test_out_of_memory_halves_the_batch_names_the_rows_and_loses_none(tmp_path: Path) -> None:
    cohort, store = speckles(512), tmp_path / "s.zarr"
    done = extract(store, [cohort], [ENCODERS[1]], device="cuda", batch=512)
    assert done.encoders[0].encoded == 512
    opened = open_store(store)
    (one,) = opened.feature_sets()
    (run,) = one.runs
    assert run.halved is not None
    assert sorted(row for rows in run.halved.values() for row in rows) == list(range(512))
    (found,) = recompute(opened, [cohort], [ENCODERS[1]], rows=32, seed=0, device="cpu")
    assert found.beyond == ()
