"""What sending a store costs: 12,400 x 768 features to a folder, into one file, and from nginx.

    python benchmarks/share.py

Ratios to copying and hashing the same files in the same run, medians of five rounds; nginx runs
on this machine.
"""

from __future__ import annotations

import hashlib
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from record import record

from embedcache.contract import Contract, Preprocessing
from embedcache.durable import write_file
from embedcache.provenance import provenance
from embedcache.store.pack import pack
from embedcache.store.places import root_at
from embedcache.store.reader import open_store
from embedcache.store.sync import pull, push
from embedcache.store.writer import create_or_open_for_writing

IMAGES, DIM, ROUNDS = 12_400, 768, 5


def build(path: Path, images: int) -> str:
    contract = Contract(
        architecture="stand-in",
        code="1",
        weights="none",
        preprocessing=Preprocessing(height=8, width=8, mean=(0.0,), std=(1.0,)),
        pooling="none",
        dim=DIM,
    )
    writer = create_or_open_for_writing(path)
    digest = [hashlib.sha256(str(row).encode()).digest() for row in range(images)]
    table = np.frombuffer(b"".join(digest), np.uint8).reshape(-1, 32)
    writer.add_images(table, np.ones((images, 2), np.int32), ["PNG"] * images, ["L"] * images)
    about = {"name": "stand-in", "licence": "", "citation": "", "batch": 64}
    with writer.lease(contract, **about) as lease:
        rows = np.flatnonzero(~lease.done)
        lease.start_run(provenance())
        lease.put(rows, np.random.default_rng(0).normal(size=(len(rows), DIM)).astype(np.float32))
        lease.finish(rate=1.0)
    writer.seal()
    return contract.feature_id


def copy(store: Path, to: Path) -> None:
    """What any honest copy does: read, hash, write durably."""
    for file in sorted(path for path in store.rglob("*") if path.is_file()):
        data = file.read_bytes()
        hashlib.sha256(data)
        write_file(to / file.relative_to(store), data)


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def nginx(home: Path) -> tuple[subprocess.Popen[bytes], str]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    (home / "nginx.conf").write_text(
        f"user root; daemon off; pid {home}/pid; error_log {home}/error.log; events {{}}\n"
        f"http {{ access_log off; server {{ listen 127.0.0.1:{port}; root {home}; }} }}"
    )
    command = ["nginx", "-c", f"{home}/nginx.conf", "-e", f"{home}/early.log"]
    process = subprocess.Popen(command)
    time.sleep(1)
    return process, f"http://127.0.0.1:{port}/a.zarr"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        store = home / "a.zarr"
        feature = build(store, IMAGES)
        process, url = nginx(home)
        times: dict[str, list[float]] = {}
        try:
            for _ in range(ROUNDS):
                for name, action in {
                    "copy": lambda: copy(store, home / "copy"),
                    "push_to_folder": lambda: push(store, str(home / "b.zarr")),
                    "pull_from_nginx": lambda: pull(url, home / "c.zarr"),
                    "pull_unchanged": lambda: pull(url, home / "c.zarr"),
                    "pack": lambda: pack(store, home / "a.zip"),
                    "read_folder": lambda: open_store(store).to_numpy(feature),
                    "read_nginx": lambda: open_store(root_at(url)).to_numpy(feature),
                    "read_packed": lambda: open_store(home / "a.zip").to_numpy(feature),
                }.items():
                    times.setdefault(name, []).append(seconds(action))
                for name in ("copy", "b.zarr", "c.zarr"):
                    shutil.rmtree(home / name)
                (home / "a.zip").unlink()
            pull(url, home / "d.zarr")
            build(store, IMAGES + 100)
            grown = pull(url, home / "d.zarr")
        finally:
            process.terminate()
            process.wait()
    median = {name: statistics.median(values) for name, values in times.items()}
    record(
        "share",
        {
            "images": IMAGES,
            "dim": DIM,
            "megabytes": grown.total / 1e6,
            "seconds": {name: round(value, 4) for name, value in median.items()},
            "ratio_to_copy": {
                name: round(median[name] / median["copy"], 2)
                for name in ("push_to_folder", "pull_from_nginx", "pack", "pull_unchanged")
            },
            "ratio_to_reading_the_folder": {
                name: round(median[name] / median["read_folder"], 2)
                for name in ("read_nginx", "read_packed")
            },
            "next_100_images_megabytes": grown.size / 1e6,
        },
    )


if __name__ == "__main__":
    main()
