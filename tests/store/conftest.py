"""Small stores, made through the public writer."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from embedcache.contract import Contract, Preprocessing
from embedcache.provenance import Provenance
from embedcache.store.layout import is_data
from embedcache.store.pseudonyms import OwnerKey
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import StoreWriter, create_or_open_for_writing

RUN = Provenance(when="2026-01-01T00:00:00+00:00", python="3.11", packages={}, system="Linux")


@dataclass(frozen=True, kw_only=True)
class Small:
    """What goes into a small store; the same arguments make the same bytes."""

    images: int = 7
    dim: int = 4

    @property
    def digest(self) -> NDArray[np.uint8]:
        each = (hashlib.sha256(f"image {row}".encode()).digest() for row in range(self.images))
        return np.frombuffer(b"".join(each), np.uint8).reshape(-1, 32)

    def contract(self, code: str = "1", dtype: str = "float32") -> Contract:
        return Contract(
            architecture="stand-in",
            code=code,
            weights="none",
            preprocessing=Preprocessing(height=8, width=8, mean=(0.0,), std=(1.0,)),
            pooling="none",
            dim=self.dim,
            dtype=dtype,  # type: ignore[arg-type]  # a parametrised literal
        )

    def vectors(self, code: str = "1") -> NDArray[np.float32]:
        draw = np.random.default_rng(int(code))
        return draw.normal(size=(self.images, self.dim)).astype(np.float32)

    def add_images(self, writer: StoreWriter) -> NDArray[np.int64]:
        formats = ["PNG" if row % 2 else "JPEG" for row in range(self.images)]
        size = np.tile(np.array([[640, 480]], np.int32), (self.images, 1))
        return writer.add_images(self.digest, size, formats, ["L"] * self.images)

    def cohort(self, name: str = "home") -> StoredCohort:
        row = np.arange(self.images, dtype=np.int64)
        key = OwnerKey(secret=b"k" * 32, place="test")
        return StoredCohort(
            name=name,
            classes=("brain", "femur"),
            row=row,
            label=(row % 2).astype(np.int16),
            patient=key.pseudonyms(name, [f"patient {one // 2}" for one in row]),
            strata={"site": np.where(row % 3 == 0, "Accra", "Lomé")},
            reader="folder",
            citation="",
            licence="CC-BY-4.0",
            synthetic=True,
            key_id=key.key_id,
            unreadable={},
        )

    def extract(self, writer: StoreWriter, code: str = "1") -> None:
        """What a rerun does too: the rows that lack a vector, one by one."""
        with lease_of(writer, self.contract(code)) as lease:
            missing = np.flatnonzero(~lease.done)
            if len(missing):
                lease.start_run(RUN)
                for row in missing:
                    lease.put(np.array([row]), self.vectors(code)[[row]])
                lease.finish(rate=1.0)

    def build(self, path: Path, codes: tuple[str, ...] = ("1",)) -> Path:
        writer = create_or_open_for_writing(path)
        self.add_images(writer)
        writer.put_cohort(self.cohort())
        for code in codes:
            self.extract(writer, code)
        writer.seal()
        return path


def lease_of(writer: StoreWriter, contract: Contract, name: str = "stand-in"):
    return writer.lease(contract, name=name, licence="MIT", citation="Doe 2026", batch=32)


def data_of(store: Path) -> dict[str, bytes]:
    """Every object that must not depend on who computed it, when, or how often interrupted."""
    files = (path for path in store.rglob("*") if path.is_file())
    named = {path.relative_to(store).as_posix(): path for path in files}
    return {key: path.read_bytes() for key, path in named.items() if is_data(key)}


@pytest.fixture(scope="session")
def small() -> Small:
    return Small()


@pytest.fixture(scope="session")
def make() -> type[Small]:
    return Small


@pytest.fixture(scope="session")
def run() -> Provenance:
    return RUN


@pytest.fixture(scope="session")
def lease() -> Callable[..., object]:
    return lease_of


@pytest.fixture(scope="session")
def data() -> Callable[[Path], dict[str, bytes]]:
    return data_of


@pytest.fixture(scope="session")
def memory() -> str | None:
    """A folder in memory for tests that make many stores; None: the usual temporary one."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
