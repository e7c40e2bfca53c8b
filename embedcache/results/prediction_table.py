"""A prediction table for people and other programs: CSV or Parquet, as `evaluate` reads it."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import write_file
from embedcache.errors import FileInTheWayError, NotATableNameError
from embedcache.results.predictions_file import PROBABILITY, STRATUM

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class PredictionTable:
    """Probabilities of one model on one cohort, a row an image.

    Attributes:
        encoder: of the model.
        arm: how it was made.
        cohort: whose images.
        classes: what the columns of `probability` are.
        image: digests in hex, (n,).
        cluster: patient cluster, (n,) int64.
        label: name of the true class, empty where there is none, (n,).
        probability: (n, c) float64.
        strata: text by name, (n,) str.
    """

    encoder: str
    arm: str
    cohort: str
    classes: tuple[str, ...]
    image: tuple[str, ...]
    cluster: NDArray[np.int64]
    label: tuple[str, ...]
    probability: NDArray[np.float64]
    strata: dict[str, NDArray[np.str_]]


def check_place(file: Path) -> None:
    """Make sure, before any work, that a table can be written to a file.

    Raises:
        NotATableNameError: if its name ends in neither `.csv` nor `.parquet`.
        FileInTheWayError: if there is something already.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise NotATableNameError(file, SUFFIXES)
    if file.exists():
        raise FileInTheWayError("the prediction table", file)


def write_table(file: Path, table: PredictionTable) -> None:
    """Write a table, durably; the suffix chooses the format. Raises as `check_place`."""
    check_place(file)
    columns = _columns(table)
    if file.suffix.lower() == ".csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
        write_file(file, text.getvalue().encode("utf-8"))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    write_file(file, buffer.getvalue())


def _columns(table: PredictionTable) -> dict[str, list[Any]]:
    rows = len(table.image)
    predicted = table.probability.argmax(axis=1).tolist()
    return {
        "image": list(table.image),
        "cohort": [table.cohort] * rows,
        "cluster": table.cluster.tolist(),
        "label": list(table.label),
        "encoder": [table.encoder] * rows,
        "arm": [table.arm] * rows,
        "predicted": [table.classes[k] for k in predicted],
        **{
            f"{PROBABILITY}{name}": table.probability[:, k].tolist()
            for k, name in enumerate(table.classes)
        },
        **{f"{STRATUM}{name}": values.tolist() for name, values in table.strata.items()},
    }
