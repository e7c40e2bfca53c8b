"""A folder of `features.npy` and Parquet tables: what numpy, R, Julia and spreadsheets read.

```
features.npy        (k, dim); row i is the image of row i in images.parquet
images.parquet      digest, width, height, format, mode; images without a vector come last
cohorts/NAME.parquet    digest (null: unreadable), label (null: none), patient, a column a stratum
about.json          contract, runs, class lists: for the way back
```
"""

from __future__ import annotations

import os
import shutil
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import PARTIAL, sync_folder, write_file
from embedcache.errors import DamagedStoreError, ExchangeUnusableError
from embedcache.schema import canonical_json
from embedcache.store.exchange.format import (
    MEND,
    Claims,
    Description,
    Exchange,
    FeatureTable,
    checked_table,
    cohort_of,
    describe,
    read_description,
    refuse_claims,
)
from embedcache.store.image_table import ImageTable
from embedcache.store.objects import MOST_DOCUMENT, object_size
from embedcache.store.stored_cohort import CohortAttributes, StoredCohort

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns of images.parquet, and of a cohort before its strata.
_IMAGE = ("digest", "width", "height", "format", "mode")
_ENTRY = ("digest", "label", "patient")
#: Columns that hold whole numbers; all others hold text.
_NUMBERS = ("width", "height")
#: Bytes of a table in memory; ten million images take a third of it.
_MOST_TABLE = 1 << 32


