"""Store format version 1: every node and its document, exactly as it lies on disk.

Documents (`zarr.json`) and chunks are ours: any Zarr reader reads them, they are the same bytes
whatever is installed, and what lies there can be compared with what we would write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from embedcache.contract import Contract
from embedcache.errors import UnusableNameError
from embedcache.schema import canonical_json

FORMAT = "embedcache"
FORMAT_VERSION = 1

#: Rows a chunk of vectors and of `done`: 3 MB at 768 dimensions (measurements: store.md).
VECTOR_ROWS = 1024
#: Rows a chunk of the image table: 128 KiB of digests, so that appending rewrites little.
TABLE_ROWS = 4096
#: Rows a chunk of a cohort, which is replaced whole: most cohorts are one chunk.
COHORT_ROWS = 65_536
#: Codes of strata, formats and modes are int16.
MOST_CODES = 32_767
#: Numbers a vector: a chunk of the longest takes 1 GiB. Flattened tokens of a ViT are 150,000.
MOST_DIM = 1 << 18
#: Images a batch: far more than any device takes, too few to exhaust memory before it is tried.
MOST_BATCH = 1 << 14
#: Characters of a stratum's value: each row of a cohort in memory takes the longest one's.
MOST_VALUE = 256
#: Bytes that crc32c adds to a chunk.
CHECKSUM = 4

DOCUMENT = "zarr.json"
IMAGES, COHORTS, FEATURES, MANIFEST = "images", "cohorts", "features", "manifest"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Dtype = Literal["uint8", "int16", "int32", "int64", "bool", "float32", "float16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArrayLayout:
    """One array: where it lies and how it is cut.

    Attributes:
        path: of its node in the store.
        rows: length.
        width: numbers a row; None for a one-dimensional array.
        chunk_rows: rows a chunk.
        dtype: of its numbers; little-endian on disk.
        fill: a value that no row may have, as JSON.
    """

    path: str
    rows: int
    width: int | None = None
    chunk_rows: int
    dtype: Dtype
    fill: int | bool | Literal["NaN"]

    @property
    def stored(self) -> np.dtype[Any]:
        """The dtype as it lies on disk: little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows,) or (rows, width)."""
        return (self.rows,) if self.width is None else (self.rows, self.width)

    @property
    def chunks(self) -> int:
        """How many chunks the rows take."""
        return -(-self.rows // self.chunk_rows)  # whole numbers only: a stranger's may be any size

    @property
    def chunk_size(self) -> int:
        """Bytes of every chunk file: padded to full length, uncompressed, with its checksum."""
        return self.chunk_rows * (self.width or 1) * np.dtype(self.dtype).itemsize + CHECKSUM

    def key(self, chunk: int) -> str:
        """Path of a chunk's file in the store."""
        return f"{self.path}/c/{chunk}" if self.width is None else f"{self.path}/c/{chunk}/0"

    def document(self) -> bytes:
        """The array's zarr.json."""
        chunk = [self.chunk_rows] if self.width is None else [self.chunk_rows, self.width]
        one_byte = np.dtype(self.dtype).itemsize == 1
        endian = {} if one_byte else {"configuration": {"endian": "little"}}
        return canonical_json(
            {
                "zarr_format": 3,
                "node_type": "array",
                "shape": list(self.shape),
                "data_type": self.dtype,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
                "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
                "fill_value": self.fill,
                "codecs": [{"name": "bytes", **endian}, {"name": "crc32c"}],
                "attributes": {},
            }
        )


def group_document(attributes: Mapping[str, Any]) -> bytes:
    """The zarr.json of a group."""
    return canonical_json({"zarr_format": 3, "node_type": "group", "attributes": attributes})


#: Documents that are the same in every store.
FIXED = {
    DOCUMENT: group_document({"format": FORMAT, "format_version": FORMAT_VERSION}),
    f"{COHORTS}/{DOCUMENT}": group_document({}),
    f"{FEATURES}/{DOCUMENT}": group_document({}),
    f"{MANIFEST}/{COHORTS}/{DOCUMENT}": group_document({}),
    f"{MANIFEST}/{FEATURES}/{DOCUMENT}": group_document({}),
}


def table_arrays(rows: int) -> dict[str, ArrayLayout]:
    """The image table's arrays by name; `digest` last, for its document commits a row."""
    return {
        "size": ArrayLayout(
            path="images/size", rows=rows, width=2, chunk_rows=TABLE_ROWS, dtype="int32", fill=-2
        ),
        "format": ArrayLayout(
            path="images/format", rows=rows, chunk_rows=TABLE_ROWS, dtype="int16", fill=-2
        ),
        "mode": ArrayLayout(
            path="images/mode", rows=rows, chunk_rows=TABLE_ROWS, dtype="int16", fill=-2
        ),
        "digest": ArrayLayout(
            path="images/digest", rows=rows, width=32, chunk_rows=TABLE_ROWS, dtype="uint8", fill=0
        ),
    }


def cohort_arrays(name: str, rows: int, strata: tuple[str, ...]) -> dict[str, ArrayLayout]:
    """A cohort's arrays by name."""
    chunk_rows = min(max(rows, 1), COHORT_ROWS)
    kinds: dict[str, tuple[Dtype, int | None, int]] = {
        "row": ("int64", None, -2),
        "label": ("int16", None, -2),
        "patient": ("uint8", 16, 0),
        **dict.fromkeys(strata, ("int16", None, -2)),
    }
    return {
        array: ArrayLayout(
            path=f"{cohort_node(name)}/{array}",
            rows=rows,
            width=width,
            chunk_rows=chunk_rows,
            dtype=dtype,
            fill=fill,
        )
        for array, (dtype, width, fill) in kinds.items()
    }


def vectors_array(contract: Contract, rows: int) -> ArrayLayout:
    """Where a feature set's vectors lie."""
    return ArrayLayout(
        path=f"{feature_node(contract.feature_id)}/vectors",
        rows=rows,
        width=contract.dim,
        chunk_rows=VECTOR_ROWS,
        dtype=contract.dtype,
        fill="NaN",
    )


def done_array(feature_id: str, rows: int) -> ArrayLayout:
    """Where it says which vectors are there."""
    return ArrayLayout(
        path=f"{feature_node(feature_id)}/done",
        rows=rows,
        chunk_rows=VECTOR_ROWS,
        dtype="bool",
        fill=False,
    )


def cohort_node(name: str) -> str:
    """Node of a cohort."""
    return f"{COHORTS}/{name}"


def feature_node(feature_id: str) -> str:
    """Node of a feature set."""
    return f"{FEATURES}/{feature_id}"


def check_name(what: str, name: str, taken: tuple[str, ...] = ()) -> None:
    """Refuse a name that cannot be a folder of a store on every system.

    Args:
        what: what is named, for the message.
        name: the name.
        taken: names that lie in the same folder; none may differ from it by case alone.

    Raises:
        UnusableNameError: says why.
    """
    if not is_name(name):
        raise UnusableNameError(what, name, "cannot name a folder of a store")
    for other in taken:
        if other.casefold() == name.casefold():
            raise UnusableNameError(what, name, f"collides with {other!r}")


def is_name(name: str) -> bool:
    """Whether a name can be a folder of a store on every system, and leads nowhere else."""
    return _NAME.fullmatch(name) is not None and not name.endswith(".")


def is_data(key: str) -> bool:
    """Whether an object is data: the same whoever computed it, when, and however interrupted.

    All of the store but the records of runs and the manifest, which hold times and run ids.
    """
    parts = key.split("/")
    return parts[0] != MANIFEST and not (parts[0] == FEATURES and "runs" in parts[2:3])
