"""Units run here or in processes, all of them, with one BLAS thread."""

from __future__ import annotations

import os
import time

import pytest

from embedcache.errors import WorkerDiedError
from embedcache.executor import run_units


def halved(unit: int) -> tuple[int, int]:
    if unit % 2:
        raise ArithmeticError(f"{unit} is odd")
    return unit // 2, os.getpid()


def blas_threads(_unit: int) -> set[int]:
    import numpy  # noqa: F401  # brings a BLAS
    from threadpoolctl import threadpool_info

    return {pool["num_threads"] for pool in threadpool_info()}


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
