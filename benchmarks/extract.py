"""How near extraction comes to a bare forward pass, on real images and this machine's cores.

    MALLOC_ARENA_MAX=1 python benchmarks/extract.py [--only NAME] [--rounds 3]

The variable stands for what the command line asks of the C library before all else
(encoders/memory.py).

`extract` from start to end (hashing, reading, decoding, fitting, normalising, encoding, durable
writes; models are loaded in both) against networks alone over normalised float32 tensors that are
in memory already. Networks alone run in two ways: `threads` gives every batch all cores, as torch
does by itself, which is the bare pass that bars mean; `batches` gives each core a batch of its own,
as our engine does, and is mostly the faster. Shares of both are given, and a serial loop of the
same parts beside them. Ratios within a round, medians.

`six` runs six of the benchmark's encoders in one pass (UltraSAM would hide everything else), with
untrained weights: fewer images, smaller batches. `decoding` compares what six such encoders cost
in reading, decoding and fitting in one pass and in six, in processor seconds. `workers` compares
threads with processes for that part.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from cohort_rows import first
from record import COHORTS, record

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_cohort
from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import fit, normalise
from embedcache.encoders.resolve import ResolvedEncoder, resolve, resolved
from embedcache.encoders.spec import ArithmeticSpec, Encoder
from embedcache.extraction.extract import extract
from embedcache.images.decode import decode
from embedcache.images.source import Source

REFERENCES = (
    f"spain=fetal-planes-db:{COHORTS / 'fetal_planes_db_four_planes'}",
    f"originals=fetal-planes-db:{COHORTS / 'fetal_planes_db_originals'}",
    f"africa=african-planes:{COHORTS / 'african_planes'}",
)
SIX = (
    "usfm=random",
    "mofo=random",
    "fetalclip=random",
    "resnet50=random",
    "efficientnet-v2-s=random",
    "dinov3-b=random",
)
#: encoders, images, images a batch, bar
CASES: dict[str, tuple[tuple[str, ...], int, int, float]] = {
    "efficientnet-lite0": (("efficientnet-lite0",), 1024, 32, 0.90),
    "vit-small": (("timm:vit_small_patch16_224=random",), 256, 32, 0.95),
    "six": (SIX, 48, 4, 0.97),
}
CORES = len(os.sched_getaffinity(0))


def main() -> None:
    options = arguments()
    os.environ["EMBEDCACHE_KEY"] = "5e" * 32
    runs: dict[str, Callable[[], dict[str, object]]] = {
        **{name: partial(case, name, options.rounds) for name in CASES},
        "decoding": decoding,
        "workers": partial(workers, options.rounds),
    }
    for name in [options.only] if options.only else runs:
        record(f"extract-{name}", runs[name]())


def case(name: str, rounds: int) -> dict[str, object]:
    references, images, batch, bar = CASES[name]
    encoders = [resolve(reference) for reference in references]
    cohorts = some(images)
    sources = [source for cohort in cohorts for source in cohort.images]
    built = [encoder.build("cpu") for encoder in encoders]
    tensors = [normalised(one, sources, batch) for one in built]
    ways: dict[str, Callable[[], float]] = {
        "threads": lambda: bare_threads(built, tensors),
        "batches": lambda: bare_batches(built, tensors),
        "extract": lambda: whole(cohorts, kept(encoders, built), batch),
    }
    if name == "six":
        rounds = 1  # minutes each
    else:
        ways["serial"] = lambda: serial(built, sources, batch)
    found: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            found[way].append(len(sources) / run())
    best = [max(pair) for pair in zip(found["threads"], found["batches"], strict=True)]
    return {
        "encoders": references,
        "images": len(sources),
        "batch": batch,
        "images_per_second": {
            way: round(statistics.median(each), 2) for way, each in found.items()
        },
        "each_round": {way: [round(one, 2) for one in each] for way, each in found.items()},
        "share_of_bare": share(found["extract"], found["threads"]),
        "bar": bar,
        "share_of_better_bare": share(found["extract"], best),
        "serial_share_of_bare": share(found["serial"], found["threads"])
        if "serial" in found
        else None,
        "overhead_ms_per_image": {
            "over_bare": overhead(found["extract"], found["threads"]),
            "over_better_bare": overhead(found["extract"], best),
        },
    }


def overhead(rates: list[float], bare: list[float]) -> float:
    """Milliseconds an image that extraction takes beyond the bare pass; less than none is less."""
    pairs = zip(rates, bare, strict=True)
    return round(statistics.median(1000 / rate - 1000 / one for rate, one in pairs), 2)


def some(images: int) -> list[Cohort]:
    """The first images of each cohort, as many of each as their sizes say."""
    cohorts = [read_cohort(reference) for reference in REFERENCES]
    whole = sum(len(cohort) for cohort in cohorts)
    ends = [round(len(cohort) * min(1, images / whole)) for cohort in cohorts]
    ends[0] += min(images, whole) - sum(ends)
    return [first(cohort, end) for cohort, end in zip(cohorts, ends, strict=True)]


def normalised(encoder: Encoder, sources: Sequence[Source], batch: int) -> list[object]:
    """What the network reads, in memory: float32 batches, pixels side by side."""
    import torch

    how, made = encoder.contract.preprocessing, []
    for start in range(0, len(sources), batch):
        pictures = [encoder.prepare(decode(one.read())) for one in sources[start : start + batch]]
        tensor = normalise(torch.from_numpy(np.stack(pictures)), how)
        made.append(tensor.contiguous(memory_format=torch.channels_last))
    return made


def forward(encoder: Encoder, tensor: object) -> None:
    import torch

    with torch.inference_mode():
        output = encoder.module(tensor)
        if encoder.pool is not None:
            encoder.pool(output)


def bare_threads(encoders: list[Encoder], tensors: list[list[object]]) -> float:
    import torch

    torch.set_num_threads(CORES)
    forward(encoders[0], tensors[0][0])
    started = time.perf_counter()
    for encoder, batches in zip(encoders, tensors, strict=True):
        for tensor in batches:
            forward(encoder, tensor)
    return time.perf_counter() - started


def bare_batches(encoders: list[Encoder], tensors: list[list[object]]) -> float:
    import torch

    with ThreadPoolExecutor(CORES, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(lambda _: forward(encoders[0], tensors[0][0]), range(CORES)))
        started = time.perf_counter()
        jobs = [
            (encoder, tensor)
            for encoder, batches in zip(encoders, tensors, strict=True)
            for tensor in batches
        ]
        list(pool.map(lambda job: forward(*job), jobs))
        seconds = time.perf_counter() - started
    torch.set_num_threads(CORES)
    return seconds


def kept(encoders: list[ResolvedEncoder], built: list[Encoder]) -> list[ResolvedEncoder]:
    """Encoders that are loaded already, as they are for the bare forward pass."""
    return [Loaded.of(one, there) for one, there in zip(encoders, built, strict=True)]


class Loaded(ResolvedEncoder):
    """A resolved encoder whose `build` gives what was built before."""

    @classmethod
    def of(cls, encoder: ResolvedEncoder, built: Encoder) -> Loaded:
        """Wrap it."""
        names = ("name", "contract", "spec", "file", "licence", "citation")
        made = cls(**{name: getattr(encoder, name) for name in names})
        BUILT[made.contract.feature_id] = built
        return made

    def build(self, device: str = "cpu") -> Encoder:  # noqa: ARG002  # the method it replaces
        """Give the built one; see `ResolvedEncoder.build`."""
        return BUILT[self.contract.feature_id]


BUILT: dict[str, Encoder] = {}


def whole(cohorts: list[Cohort], encoders: list[ResolvedEncoder], batch: int) -> float:
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        extract(Path(place) / "s.zarr", cohorts, encoders, device="cpu", batch=batch)
        return time.perf_counter() - started


def serial(encoders: list[Encoder], sources: list[Source], batch: int) -> float:
    """Read, decode, fit and encode in turn: no hashing, no store."""
    started = time.perf_counter()
    for start in range(0, len(sources), batch):
        pictures = [decode(source.read()) for source in sources[start : start + batch]]
        for encoder in encoders:
            encoder.encode(np.stack([encoder.prepare(picture) for picture in pictures]))
    return time.perf_counter() - started


def decoding() -> dict[str, object]:
    """Six stand-ins that cost nothing and want what the six encoders want."""
    cohorts = some(600)
    encoders = [stand_in(resolve(name).contract.preprocessing, name) for name in SIX]
    together = processor_seconds(lambda: whole(cohorts, encoders, 32))
    apart = sum(processor_seconds(lambda one=one: whole(cohorts, [one], 32)) for one in encoders)
    return {
        "images": sum(len(cohort) for cohort in cohorts),
        "encoders": SIX,
        "processor_seconds": {"one_pass": round(together, 2), "six_passes": round(apart, 2)},
        "ratio": round(together / apart, 3),
        "bar": 0.5,
    }


def stand_in(how: Preprocessing, name: str) -> ResolvedEncoder:
    return resolved(
        ArithmeticSpec(
            name=name.partition("=")[0],
            dim=1,
            architecture=f"benchmark:{name}",
            preprocessing=how,
            pooling="none",
            compute=lambda batch: batch[:, 0, 0, :1].astype(np.float32),
        )
    )


def processor_seconds(run: Callable[[], object]) -> float:
    started = time.process_time()
    run()
    return time.process_time() - started


def workers(rounds: int) -> dict[str, object]:
    """Read, decode and fit in threads, and in processes that pickle the pixels back."""
    how = resolve("efficientnet-lite0").contract.preprocessing
    sources = [source for cohort in some(600) for source in cohort.images]
    found: dict[str, list[float]] = {"threads": [], "processes": []}
    started = get_context("forkserver")
    with ThreadPoolExecutor(CORES) as threads, ProcessPoolExecutor(CORES, started) as processes:
        for pool in (threads, processes):  # imports
            list(pool.map(partial(fitted, how), sources[: 4 * CORES], chunksize=1))
        for _ in range(rounds):
            for name, pool in (("threads", threads), ("processes", processes)):
                begun = time.perf_counter()
                for _pixels in pool.map(partial(fitted, how), sources, chunksize=8):
                    pass
                found[name].append(len(sources) / (time.perf_counter() - begun))
    alone = len(sources) / held_alone(how, sources)
    return {
        "images": len(sources),
        "images_per_second": {name: round(statistics.median(each)) for name, each in found.items()},
        "each_round": {name: [round(one) for one in each] for name, each in found.items()},
        "one_thread": round(alone),
        "most_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def fitted(how: Preprocessing, source: Source) -> np.ndarray:
    return fit(decode(source.read()), how)


def held_alone(how: Preprocessing, sources: list[Source]) -> float:
    started = time.perf_counter()
    for source in sources:
        fitted(how, source)
    return time.perf_counter() - started


def share(rates: list[float], bare: list[float]) -> float:
    pairs = zip(rates, bare, strict=True)
    return round(statistics.median(rate / one for rate, one in pairs), 3)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=[*CASES, "decoding", "workers"])
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
