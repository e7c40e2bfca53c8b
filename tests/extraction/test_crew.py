"""Who encodes, and how often they die, never shows in the vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache.encoders.device import pick_devices
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.errors import (
    DeviceMissingError,
    FingerprintDiffersError,
    SchedulerError,
    WorkerDiedError,
)
from embedcache.extraction import station
from embedcache.extraction.crew import DaskCrew
from embedcache.extraction.dispatch import spans_of
from embedcache.extraction.extract import extract
from embedcache.extraction.pictures import Wanted
from embedcache.extraction.orders import Assignment, Basket, Orders, Span
from embedcache.extraction.stream import Lane, Track
from embedcache.provenance import Fingerprint
from embedcache.store.reader import open_store
from embedcache.testing.paced_run import KEY, Speckle, speckles
from embedcache.testing.stand_ins import paced

TINY = "timm:test_vit=random"


@pytest.fixture(autouse=True)
def _key(monkeypatch) -> None:
    monkeypatch.setenv("EMBEDCACHE_KEY", KEY)


def mortal(folder: Path, deaths: int) -> ResolvedEncoder:
    """A stand-in that ends its process in the middle of a batch, so often in all."""
    whole = paced(0)
    compute = whole.spec.compute

    def fatal(batch: np.ndarray) -> np.ndarray:
        # By value to the workers, which cannot import this file.
        import os

        for number in range(deaths):
            try:
                os.close(os.open(folder / str(number), os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            os._exit(137)
        return compute(batch)

    folder.mkdir()
    return dataclasses.replace(whole, spec=dataclasses.replace(whole.spec, compute=fatal))


def digests(store: Path) -> dict[str, str]:
    opened = open_store(store)
    return {one.id: opened.content_digest(one.id) for one in opened.feature_sets()}


def alone(store: Path, encoders: list[ResolvedEncoder | str]) -> dict[str, str]:
    extract(store, [speckles(100)], encoders, device="cpu", batch=16)
    return digests(store)


def test_a_process_a_device_gives_the_bits_of_one_process(tmp_path: Path) -> None:
    encoders = [paced(0), TINY]
    done = extract(
        tmp_path / "s.zarr", [speckles(100)], encoders, device="cpu,cpu", batch=16, workers=1
    )
    assert digests(tmp_path / "s.zarr") == alone(tmp_path / "alone.zarr", encoders)
    (one,) = done.passes
    assert one.throughput.images == 100
    assert one.throughput.bare > 0


def test_a_process_that_dies_leaves_its_work_to_the_other(tmp_path: Path) -> None:
    dying = mortal(tmp_path / "deaths", 1)
    done = extract(tmp_path / "s.zarr", [speckles(100)], [dying], device="cpu,cpu", batch=16)
    assert done.encoders[0].encoded == 100
    assert digests(tmp_path / "s.zarr") == alone(tmp_path / "alone.zarr", [paced(0)])


def test_a_run_whose_processes_all_die_says_so_and_a_rerun_goes_on(tmp_path: Path) -> None:
    dying = mortal(tmp_path / "deaths", 99)
    with pytest.raises(WorkerDiedError):
        extract(tmp_path / "s.zarr", [speckles(100)], [dying], device="cpu,cpu", batch=16)
    extract(tmp_path / "s.zarr", [speckles(100)], [paced(0)], batch=16)
    assert digests(tmp_path / "s.zarr") == alone(tmp_path / "alone.zarr", [paced(0)])


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of two Dask workers that come back when they are killed."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as made:
        yield made.scheduler_address


def test_dask_s_workers_give_the_bits_of_one_process(tmp_path: Path, cluster: str) -> None:
    encoders = [paced(0), TINY]
    extract(tmp_path / "s.zarr", [speckles(100)], encoders, batch=16, scheduler=cluster)
    assert digests(tmp_path / "s.zarr") == alone(tmp_path / "alone.zarr", encoders)


def test_batches_of_dask_workers_that_die_are_given_to_others(tmp_path: Path, cluster: str) -> None:
    dying = mortal(tmp_path / "deaths", 3)
    extract(tmp_path / "s.zarr", [speckles(100)], [dying], batch=16, scheduler=cluster)
    assert len(list((tmp_path / "deaths").iterdir())) == 3
    assert digests(tmp_path / "s.zarr") == alone(tmp_path / "alone.zarr", [paced(0)])


def where(**_: object) -> object:
    from distributed import get_worker

    return get_worker().name


def test_only_workers_with_a_gpu_are_given_work_where_some_declare_one() -> None:
    from distributed import Scheduler, SpecCluster, Worker

    workers = {
        "bare": {"cls": Worker, "options": {"nthreads": 3, "dashboard": False}},
        "gpu": {
            "cls": Worker,
            "options": {"nthreads": 3, "resources": {"GPU": 1}, "dashboard": False},
        },
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard": False}}
    with (
        SpecCluster(workers=workers, scheduler=scheduler) as mixed,
        DaskCrew(mixed.scheduler_address) as crew,
    ):
        assert (crew.hands, crew.room) == (1, 3)  # two spans share a GPU, and one waits
        assert {crew.submit(where).result() for _ in range(6)} == {"gpu"}


def test_a_scheduler_without_workers_is_refused(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=0, protocol="tcp", dashboard_address=":0") as empty,
        pytest.raises(SchedulerError, match="has no worker"),
    ):
        extract(tmp_path / "s.zarr", [speckles(4)], [paced(0)], scheduler=empty.scheduler_address)


def test_images_that_fail_are_named_whoever_encoded_them(tmp_path: Path) -> None:
    whole = paced(0)

    def compute(batch: np.ndarray) -> np.ndarray:
        return batch.reshape(len(batch), -1) * np.float32("nan")

    broken = dataclasses.replace(whole, spec=dataclasses.replace(whole.spec, compute=compute))
    done = extract(tmp_path / "s.zarr", [speckles(20)], [broken], device="cpu,cpu")
    assert [(failure.row, failure.reason) for failure in done.failures] == [
        (row, "the encoder's output is not finite") for row in range(20)
    ]


def test_a_worker_whose_encoder_computes_otherwise_is_refused() -> None:
    there = Fingerprint(norm=1.0, projection=(1.0,) * 32, packages={}, system="", device="cpu")
    lane = Assignment(encoders=(resolve(TINY),), batch=4, fingerprints=(there,))
    packed = Orders(run="strange", scratch="s", lanes=(lane,), device="cpu").packed()
    span = Span(images=(), wanted=(np.zeros(0, np.int64),))
    with pytest.raises(FingerprintDiffersError):
        station.work(packed, "strange", span, device=None, threads=1, worker="0")


def test_a_worker_keeps_its_encoders_until_it_is_told_to_leave() -> None:
    lane = Assignment(encoders=(paced(0),), batch=4)
    orders = Orders(run="kept", scratch="s", lanes=(lane,), device="cpu")
    found = station.scout(orders.packed(), device=None, threads=1, worker="0")
    assert (found.lanes, found.batch, found.fingerprints) == ((0,), (4,), ((None,),))
    images = (Wanted(1, Speckle(1).read().digest, Speckle(1)),)
    span = Span(images=images, wanted=(np.array([1]),))
    # Orders that cannot be read: they are not read again.
    harvest = station.work(b"", "kept", span, device=None, threads=1, worker="0")
    ((basket,),) = harvest.baskets
    ((rows, vectors),) = basket.found
    assert (rows.tolist(), vectors.shape) == ([1], (1, 256))
    station.leave("kept")
    with pytest.raises(EOFError):
        station.work(b"", "kept", span, device=None, threads=1, worker="0")


@given(
    st.sets(st.integers(0, 300)),
    st.lists(st.sampled_from([1, 4, 6, 32]), min_size=1, max_size=3),
    st.booleans(),
)
def test_spans_hold_every_image_once_and_cut_no_batch(
    rows: set[int], batches: list[int], fast: bool
) -> None:
    images = [Wanted(row, b"", Speckle(row)) for row in sorted(rows)]
    lanes = [
        Lane((Track(paced(0), Basket(batch), np.array(sorted(rows), np.int64)),))
        for batch in batches
    ]
    spans = list(spans_of(images, lanes, fast=fast))
    assert [image.row for span in spans for image in span.images] == sorted(rows)
    for batch in batches:
        held = [{image.row // batch for image in span.images} for span in spans]
        assert sum(map(len, held)) == len(set().union(*held))


def test_devices_are_named_with_commas_or_all() -> None:
    assert pick_devices("cpu, cpu") == ("cpu", "cpu")
    with pytest.raises(DeviceMissingError, match="cuda:97"):
        pick_devices("cpu,cuda:97")


def test_all_gpus_of_a_machine_without_one_are_missing() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(DeviceMissingError, match="cuda:all"):
        pick_devices("cuda:all")
