"""The benchmark's seven encoders on a CUDA device: extraction against bare forward passes.

    python benchmarks/extract_gpu.py [--images 13000] [--some 2000] [--only NAME]

Refuses where there is no CUDA device. Real images where `../shared/cohorts` is beside the
checkout, else made ones; a number behind each file's last byte makes as many distinct images as
are asked for. Weights are random: they cost what trained ones cost.

`bare`: each network alone over normalised tensors that lie on the device, bf16, batches of 64, for
two seconds after a second of warming up. `together`: `extract` from start to end (hashing, reading,
decoding, fitting, copying, encoding, durable writes) of all images through all seven in one pass;
the bare rate of seven in turn is 1 / sum(1 / rate). 0.85 or more of it is wanted. `alone`: each by
itself over `--some` images. `agreement`: how far bf16 lies from fp32, and fp32 on the device from
fp32 on the processor, over 64 images: relative differences of vectors, and the least cosine.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from cohort_rows import again, first
from numpy.typing import NDArray
from record import COHORTS, record

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_cohort
from embedcache.contract import TOLERANCE
from embedcache.encoders.network import NetworkEncoder
from embedcache.encoders.resolve import resolve
from embedcache.extraction.extract import extract
from embedcache.images.decode import decode

NAMES = (
    "usfm",
    "mofo",
    "ultrasam",
    "fetalclip",
    "resnet50",
    "efficientnet-v2-s",
    "dinov3-b",
)
BATCH, WARM, SECONDS, AGREE, BAR = 64, 1.0, 2.0, 64, 0.85


def main() -> None:
    import torch

    options = arguments()
    if not torch.cuda.is_available():
        raise SystemExit("extract_gpu.py needs a CUDA device, and torch finds none here")
    os.environ["EMBEDCACHE_KEY"] = "5e" * 32
    names = [options.only] if options.only else list(NAMES)
    everything = images(options.images)
    some = first(everything, options.some)
    extracted([f"{name}@bf16=random" for name in names[:1]], first(everything, 256))  # warms up
    bare = {name: bare_rate(name) for name in names}
    alone = {name: extracted([f"{name}@bf16=random"], some) for name in names}
    limit = 1 / sum(1 / rate for rate in bare.values())
    together = extracted([f"{name}@bf16=random" for name in names], everything)
    found = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cores": len(os.sched_getaffinity(0)),
        "images": len(everything),
        "real_images": COHORTS.is_dir(),
        "bare_images_per_second": {name: round(rate, 1) for name, rate in bare.items()},
        "alone": {
            name: {**one, "share_of_bare": round(one["images_per_second"] / bare[name], 3)}
            for name, one in alone.items()
        },
        "together": {
            **together,
            "bare_limit": round(limit, 1),
            "share_of_bare": round(together["images_per_second"] / limit, 3),
            "bar": BAR,
        },
        "agreement": {name: agreement(name, some) for name in names},
    }
    record("extract-gpu", found)


def images(number: int) -> Cohort:
    """A cohort of so many distinct images, made of the ones there are."""
    place = COHORTS / "fetal_planes_db_four_planes"
    real = place.is_dir()
    cohort = read_cohort(f"spain=fetal-planes-db:{place}" if real else "home=synthetic:home")
    return again(cohort, number)


def bare_rate(name: str) -> float:
    """Images a second of a network alone, over a tensor that lies on the device."""
    import torch

    encoder = resolve(f"{name}@bf16=random").build("cuda")
    assert isinstance(encoder, NetworkEncoder)
    how = encoder.contract.preprocessing
    pixels = torch.rand((BATCH, 3, how.height, how.width), device="cuda")
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    def once() -> None:
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
            output = encoder.module(pixels)
            if encoder.pool is not None:
                encoder.pool(output)

    def during(seconds: float) -> float:
        torch.cuda.synchronize()
        started, batches = time.perf_counter(), 0
        while time.perf_counter() - started < seconds:
            for _ in range(4):
                once()
            torch.cuda.synchronize()
            batches += 4
        return batches * BATCH / (time.perf_counter() - started)

    during(WARM)
    return during(SECONDS)


def extracted(references: Sequence[str], cohort: Cohort) -> dict[str, float]:
    """`extract` from start to end; models are loaded before the clock of the pass starts."""
    with tempfile.TemporaryDirectory() as place:
        started = time.perf_counter()
        done = extract(Path(place) / "s.zarr", [cohort], references, device="cuda")
        wall = time.perf_counter() - started
    images = sum(one.throughput.images for one in done.passes) / len(done.passes)
    seconds = sum(one.throughput.seconds for one in done.passes)
    return {
        "images_per_second": round(images / seconds, 1),
        "wall_seconds": round(wall, 1),
        "passes": len(done.passes),
        "share_by_its_own_clock": round(done.passes[0].share, 3),
        **{f"seconds_{stage}": round(spent, 1) for stage, spent in stages(done.passes).items()},
    }


def stages(passes: Sequence[object]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in passes:
        for stage, spent in one.throughput.stages.items():
            found[stage] = found.get(stage, 0.0) + spent
    return found


def agreement(name: str, cohort: Cohort) -> dict[str, object]:
    """Relative differences of vectors between precisions, and between device and processor."""
    pictures = [decode(source.read()) for source in cohort.images[:AGREE]]
    processor = vectors(f"{name}=random", "cpu", pictures)
    full = vectors(f"{name}=random", "cuda", pictures)
    half = vectors(f"{name}@bf16=random", "cuda", pictures)
    return {
        "fp32_device_to_processor": difference(full, processor),
        "fp32_tolerance": TOLERANCE["fp32"],
        "bf16_to_fp32": difference(half, full),
        "bf16_least_cosine": float(cosine(half, full).min()),
    }


def vectors(reference: str, device: str, pictures: Sequence[object]) -> NDArray[np.float32]:
    encoder = resolve(reference).build(device)
    return np.concatenate(
        [
            encoder.encode(np.stack([encoder.prepare(one) for one in pictures[start : start + 8]]))
            for start in range(0, len(pictures), 8)
        ]
    )


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    apart = np.linalg.norm(one - other, axis=1) / np.linalg.norm(other, axis=1)
    return float(apart.max())


def cosine(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / norms


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=13_000)
    parser.add_argument("--some", type=int, default=2_000)
    parser.add_argument("--only", choices=NAMES)
    return parser.parse_args()


if __name__ == "__main__":
    main()
