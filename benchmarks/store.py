"""Speed of the feature store beside plain files: 12,400 x 768 float32, ratios within one run.

    python benchmarks/store.py [--features STORE] [--zarrs FOLDER] [--rounds 9] [--million]

All ways are read and written in turn, round by round, so that a busy machine is busy for all;
medians of the rounds. Reads come from the page cache into one array; writes end with fsync, of
files and of nothing less than we sync. `--features` gives real vectors (those of its widest
feature set, cut to 768 and repeated with a period longer than a chunk); else they are extracted
from ../shared/cohorts with efficientnet-lite0. `--zarrs` is a folder with the PyPI package of that
name (pip install --no-deps --target FOLDER zarrs). `--million` adds 1,000 random rows of
1,000,000 x 768: 3 GB on disk. `--only-verify` measures nothing but that, in a minute; no vector's
value matters there. Where others load the cores, read megabytes a second of the processor's time.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import COHORTS, record

from embedcache.contract import Contract, Preprocessing
from embedcache.executor import cores
from embedcache.provenance import provenance
from embedcache.store.reader import open_store
from embedcache.store.verify import WORKERS, verify
from embedcache.store.writer import StoreWriter, create_or_open_for_writing

ROWS, DIM, CHUNK, BATCH = 12_400, 768, 1_024, 32
BARS = {"read": 3.0, "write": 5.0, "random_rows_seconds": 2.0}
CONTRACT = Contract(
    architecture="benchmark",
    code="1",
    weights="none",
    preprocessing=Preprocessing(height=8, width=8, mean=(0.0,), std=(1.0,)),
    pooling="none",
    dim=DIM,
)
Vectors = NDArray[np.float32]
#: Codecs of Zarr arrays by name; each ends in crc32c, as the format demands.
CODECS: dict[str, Any] = {
    "raw": [],
    "zstd": [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}],
    "shuffle+zstd": [
        {
            "name": "blosc",
            "configuration": {
                "typesize": 4,
                "cname": "zstd",
                "clevel": 3,
                "shuffle": "shuffle",
                "blocksize": 0,
            },
        }
    ],
}


def main() -> None:
    options = arguments()
    if options.only_verify:
        drawn = np.random.default_rng(0).standard_normal((ROWS, DIM), np.float32)
        with tempfile.TemporaryDirectory(dir=options.place) as place:
            record("store-verify", verifying(Path(place), drawn, options.rounds))
        return
    if options.zarrs:
        sys.path.append(str(options.zarrs))
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        vectors = real_vectors(options.features, Path(place))
        writers, readers = ways(Path(place), vectors, zarrs=bool(options.zarrs))
        writes = in_turn(
            {k: lambda k=k: writers[k]() for k in writers}, max(options.rounds // 3, 3)
        )
        for name, read in readers.items():
            assert np.array_equal(read(), vectors), name
        reads = in_turn(readers, options.rounds)
        verified = verifying(Path(place), vectors, options.rounds)
        figures = {
            "rows": ROWS,
            "dim": DIM,
            "bars": BARS,
            "read_ratio_to_np_load": ratios(reads, "npy"),
            "write_ratio_to_np_save_and_fsync": ratios(writes, "npy"),
            "megabytes": sizes(Path(place)),
            "random_rows": million(Path(place)) if options.million else "not measured",
        }
    record("store", figures)
    record("store-verify", verified)


def real_vectors(features: Path | None, place: Path) -> Vectors:
    if features is None:
        from embedcache import extract

        features = place / "real.zarr"
        extract(
            features,
            [
                f"african-planes:{COHORTS / 'african_planes'}",
                f"fetal-planes-db:{COHORTS / 'fetal_planes_db_four_planes'}",
            ],
            ["efficientnet-lite0"],
        )
    store = open_store(features)
    widest = max(store.feature_sets(), key=lambda one: one.contract.dim)
    real = store.to_numpy(widest.id)[:, :DIM]
    assert real.shape[1] == DIM, "wide enough"
    assert len(real) > CHUNK, "else a chunk would hold a row twice"
    return np.ascontiguousarray(np.tile(real, (-(-ROWS // len(real)), 1))[:ROWS])


Way = Callable[[], Any]


def ways(place: Path, x: Vectors, *, zarrs: bool) -> tuple[dict[str, Way], dict[str, Way]]:
    """What writes and what reads, by name."""
    more = create_or_open_for_writing(place / "more.zarr")
    add_images(more, len(x))
    writers: dict[str, Way] = {
        "npy": lambda: write_npy(place / "x.npy", x),
        "embedcache": lambda: write_more(more, x),
        "embedcache, store and images too": lambda: write_ours(place / "ours.zarr", x),
        "hdf5, one array": lambda: write_hdf5(place / "one.h5", x),
        "hdf5, a dataset an image": lambda: write_hdf5_each(place / "each.h5", x),
        ".pt an image + csv": lambda: write_pt(place / "pt", x),
    }
    readers: dict[str, Way] = {
        "npy": lambda: np.load(place / "x.npy"),
        "embedcache": lambda: read_ours(place / "ours.zarr"),
        "hdf5, one array": lambda: read_hdf5(place / "one.h5"),
        "hdf5, a dataset an image": lambda: read_hdf5_each(place / "each.h5"),
        ".pt an image + csv": lambda: read_pt(place / "pt"),
    }
    for name, codecs in CODECS.items():
        folder = place / f"zarr {name}"
        writers[f"zarr-python, {name}"] = lambda f=folder, c=codecs: write_zarr(f, x, c)
        readers[f"zarr-python, {name}"] = lambda f=folder: read_zarr(
            f, "zarr.core.codec_pipeline.BatchedCodecPipeline"
        )
        if zarrs:
            readers[f"zarrs, {name}"] = lambda f=folder: read_zarr(f, "zarrs.ZarrsCodecPipeline")
    return writers, readers


def write_npy(file: Path, x: Vectors) -> None:
    with file.open("wb") as opened:
        np.save(opened, x)
        synced(opened)


def write_more(writer: StoreWriter, x: Vectors) -> None:
    """Another encoder's features of the same images, as extraction writes them."""
    code = str(len(open_store(writer.path).feature_sets()) + 1)
    put(writer, replace(CONTRACT, code=code), np.arange(len(x)), x)


