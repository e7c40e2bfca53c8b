"""folds.parquet: which fold tests which image; every arm of the folder reads it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from embedcache.durable import write_file
from embedcache.errors import PredictionsFileError
from embedcache.protocol.folds import Folds
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(folder.folds_file, partitioning=None)
    except (pa.ArrowException, OSError) as error:
        raise PredictionsFileError(folder.folds_file, f"cannot be read ({error})") from error
    repeats = [name for name in table.column_names if name.startswith(_REPEAT)]
    strata = [name for name in table.column_names if name.startswith(_STRATUM)]
    image = np.frombuffer(b"".join(table["image"].to_pylist()), np.uint8).reshape(-1, 32)
    return Folds(
        image=image,
        label=table["label"].to_numpy(),
        cluster=table["cluster"].to_numpy(),
        fold=np.column_stack([table[name].to_numpy() for name in repeats]),
        strata={
            name.removeprefix(_STRATUM): np.array(table[name].to_pylist(), np.str_)
            for name in strata
        },
    )
