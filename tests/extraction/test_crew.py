"""Who encodes, and how often they die, never shows in the vectors."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache.encoders.device import pick_devices
from embedcache.encoders.memory import ENVIRONMENT
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.errors import (
    DeviceMissingError,
    FingerprintDiffersError,
    NoWorkerLeftError,
    SchedulerError,
    SchedulerGoneError,
    WorkerDiedError,
)
from embedcache.extraction import station
from embedcache.extraction.compilation import Compilation
from embedcache.extraction.crew import DeviceCrew
from embedcache.extraction.dask_crew import DaskCrew
from embedcache.extraction.dispatch import landed, spans_of
from embedcache.extraction.extract import extract
from embedcache.extraction.orders import Assignment, Basket, Harvest, Orders, Span
from embedcache.extraction.pictures import Wanted
from embedcache.extraction.scratch import drop_scratch
from embedcache.extraction.stream import Lane, Track
from embedcache.progress import Silent
from embedcache.provenance import Fingerprint
from embedcache.store.reader import open_store
from embedcache.testing.paced_run import KEY, Speckle, speckles
from embedcache.testing.stand_ins import paced

if TYPE_CHECKING:
    from distributed import SpecCluster

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
def on_dask() -> Iterator[DaskCrew]:
    """Two Dask workers that come back when they are killed."""
    with DaskCrew("local:2") as crew:
        yield crew


@pytest.fixture(scope="module")
def cluster(on_dask: DaskCrew) -> str:
    """Their scheduler's address."""
    return on_dask._client.scheduler.address


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


def threaded(**workers: dict[str, object]) -> SpecCluster:
    """A Dask cluster whose workers are threads of this process."""
    from distributed import Scheduler, SpecCluster, Worker

    return SpecCluster(
        workers={
            name: {"cls": Worker, "options": {"dashboard": False, **options}}
            for name, options in workers.items()
        },
        scheduler={"cls": Scheduler, "options": {"dashboard": False}},
        worker={"cls": Worker, "options": {"nthreads": 1, "dashboard": False}},
    )


def test_only_workers_with_a_gpu_are_given_work_where_some_declare_one() -> None:
    workers = {"bare": {"nthreads": 3}, "gpu": {"nthreads": 3, "resources": {"GPU": 1}}}
    with threaded(**workers) as mixed, DaskCrew(mixed.scheduler_address) as crew:
        assert (crew.hands, crew.room) == (1, 3)  # two spans share a GPU, and one waits
        assert {crew.submit(where).result() for _ in range(6)} == {"gpu"}


@pytest.fixture
def _deserted(monkeypatch) -> None:
    """Little patience with a cluster that has lost its workers."""
    monkeypatch.setattr("embedcache.extraction.dispatch.PATIENCE", 0.3)
    monkeypatch.setattr("embedcache.extraction.dispatch._LOOK", 0.05)
    monkeypatch.setattr("embedcache.extraction.dask_crew._LOOK", 0.05)


@pytest.mark.usefixtures("_deserted")
def test_a_cluster_that_stays_without_workers_ends_the_run_and_says_what_to_do() -> None:
    with threaded(only={"nthreads": 1}) as one, DaskCrew(one.scheduler_address) as crew:
        one.scale(0)
        wait_until(lambda: crew.hands == 0)
        with pytest.raises(NoWorkerLeftError, match=r"had no worker .*: start workers"):
            landed(crew.submit(where), crew)


@pytest.mark.usefixtures("_deserted")
def test_a_worker_that_joins_a_deserted_cluster_gets_what_waits() -> None:
    with threaded(only={"nthreads": 1}) as one, DaskCrew(one.scheduler_address) as crew:
        one.scale(0)
        wait_until(lambda: crew.hands == 0)
        waiting = crew.submit(where)
        one.scale(2)
        assert landed(waiting, crew) in {0, 1}
        wait_until(lambda: crew.hands == 2)
        assert crew.room == 4


