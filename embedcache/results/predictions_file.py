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
from embedcache.results.columns import METADATA, Columns, read_columns
from embedcache.results.layout import ResultsFolder
from embedcache.results.predictions import Predictions
from embedcache.results.record import Maker
from embedcache.schema import canonical_json

if TYPE_CHECKING:
    import pyarrow as pa

PROBABILITY = "probability:"
STRATUM = "stratum:"
#: How far a class's probability may be off: a foreign table's are rounded to three decimals.
_ROUNDED = 1e-3


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
    columns = read_columns(file)
    return tuple(_parts(columns, columns.head(_Head)))


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


def _parts(columns: Columns, head: _Head) -> Iterator[Predictions]:
    image, cohort = columns.digests("image"), columns.text("cohort")
    classes = len(head.classes)
    integers = {
        "fold": columns.whole("fold", np.int8, -1),
        "cluster": columns.whole("cluster", np.int64, 0),
        "label": columns.whole("label", np.int16, 0, classes),
        "predicted": columns.whole("predicted", np.int16, 0, classes),
    }
    probability = _probability(columns, head.classes)
    strata = {
        name: columns.text_where_given(column) for name, column in columns.starting(STRATUM).items()
    }
    for name in np.unique(cohort):
        rows = cohort == name
        yield Predictions(
            maker=head.maker,
            cohort=str(name),
            classes=head.classes,
            image=image[rows],
            probability=None if probability is None else probability[rows],
            strata={k: text[rows] for k, (text, given) in strata.items() if given[rows].all()},
            **{key: value[rows] for key, value in integers.items()},
        )


def _probability(columns: Columns, classes: tuple[str, ...]) -> NDArray[np.float64] | None:
    if not columns.starting(PROBABILITY):
        return None
    value = np.column_stack([columns.probabilities(PROBABILITY + name) for name in classes])
    if (np.abs(value.sum(axis=1) - 1) > _ROUNDED * len(classes)).any():
        raise PredictionsFileError(columns.file, "holds probabilities that do not sum to one")
    return value


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