def write_ours(path: Path, x: Vectors) -> None:
    shutil.rmtree(path, ignore_errors=True)
    writer = create_or_open_for_writing(path)
    put(writer, CONTRACT, add_images(writer, len(x)), x)


def put(writer: StoreWriter, contract: Contract, rows: NDArray[np.int64], x: Vectors) -> None:
    """Batch after batch, then the manifest."""
    with writer.lease(contract, name="b", licence="", citation="", batch=BATCH) as lease:
        lease.start_run(provenance())
        for start in range(0, len(x), BATCH):
            lease.put(rows[start : start + BATCH], x[start : start + BATCH])
        lease.finish(rate=1.0)
    writer.seal()


def add_images(writer: StoreWriter, number: int) -> NDArray[np.int64]:
    digests = b"".join(hashlib.sha256(str(row).encode()).digest() for row in range(number))
    digest = np.frombuffer(digests, np.uint8).reshape(-1, 32)
    size = np.full((number, 2), 224, np.int32)
    return writer.add_images(digest, size, ["PNG"] * number, ["L"] * number)


def read_ours(path: Path) -> Vectors:
    return open_store(path).features(CONTRACT.feature_id, np.arange(ROWS))


def write_hdf5(file: Path, x: Vectors) -> None:
    import h5py

    with h5py.File(file, "w") as opened:
        opened.create_dataset("features", data=x, chunks=(CHUNK, DIM), fletcher32=True)
    synced_path(file)


def read_hdf5(file: Path) -> Vectors:
    import h5py

    with h5py.File(file) as opened:
        return opened["features"][:]


def write_hdf5_each(file: Path, x: Vectors) -> None:
    import h5py

    with h5py.File(file, "w") as opened:
        for row, vector in enumerate(x):
            opened.create_dataset(f"{row:06}", data=vector)
    synced_path(file)


def read_hdf5_each(file: Path) -> Vectors:
    import h5py

    with h5py.File(file) as opened:
        return np.stack([opened[f"{row:06}"][:] for row in range(ROWS)])


def write_pt(folder: Path, x: Vectors) -> None:
    import torch

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    with (folder / "manifest.csv").open("w") as table:
        rows = csv.writer(table)
        for row, vector in enumerate(x):
            with (folder / f"{row:06}.pt").open("wb") as file:
                torch.save(torch.from_numpy(vector.copy()), file)
            rows.writerow([f"{row:06}.pt", row % 6])
        synced(table)
    os.sync()  # 12,400 calls of fsync would take minutes: this is the kinder way


def read_pt(folder: Path) -> Vectors:
    import torch

    with (folder / "manifest.csv").open() as table:
        names = [name for name, _ in csv.reader(table)]
    return np.stack([torch.load(folder / name, weights_only=True).numpy() for name in names])


def write_zarr(folder: Path, x: Vectors, codecs: list[Any]) -> None:
    import zarr

    shutil.rmtree(folder, ignore_errors=True)
    array = zarr.create_array(
        folder,
        shape=x.shape,
        dtype=x.dtype,
        chunks=(CHUNK, DIM),
        compressors=[*codecs, {"name": "crc32c"}],
    )
    array[:] = x
    for file in folder.rglob("*"):
        synced_path(file)