def wait_until(true: Callable[[], bool]) -> None:
    for _ in range(500):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # Dask's own, of what nobody awaits then
def test_a_scheduler_that_is_gone_is_said_in_a_sentence_whatever_is_asked_of_it() -> None:
    with threaded(only={"nthreads": 1}) as one, DaskCrew(one.scheduler_address) as crew:
        crew._looked = -math.inf
        one.close()
        crew._client.sync(crew._client._close)  # as by itself, once it has tried for half a minute
        for asked in (
            lambda: crew.hands,
            lambda: crew.everywhere(where),
            lambda: crew.submit(where),
        ):
            with pytest.raises(SchedulerGoneError, match="the same command goes on"):
                asked()


def environment() -> Callable[..., object]:
    """A call that says what its process was started with."""

    def told(**_: object) -> dict[str, str | None]:
        # By value: workers cannot import this file.
        import os

        names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")
        return {name: os.environ.get(name) for name in names}

    return told


@pytest.fixture(scope="module")
def on_devices() -> Iterator[DeviceCrew]:
    with DeviceCrew(["cpu", "cpu"]) as crew:
        yield crew


def test_processes_that_we_start_keep_what_they_free_from_their_start(
    on_devices: DeviceCrew, on_dask: DaskCrew
) -> None:
    for crew in (on_devices, on_dask):
        assert crew.submit(environment()).result(60) == ENVIRONMENT


@pytest.mark.parametrize("kind", ["on_devices", "on_dask"])
def test_everywhere_is_in_every_process(kind: str, tmp_path: Path, request) -> None:
    def leave_a_mark(folder: str, **_: object) -> None:
        import os
        from pathlib import Path

        (Path(folder) / str(os.getpid())).touch()

    crew = request.getfixturevalue(kind)
    crew.everywhere(leave_a_mark, str(tmp_path))
    assert len(list(tmp_path.iterdir())) == crew.hands == 2


def test_a_process_that_dies_of_everywhere_is_missed_and_the_other_works_on() -> None:
    def die_once(mark: str, **_: object) -> None:
        import os
        from pathlib import Path

        try:
            Path(mark).mkdir()
        except FileExistsError:
            return
        os._exit(1)

    with tempfile.TemporaryDirectory() as folder, DeviceCrew(["cpu", "cpu"]) as crew:
        crew.everywhere(die_once, f"{folder}/mark")
        wait_until(lambda: crew.hands == 1)
        assert crew.submit(environment()).result(60) == ENVIRONMENT


def test_libraries_load_behind_a_call_and_what_builds_waits_for_them() -> None:
    with station._GUARD:  # what a worker holds while it builds
        station.load_libraries()
        (loading,) = [one for one in threading.enumerate() if one.name == "embedcache-libraries"]
        loading.join(0.05)
        assert loading.is_alive()
    loading.join(60)
    assert not loading.is_alive()
    assert "timm" in sys.modules


def test_a_span_goes_to_the_process_that_has_it_unless_that_one_is_busy(
    on_devices: DeviceCrew,
) -> None:
    def name(seconds: float, *, worker: str, **_: object) -> str:
        import time

        time.sleep(seconds)
        return worker

    def asked(seconds: float, to: str) -> Future[str]:
        return on_devices.submit(name, seconds, to=to)

    assert [asked(0, to).result(60) for to in "0110"] == list("0110")
    many = [asked(0.2, "1") for _ in range(on_devices.room)]
    done = [future.result(60) for future in many]
    assert (done.count("0"), done.count("1")) == (len(many) / 2, len(many) / 2)
    assert asked(0, "gone").result(60) in {"0", "1"}


def heavy(path: Path, name: str) -> ResolvedEncoder:
    """A stand-in whose weights no memory holds beside another's."""
    path.touch()
    os.truncate(path, 1 << 42)  # a hole: it takes no disk
    return dataclasses.replace(paced(0, name=name), file=path)


