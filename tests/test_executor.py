"""Units run here or in processes, all of them, with one BLAS thread."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedcache.errors import SchedulerError, WorkerDiedError
from embedcache.executor import check_scheduler, run_units, some_at_once


def halved(unit: int) -> tuple[int, int]:
    if unit % 2:
        raise ArithmeticError(f"{unit} is odd")
    return unit // 2, os.getpid()


def blas_threads(_unit: int) -> set[int]:
    import numpy  # noqa: F401  # brings a BLAS
    from threadpoolctl import threadpool_info

    return {pool["num_threads"] for pool in threadpool_info()}


def leave_a_mark(folder: Path) -> None:
    (folder / secrets.token_hex(8)).touch()


def die(unit: int) -> None:
    if unit == 0:
        time.sleep(0.1)
        os._exit(137)
    time.sleep(0.2)


def test_one_worker_works_here_in_order() -> None:
    assert list(run_units(halved, [4, 2, 8], workers=1)) == [(k, os.getpid()) for k in (2, 1, 4)]


def test_several_workers_work_elsewhere() -> None:
    done = list(run_units(halved, [0, 2, 4, 6], workers=2))
    assert sorted(half for half, _ in done) == [0, 1, 2, 3]
    assert os.getpid() not in {process for _, process in done}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_failure_lets_the_others_finish_and_is_raised_then(workers: int) -> None:
    done = []
    with pytest.raises(ArithmeticError, match="is odd"):
        done.extend(run_units(halved, [1, 2, 3, 4], workers=workers))
    assert sorted(half for half, _ in done) == [1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_blas_has_one_thread_wherever_it_runs(workers: int) -> None:
    for threads in run_units(blas_threads, [0, 1], workers=workers):
        assert threads == {1}


def test_a_killed_worker_is_an_error_of_ours() -> None:
    with pytest.raises(WorkerDiedError, match="--workers 1"):
        list(run_units(die, [0, 1, 2], workers=2))


def test_no_units_are_no_work() -> None:
    assert list(run_units(halved, [], workers=1)) == []


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Address of a Dask cluster of two processes that outlives the commands that use it."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def test_dask_works_elsewhere_and_lets_the_others_finish(scheduler: str) -> None:
    done = []
    with pytest.raises(ArithmeticError, match="is odd"):
        done.extend(run_units(halved, [1, 2, 3, 4, 6], scheduler=scheduler))
    assert sorted(half for half, _ in done) == [1, 2, 3]
    assert os.getpid() not in {process for _, process in done}


def test_dask_does_a_unit_again_when_a_later_command_asks(scheduler: str, tmp_path: Path) -> None:
    for _ in range(2):
        list(run_units(leave_a_mark, [tmp_path], scheduler=scheduler))
    assert len(list(tmp_path.iterdir())) == 2


def test_blas_has_one_thread_on_dask(scheduler: str) -> None:
    assert list(run_units(blas_threads, [0], scheduler=scheduler)) == [{1}]


def test_no_units_need_no_scheduler() -> None:
    assert list(run_units(halved, [], scheduler="tcp://127.0.0.1:9")) == []


def test_a_local_cluster_lives_as_long_as_the_command() -> None:
    processes = {process for _, process in run_units(halved, [2, 4], scheduler="local:1")}
    assert len(processes) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(processes.pop(), 0)


@pytest.mark.parametrize("scheduler", ["local", "local:0", "local:two", "cluster", "tcp://host"])
def test_what_is_no_scheduler_is_refused_before_any_work(scheduler: str) -> None:
    with pytest.raises(SchedulerError, match="local:N"):
        check_scheduler(scheduler)


def test_a_scheduler_that_is_not_there_is_named(monkeypatch) -> None:
    monkeypatch.setattr("embedcache.executor._PATIENCE", 0.5)
    with pytest.raises(SchedulerError, match=r"tcp://127\.0\.0\.1:9' does not answer"):
        list(run_units(halved, [2], scheduler="tcp://127.0.0.1:9"))


def test_without_dask_distributed_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SchedulerError, match=r"embedcache-bench\[cluster\]"):
        check_scheduler("local:2")


@pytest.mark.parametrize("number", [0, 1, 7, 8, 9, 100])
def test_items_come_in_order_and_no_further_ahead_than_the_window(number: int) -> None:
    done: list[int] = []
    given: list[int] = []

    def twice(item: int) -> int:
        done.append(item)
        return 2 * item

    with ThreadPoolExecutor(2) as pool:
        for some, future in some_at_once(pool, range(number), twice, at_once=4, window=16):
            given += future.result()
            assert list(some) == [one // 2 for one in given[-len(some) :]]
            assert len(done) <= len(given) + 16
    assert given == list(range(0, 2 * number, 2))