def read_zarr(folder: Path, pipeline: str) -> Vectors:
    import zarr

    with zarr.config.set({"codec_pipeline.path": pipeline}):
        return zarr.open_array(folder, mode="r")[:]


def synced(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def synced_path(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def in_turn(ways: dict[str, Way], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds and CPU seconds of each way, a pair a round; the slow ways get three rounds."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            if number >= 3 and taken[name][0][0] > 1:
                continue
            started, used = time.perf_counter(), time.process_time()
            way()
            taken[name].append((time.perf_counter() - started, time.process_time() - used))
    return taken


def ratios(taken: dict[str, list[tuple[float, float]]], base: str) -> dict[str, dict[str, float]]:
    """Medians of the rounds' own ratios, and of seconds."""
    return {
        name: {
            "ratio": round(
                statistics.median(
                    one[0] / other[0] for one, other in zip(rounds, taken[base], strict=False)
                ),
                2,
            ),
            "milliseconds": round(1e3 * statistics.median(one[0] for one in rounds), 1),
            "cpu_milliseconds": round(1e3 * statistics.median(one[1] for one in rounds), 1),
        }
        for name, rounds in taken.items()
    }


def sizes(place: Path) -> dict[str, float]:
    found = {}
    for path in sorted(
        p for p in place.iterdir() if not p.name.endswith(".locks")
    ):  # locks are no part of a store
        files = [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
        found[path.name] = round(sum(file.stat().st_size for file in files) / 1e6, 2)
    return {
        name: size
        for name, size in found.items()
        if name.endswith((".npy", ".h5", "pt", "raw", "zstd", "ours.zarr"))
    }


def verifying(place: Path, x: Vectors, rounds: int) -> dict[str, Any]:
    """Megabytes a second of verify, and of sha256 over the same bytes, alone and side by side."""
    threads = min(cores(), WORKERS)
    figures: dict[str, Any] = {"threads": threads}
    for encoders in (1, 4):
        path = place / f"verify-{encoders}.zarr"
        writer = create_or_open_for_writing(path)
        row = add_images(writer, len(x))
        for code in range(encoders):
            put(writer, replace(CONTRACT, code=str(code)), row, x)
        files = [file.read_bytes() for file in path.rglob("*") if file.is_file()]
        whole = b"".join(files)
        with ThreadPoolExecutor(threads) as pool:
            taken = in_turn(
                {
                    "verify": lambda path=path: verify(path),
                    "sha256 on one thread": lambda whole=whole: hashlib.sha256(whole),
                    "sha256 of each file on all threads": lambda files=files, pool=pool: list(
                        pool.map(hashlib.sha256, files)
                    ),
                },
                rounds,
            )
        figures["one encoder" if encoders == 1 else f"{encoders} encoders"] = speeds(
            taken, len(whole) / 1e6
        )
    return figures


def speeds(
    taken: dict[str, list[tuple[float, float]]], megabytes: float
) -> dict[str, dict[str, float]]:
    """Megabytes a second, by the clock and by the processor's time; medians of the rounds."""
    return {
        name: {
            "megabytes_per_second": round(megabytes / statistics.median(one[0] for one in rounds)),
            "megabytes_per_cpu_second": round(
                megabytes / statistics.median(one[1] for one in rounds)
            ),
        }
        for name, rounds in taken.items()
    }


def million(place: Path) -> dict[str, Any]:
    rows, path = 1_000_000, place / "million.zarr"
    writer = create_or_open_for_writing(path)
    row = add_images(writer, rows)
    draw = np.random.default_rng(0)
    block = draw.standard_normal((CHUNK, DIM), np.float32)
    with writer.lease(CONTRACT, name="b", licence="", citation="", batch=BATCH) as lease:
        lease.start_run(provenance())
        for start in range(0, rows, CHUNK):
            part = row[start : start + CHUNK]
            lease.put(part, block[: len(part)] + np.float32(start))
        lease.finish(rate=1.0)
    writer.seal()
    store, seconds, used = open_store(path), [], []
    for number in range(6):
        chosen = np.random.default_rng(number).choice(rows, 1_000, replace=False)
        started, cpu = time.perf_counter(), time.process_time()
        found = store.features(CONTRACT.feature_id, chosen)
        seconds.append(time.perf_counter() - started)
        used.append(time.process_time() - cpu)
        offset = (chosen // CHUNK * CHUNK).astype(np.float32)
        assert np.array_equal(found, block[chosen % CHUNK] + offset[:, None])
    return {
        "rows": rows,
        "first_read_seconds": round(seconds[0], 3),
        "median_seconds": round(statistics.median(seconds[1:]), 3),
        "median_cpu_seconds": round(statistics.median(used[1:]), 3),
    }


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--zarrs", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--only-verify", action="store_true")
    parser.add_argument("--place", type=Path, help="a folder on the disk to measure")
    return parser.parse_args()


if __name__ == "__main__":
    main()