def test_what_does_not_fit_beside_the_first_encoders_comes_in_passes_with_the_same_bits(
    tmp_path: Path,
) -> None:
    encoders = [paced(0), heavy(tmp_path / "weights", "heavy")]
    done = extract(tmp_path / "s.zarr", [speckles(100)], encoders, device="cpu,cpu", batch=16)
    assert [one.encoders for one in done.passes] == [("paced",), ("heavy",)]
    assert digests(tmp_path / "s.zarr") == alone(tmp_path / "alone.zarr", encoders)


def encoded_alone(span: Span, name: str) -> Harvest:
    """A span through a stand-in of this name, by a station that no other pass has seen."""
    orders = Orders(
        run=name,
        scratch="shared",
        lanes=(Assignment(encoders=(paced(0, name=name),), batch=4, fingerprints=(None,)),),
        device="cpu",
    )
    harvest = station.work(orders.packed(), name, span, device=None, threads=1, worker="0")
    station.leave(name)
    return harvest


def test_a_later_pass_reads_no_picture_that_its_worker_has_kept() -> None:
    images = [Wanted(row, Speckle(row).read().digest, Speckle(row)) for row in range(4)]
    rows = np.arange(4)
    lanes = [
        Lane((Track(paced(0, name=name), Basket(4), wanted),))
        for name, wanted in (("first", rows), ("second", rows[1:]), ("third", rows))
    ]
    (first,) = spans_of(images, lanes[:1], lanes[1:2], fast=False)
    (second,) = spans_of(images[1:], lanes[1:2], fast=False)
    (third,) = spans_of(images, lanes[2:], fast=False)
    assert "read" in encoded_alone(first, "first").stages
    assert "read" not in encoded_alone(second, "second").stages
    # Row 0 was in no later pass's plan: not kept, and read again.
    assert "read" in encoded_alone(third, "third").stages
    drop_scratch("shared")
    assert "read" in encoded_alone(second, "second").stages
    drop_scratch("shared")


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


def test_a_slow_encoder_is_what_limits_workers_though_each_span_waits_for_its_pictures(
    tmp_path: Path,
) -> None:
    slow = paced(0.01)
    done = extract(tmp_path / "s.zarr", [speckles(64)], [slow], device="cpu,cpu", batch=16)
    assert done.passes[0].limit == "the encoders"


def test_a_worker_tells_once_what_compiling_came_to(monkeypatch) -> None:
    cost = Compilation(name="tiny", seconds=9.0, before=1.0, after=0.5, batch=4, difference=0.0)
    monkeypatch.setattr("embedcache.extraction.forward.compile_network", lambda *_: cost)
    lane = Assignment(encoders=(resolve(TINY),), batch=4, fingerprints=(None,))
    packed = Orders(
        run="compiled", scratch="s", lanes=(lane,), device="cpu", compiled=True
    ).packed()
    told = []
    for row in (0, 4):
        image = Wanted(row, Speckle(row).read().digest, Speckle(row))
        span = Span(images=(image,), wanted=(np.array([row]),))
        harvest = station.work(packed, "compiled", span, device=None, threads=1, worker="0")
        told.append(harvest.compiled)
    station.leave("compiled")
    drop_scratch("s")
    assert told == [(cost,), ()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its compiler uses its own past
def test_a_run_notes_what_each_process_paid_for_compiling(tmp_path: Path) -> None:
    notes: list[str] = []

    class Listening(Silent):
        def note(self, line: str) -> None:
            notes.append(line)

    arguments = {"device": "cpu,cpu", "batch": 16, "compiled": True, "progress": Listening()}
    extract(tmp_path / "s.zarr", [speckles(200)], [TINY], **arguments)
    # A process that came too late for any span compiled nothing.
    assert 1 <= len([line for line in notes if "compiled in" in line]) <= 2


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
