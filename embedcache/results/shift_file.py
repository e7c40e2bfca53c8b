"""shift/ in a results folder: how far apart cohorts lie for each encoder, and encoders agree.

`shift/shift.json` holds all numbers and names the map of each encoder; `shift/maps/UNIT.parquet`
is a map: `image` (32 bytes), `cohort`, `label`, `site`, `x`, `y`, with the encoder's own numbers as
JSON in the file's metadata. Maps are never rewritten, shift.json is replaced.
"""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import write_file
from embedcache.errors import PathMissingError, SchemaError
from embedcache.provenance import Provenance
from embedcache.results.columns import METADATA, read_columns
from embedcache.results.layout import ResultsFolder
from embedcache.schema import canonical_json, from_json, plain


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortAuroc:
    """How well one encoder's features tell two cohorts apart.

    Attributes:
        first: a cohort.
        other: another.
        classes: both cohorts' own, whose images alone are told apart; none: all images.
        first_images: of the first cohort.
        other_images: of the other.
        clusters: patient clusters of both.
        auroc: pooled out-of-fold over patient folds: .5 where nothing tells them apart.
        fold_low: lowest of the folds.
        fold_high: highest.
        note: why there is no number; empty where there is one.
    """

    first: str
    other: str
    classes: tuple[str, ...]
    first_images: int
    other_images: int
    clusters: int
    auroc: float | None
    fold_low: float | None
    fold_high: float | None
    note: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Agreement:
    """Linear CKA of two encoders on the same images.

    Attributes:
        encoder: an encoder.
        other: another.
        cohort: whose images; empty: all cohorts'.
        images: how many.
        cka: from 0 to 1; grows towards 1 where dimensions outnumber images.
        cka_debiased: without that; may lie below 0. None for fewer than four images.
    """

    encoder: str
    other: str
    cohort: str
    images: int
    cka: float
    cka_debiased: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderShift:
    """One encoder's own numbers.

    Attributes:
        encoder: its reference.
        feature_id: of its features.
        unit: name of its map in `maps/`.
        images: on the map.
        explained: shares of the variance of its standardised features along the map's two axes.
        cohorts: each pair of cohorts.
    """

    encoder: str
    feature_id: str
    unit: str
    images: int
    explained: tuple[float, ...]
    cohorts: tuple[CohortAuroc, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shift:
    """The content of shift.json.

    Attributes:
        encoders: each encoder.
        agreement: each pair of encoders, over all images and in each cohort.
        provenance: of the process that wrote it.
        format_version: of this layout.
    """

    encoders: tuple[EncoderShift, ...]
    agreement: tuple[Agreement, ...]
    provenance: Provenance
    format_version: int = 1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Map:
    """Images of all cohorts on the two main axes of one encoder's features.

    Attributes:
        image: digests, (n, 32) uint8.
        cohort: (n,) str.
        label: name of the class, empty where there is none, (n,) str.
        site: (n,) str, empty without.
        x: along the first axis, (n,) float64.
        y: along the second.
    """

    image: NDArray[np.uint8]
    cohort: NDArray[np.str_]
    label: NDArray[np.str_]
    site: NDArray[np.str_]
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def shift_file(folder: ResultsFolder) -> Path:
    """Where all numbers lie."""
    return folder.path / "shift" / "shift.json"


def map_file(folder: ResultsFolder, unit: str) -> Path:
    """Where a map lies."""
    return folder.path / "shift" / "maps" / f"{unit}.parquet"


def write_shift(folder: ResultsFolder, shift: Shift) -> Path:
    """Replace shift.json; gives its path."""
    file = shift_file(folder)
    text = json.dumps(plain(shift), indent=2, sort_keys=True, allow_nan=False)
    write_file(file, f"{text}\n".encode("ascii"))
    return file


def read_shift(folder: ResultsFolder) -> Shift:
    """Read shift.json.

    Raises:
        PathMissingError: if nobody has computed it.
        SchemaError: if it is damaged.
    """
    file = shift_file(folder)
    if not file.is_file():
        raise PathMissingError("the shift of the cohorts", file)
    shift = from_json(Shift, file.read_bytes(), file.name)
    for index, one in enumerate(shift.encoders):
        if re.fullmatch(r"[\w-]{1,64}", one.unit) is None:  # it must not lead elsewhere
            raise SchemaError(file.name, f"encoders[{index}].unit", "is no name of a map")
    return shift


def write_map(file: Path, encoder: EncoderShift, points: Map) -> None:
    """Write one encoder's map and numbers, durably."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "image": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(points.image), [None, pa.py_buffer(points.image.tobytes())]
        ),
        **{
            name: pa.array(getattr(points, name).tolist(), pa.string()).dictionary_encode()
            for name in ("cohort", "label", "site")
        },
        "x": points.x,
        "y": points.y,
    }
    table = pa.table(columns).replace_schema_metadata({METADATA: canonical_json(encoder)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_file(file, buffer.getvalue())


def read_map(file: Path) -> tuple[EncoderShift, Map]:
    """Read one encoder's numbers and map.

    Raises:
        PredictionsFileError: if the file is damaged, or not one of ours.
    """
    columns = read_columns(file)
    return columns.head(EncoderShift), Map(
        image=columns.digests("image"),
        cohort=columns.text("cohort"),
        label=columns.text("label"),
        site=columns.text("site"),
        x=columns.numbers("x"),
        y=columns.numbers("y"),
    )