def export(table: FeatureTable, out: Path) -> None:
    """Write one folder.

    Raises:
        OSError: as the system gives it.
    """
    partial = out.with_name(out.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # what a killed export left
    try:
        (partial / "cohorts").mkdir(parents=True)
        _write_vectors(table, partial / "features.npy")
        digest = [bytes(one).hex() for one in table.images.digest]
        _write_table(_image_columns(table.images, digest), partial / "images.parquet")
        for cohort in table.cohorts:
            columns = _entry_columns(cohort, digest)
            _write_table(columns, partial / "cohorts" / f"{cohort.name}.parquet")
        write_file(partial / "about.json", canonical_json(describe(table)))
        sync_folder(partial / "cohorts")
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(out.parent)


def load(place: Path, claims: Claims | None = None) -> FeatureTable:
    """Read such a folder; vectors stay on disk until they are asked for.

    Raises:
        ExchangeUnusableError: if it is no such folder.
    """
    refuse_claims(claims)
    about = read_description(_file(place, "about.json", MOST_DOCUMENT).read_bytes(), place.name)
    images = _images(place, about)
    row_of = {bytes(one).hex(): row for row, one in enumerate(images.digest)}
    table = FeatureTable(
        about=about.about,
        runs=about.runs,
        images=images,
        vectors=_vectors(place, about),
        cohorts=tuple(_cohort(place, name, one, row_of) for name, one in about.cohorts.items()),
    )
    return checked_table(table, about, place.name)


def _write_vectors(table: FeatureTable, file: Path) -> None:
    contract = table.about.contract
    dtype = np.dtype(contract.dtype).newbyteorder("<")
    header = {"descr": dtype.str, "fortran_order": False}
    shape = (table.vectors.shape[0], contract.dim)
    with file.open("xb") as opened:
        np.lib.format.write_array_header_1_0(opened, {**header, "shape": shape})
        for _, part in table.parts():
            opened.write(np.ascontiguousarray(part, dtype).tobytes())
        opened.flush()
        os.fsync(opened.fileno())


def _image_columns(images: ImageTable, digest: list[str]) -> dict[str, Any]:
    return {
        "digest": digest,
        "width": images.size[:, 0],
        "height": images.size[:, 1],
        "format": [images.formats[code] for code in images.format],
        "mode": [images.modes[code] for code in images.mode],
    }


def _entry_columns(cohort: StoredCohort, digest: list[str]) -> dict[str, Any]:
    return {
        "digest": [digest[row] if row >= 0 else None for row in cohort.row],
        "label": [cohort.classes[code] if code >= 0 else None for code in cohort.label],
        "patient": [bytes(one).hex() for one in cohort.patient],
        **{f"stratum:{name}": value.tolist() for name, value in sorted(cohort.strata.items())},
    }


def _write_table(columns: dict[str, Any], file: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = {name: pa.string() for name in columns if name not in _NUMBERS}
    arrays = {name: pa.array(values, type=texts.get(name)) for name, values in columns.items()}
    with file.open("xb") as opened:
        pq.write_table(pa.table(arrays), opened, compression="zstd")
        opened.flush()
        os.fsync(opened.fileno())


def _file(place: Path, name: str, most: int | None = None) -> Path:
    """A regular file of the folder.

    Raises:
        ExchangeUnusableError: if it is missing, a link, or larger than `most` bytes.
    """
    try:
        size = object_size(place, name)
    except DamagedStoreError as error:
        raise ExchangeUnusableError(place.name, f"{name} is no regular file", MEND) from error
    if size is None or (most is not None and size > most):
        problem = f"{name} is missing" if size is None else f"{name} has {size:,} bytes"
        raise ExchangeUnusableError(place.name, problem, MEND)
    return place / name


def _vectors(place: Path, about: Description) -> NDArray[Any]:
    file = _file(place, "features.npy")
    try:
        found: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    # numpy's header is Python's grammar, and so are its errors
    except (ValueError, OSError, EOFError, SyntaxError, tokenize.TokenError) as error:
        raise ExchangeUnusableError(place.name, "features.npy is no sound array", MEND) from error
    if found.dtype != np.dtype(about.about.contract.dtype).newbyteorder("<"):
        raise ExchangeUnusableError(place.name, f"features.npy holds {found.dtype}", MEND)
    return found


def _images(place: Path, about: Description) -> ImageTable:
    table = _table(place, "images.parquet", _IMAGE)
    try:
        size = np.stack([table.column(name).to_numpy() for name in _NUMBERS], axis=1)
        return ImageTable(
            digest=_bytes(table.column("digest").to_pylist(), 32),
            size=size.astype(np.int32),
            format=_codes(table.column("format").to_pylist(), about.formats),
            mode=_codes(table.column("mode").to_pylist(), about.modes),
            formats=about.formats,
            modes=about.modes,
        )
    except (ValueError, TypeError) as error:
        raise ExchangeUnusableError(
            place.name, "images.parquet holds other values", MEND
        ) from error


def _cohort(
    place: Path, name: str, about: CohortAttributes, row_of: dict[str, int]
) -> StoredCohort:
    strata = tuple(sorted(about.categories))
    file = f"cohorts/{name}.parquet"
    table = _table(place, file, (*_ENTRY, *(f"stratum:{stratum}" for stratum in strata)))
    try:
        column = {key: table.column(key).to_pylist() for key in table.column_names}
        arrays: dict[str, NDArray[Any]] = {
            "row": np.array(
                [-1 if one is None else row_of[one] for one in column["digest"]], np.int64
            ),
            "label": _codes(column["label"], about.classes),
            "patient": _bytes(column["patient"], 16),
        }
        texts = {stratum: np.array(column[f"stratum:{stratum}"], np.str_) for stratum in strata}
    except (KeyError, ValueError, TypeError) as error:
        raise ExchangeUnusableError(place.name, f"{file} holds other values", MEND) from error
    return cohort_of(name, about, arrays, texts)


def _table(place: Path, name: str, columns: tuple[str, ...]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, parts, size = _file(place, name), [], 0
    try:
        with pq.ParquetFile(file) as opened:
            if tuple(opened.schema_arrow.names) != columns:
                raise ExchangeUnusableError(place.name, f"{name} has other columns", MEND)
            for batch in opened.iter_batches():
                size += batch.nbytes
                if size > _MOST_TABLE:
                    raise ExchangeUnusableError(place.name, f"{name} unpacks to too much", MEND)
                parts.append(batch)
            table = pa.Table.from_batches(parts, opened.schema_arrow)
            table.validate(full=True)  # bytes that are no text
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ExchangeUnusableError(place.name, f"{name} is no sound table", MEND) from error
    for column in table.schema:
        whole = column.name in _NUMBERS and pa.types.is_integer(column.type)
        if not whole and (column.name in _NUMBERS or not pa.types.is_string(column.type)):
            raise ExchangeUnusableError(place.name, f"{name} holds other values", MEND)
    return table


def _bytes(texts: list[Any], length: int) -> NDArray[np.uint8]:
    joined = b"".join(map(bytes.fromhex, texts))
    return np.frombuffer(joined, np.uint8).reshape(len(texts), length).copy()


def _codes(texts: list[Any], names: tuple[str, ...]) -> NDArray[np.int16]:
    """Index of each text; -1: none. A text that is no name is a KeyError of the caller's."""
    code_of: dict[Any, int] = {name: code for code, name in enumerate(names)} | {None: -1}
    if any(text not in code_of for text in texts):
        raise ValueError(texts)
    return np.array([code_of[text] for text in texts], np.int16)


EXCHANGE = Exchange(name="npy-parquet", export=export, load=load)
