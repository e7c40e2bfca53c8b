"""Predictions as Parquet: one unit, one file, never rewritten.

Columns: `image` (32 bytes), `cohort`, `fold`, `cluster`, `label`, `predicted`,
`probability:CLASS` of each class, `stratum:NAME` of each stratum. Class list and `Maker` lie as
JSON in the file's own metadata. A stratum that a cohort lacks is null in its rows.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import write_file
from embedcache.errors import PredictionsFileError
from embedcache.results.layout import ResultsFolder
from embedcache.results.predictions import Predictions
from embedcache.results.record import Maker
from embedcache.schema import canonical_json, from_json

if TYPE_CHECKING:
    import pyarrow as pa

PROBABILITY = "probability:"
STRATUM = "stratum:"
#: Key of our JSON in the Parquet metadata.
METADATA = b"embedcache"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """What a unit's parts share."""

    maker: Maker
    classes: tuple[str, ...]


def write_predictions(file: Path, parts: Sequence[Predictions]) -> None:
    """Write one unit; when this returns, it is durable.

    A file that exists is left alone: its name says all that decides its content.

    Args:
        file: `ResultsFolder.predictions_of(arm, encoder) / f"{unit_name(…)}.parquet"`.
        parts: one a cohort, of one maker and one class list; all with probabilities, or none.

    Raises:
        ValueError: if the parts disagree in maker, classes or having probabilities.
    """
    import pyarrow.parquet as pq

    if file.exists():
        return
    buffer = io.BytesIO()
    pq.write_table(_table(parts), buffer, compression="zstd")
    write_file(file, buffer.getvalue())


def read_predictions(folder: ResultsFolder) -> tuple[Predictions, ...]:
    """Read every unit: one `Predictions` a (file, cohort), in order of file name."""
    return tuple(part for file in folder.prediction_files() for part in read_unit(file))


def read_unit(file: Path) -> tuple[Predictions, ...]:
    """Read one unit: one `Predictions` a cohort, sorted by cohort.

    Raises:
        PredictionsFileError: if the file is not one of ours, or damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise PredictionsFileError(file, f"cannot be read ({error})") from error
    metadata = (table.schema.metadata or {}).get(METADATA)
    if metadata is None:
        raise PredictionsFileError(file, "was not written by embedcache")
    head = from_json(_Head, metadata, file.name)
    try:
        return tuple(_parts(table, head.maker, head.classes))
    except KeyError as error:
        raise PredictionsFileError(file, f"lacks the column {error}") from error


def _table(parts: Sequence[Predictions]) -> pa.Table:
    import pyarrow as pa

    first = parts[0]
    if any(part.maker != first.maker or part.classes != first.classes for part in parts):
        raise ValueError("the parts of a unit share maker and classes")
    if len({part.probability is None for part in parts}) > 1:
        raise ValueError("all parts of a unit have probabilities, or none")
    head = canonical_json(_Head(maker=first.maker, classes=first.classes))
    return pa.table(_columns(parts)).replace_schema_metadata({METADATA: head})


def _columns(parts: Sequence[Predictions]) -> dict[str, Any]:
    import pyarrow as pa

    image = np.concatenate([part.image for part in parts])
    cohort = [part.cohort for part in parts for _ in range(len(part.label))]
    columns: dict[str, Any] = {
        "image": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(image), [None, pa.py_buffer(image.tobytes())]
        ),
        "cohort": pa.array(cohort, pa.string()).dictionary_encode(),
    }
    for name, dtype in _INTEGERS.items():
        columns[name] = pa.array(np.concatenate([getattr(part, name) for part in parts]), dtype())
    probability = [part.probability for part in parts if part.probability is not None]
    for index, name in enumerate(parts[0].classes if probability else ()):
        columns[PROBABILITY + name] = np.concatenate([block[:, index] for block in probability])
    for name in sorted({name for part in parts for name in part.strata}):
        columns[STRATUM + name] = _stratum(parts, name)
    return columns


def _stratum(parts: Sequence[Predictions], name: str) -> pa.Array:
    import pyarrow as pa

    text: list[str | None] = []
    for part in parts:
        text += part.strata[name].tolist() if name in part.strata else [None] * len(part.label)
    return pa.array(text, pa.string()).dictionary_encode()


def _parts(table: pa.Table, maker: Maker, classes: tuple[str, ...]) -> Iterator[Predictions]:
    image = np.frombuffer(b"".join(table["image"].to_pylist()), np.uint8).reshape(-1, 32)
    cohort = _text(table["cohort"])
    integers = {name: table[name].to_numpy() for name in _INTEGERS}
    has_probability = any(name.startswith(PROBABILITY) for name in table.column_names)
    columns = [table[PROBABILITY + name].to_numpy() for name in classes if has_probability]
    strata = {
        name.removeprefix(STRATUM): table[name]
        for name in table.column_names
        if name.startswith(STRATUM)
    }
    for name in np.unique(cohort):
        rows = cohort == name
        yield Predictions(
            maker=maker,
            cohort=str(name),
            classes=classes,
            image=image[rows],
            probability=np.column_stack(columns)[rows] if columns else None,
            strata={k: _text(v)[rows] for k, v in strata.items() if _given(v, rows)},
            **{key: value[rows] for key, value in integers.items()},
        )


def _text(column: pa.ChunkedArray) -> NDArray[np.str_]:
    codes = column.combine_chunks().dictionary_encode()
    values: NDArray[np.str_] = np.array(codes.dictionary.to_pylist() or [""], np.str_)
    code: NDArray[np.intp] = codes.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return values[code]


def _given(column: pa.ChunkedArray, rows: NDArray[np.bool_]) -> bool:
    return not column.is_null().to_numpy()[rows].any()


def _int8() -> Any:
    import pyarrow as pa

    return pa.int8()


def _int16() -> Any:
    import pyarrow as pa

    return pa.int16()


def _int64() -> Any:
    import pyarrow as pa

    return pa.int64()


_INTEGERS = {"fold": _int8, "cluster": _int64, "label": _int16, "predicted": _int16}
