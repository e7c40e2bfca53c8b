"""folds.parquet: which fold tests which image; every arm of the folder reads it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from embedcache.durable import write_file
from embedcache.errors import PredictionsFileError
from embedcache.protocol.folds import Folds
from embedcache.results.columns import read_columns
from embedcache.results.layout import ResultsFolder

_STRATUM = "stratum:"
_REPEAT = "fold:"


def write_folds(folder: ResultsFolder, folds: Folds) -> None:
    """Write folds.parquet, durably; `write_record` has refused other folds before."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "image": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(folds.image), [None, pa.py_buffer(folds.image.tobytes())]
        ),
        "label": folds.label,
        "cluster": folds.cluster,
    }
    for repeat in range(folds.fold.shape[1]):
        columns[f"{_REPEAT}{repeat}"] = folds.fold[:, repeat]
    for name, values in folds.strata.items():
        columns[_STRATUM + name] = pa.array(values.tolist(), pa.string()).dictionary_encode()
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    write_file(folder.folds_file, buffer.getvalue())


def read_folds(folder: ResultsFolder) -> Folds:
    """Read folds.parquet.

    Raises:
        PredictionsFileError: if it is missing or damaged.
        LeakError: if it parts the images of a patient cluster.
    """
    columns = read_columns(folder.folds_file)
    repeats = columns.starting(_REPEAT).values()
    if not repeats:
        raise PredictionsFileError(folder.folds_file, f"lacks the column {_REPEAT + '0'!r}")
    cluster = columns.whole("cluster", np.int64, 0)
    clusters = len(np.unique(cluster))
    return Folds(
        image=columns.digests("image"),
        label=columns.whole("label", np.int16, 0),
        cluster=columns.whole("cluster", np.int64, 0, clusters),  # so that none is left out
        fold=np.column_stack([columns.whole(name, np.int8, -1) for name in repeats]),
        strata={name: columns.text(column) for name, column in columns.starting(_STRATUM).items()},
    )
