"""Extractions in processes of their own, to be killed, starved or raced against each other."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

import numpy as np

from embedcache.cohorts.cohort import Cohort
from embedcache.errors import EmbedcacheError
from embedcache.images.source import Layout, RawImage
from embedcache.testing.stand_ins import SIDE, paced

#: Owner's key of these runs: what they store must not depend on whose machine it is.
KEY = "5e" * 32
#: User and group that own nothing, on Linux and macOS alike.
NOBODY = 65_534


@dataclass(frozen=True, slots=True)
class Speckle:
    """A small grey picture of noise; which one, its number says."""

    number: int

    def read(self) -> RawImage:
        """Draw it; see `Source.read`."""
        pixels = np.random.default_rng(self.number).integers(1, 256, (SIDE, SIDE), np.uint8)
        return RawImage(
            pixels.tobytes(), Layout(shape=(SIDE, SIDE), dtype="uint8", photometric="grey")
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class PacedRun:
    """One extraction by paced stand-ins, over speckle images.

    Attributes:
        store: the feature store.
        images: how many.
        encoders: names of the stand-ins.
        pace: seconds an image.
        flush: seconds after which vectors are written though their chunk is not full.
        encoded: gets a line for each batch: how many pictures it held.
        synced: gets a line for each durable write: the time.
        told: gets the name of the error that ended the run.
        most_file: bytes that a file may have; None: any.
        unprivileged: run as nobody, who may not write what others own.
    """

    store: Path
    images: int = 300
    encoders: tuple[str, ...] = ("paced",)
    pace: float = 0.0
    flush: float = 25.0
    encoded: Path | None = None
    synced: Path | None = None
    told: Path | None = None
    most_file: int | None = None
    unprivileged: bool = False

    def start(self) -> ForkServerProcess:
        """Begin in another process; its exit code is the command's: 0, or the error's."""
        process = _forks().Process(target=run, args=(self,))
        process.start()
        return process

    def finish(self) -> int:
        """Run it to the end; returns the exit code."""
        process = self.start()
        process.join()
        return process.exitcode or 0


def run(job: PacedRun) -> None:
    """Extract in this process."""
    from embedcache.extraction.extract import extract
    from embedcache.store import lease

    os.environ["EMBEDCACHE_KEY"] = KEY
    lease.FLUSH_AFTER, lease._TICK = job.flush, min(job.flush, 1.0) / 4  # noqa: SLF001  # no caller should set it
    if job.synced is not None:
        os.fsync = _noted(os.fsync, job.synced)  # type: ignore[assignment]  # ours are all numbers
    if job.most_file is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (job.most_file, resource.RLIM_INFINITY))
    if job.unprivileged and os.geteuid() == 0:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    stand_ins = [paced(job.pace, job.encoded, name) for name in job.encoders]
    try:
        extract(job.store, [speckles(job.images)], stand_ins, workers=1)
    except EmbedcacheError as error:
        if job.told is not None:
            job.told.write_text(type(error).__name__)
        raise SystemExit(error.exit_code) from error


def speckles(images: int) -> Cohort:
    """A cohort of so many speckle images, two a patient."""
    number = np.arange(images)
    return Cohort(
        name="speckle",
        classes=("even", "odd"),
        images=tuple(Speckle(one) for one in number.tolist()),
        label=(number % 2).astype(np.int16),
        patient=np.array([f"patient {one // 2}" for one in number.tolist()]),
        strata={"site": np.where(number % 3 == 0, "here", "there")},
        namespace="speckle",
        reader="synthetic",
        synthetic=True,
    )


@cache
def _forks() -> ForkServerContext:
    # Forked from a clean process that has imported everything: a start costs milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "embedcache.extraction.extract"])
    return context


def _noted(sync: Callable[[int], None], log: Path) -> Callable[[int], None]:
    def noted(descriptor: int) -> None:
        sync(descriptor)
        with log.open("a") as file:
            file.write(f"{time.time()}\n")

    return noted
