"""Label efficiency on disk: efficiency/ARM/ENCODER/UNIT.parquet, one draw of patients a file.

Columns: `image` (32 bytes), `cohort`, `fold`, `cluster`, `label`, `site`, and `predicted:N` for N
patients a class. Classes alone and no probabilities: what is said of few patients is said in
confusion counts, and the file stays a fiftieth of what it were. Class list, `Maker` and the draw's
number lie as JSON in the file's own metadata.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import write_file
from embedcache.errors import PredictionsFileError
from embedcache.results.columns import METADATA, read_columns
from embedcache.results.layout import ResultsFolder, folder_name
from embedcache.results.record import Maker
from embedcache.schema import canonical_json

_PREDICTED = "predicted:"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FewPredictions:
    """What models of few patients say of one cohort, in one draw of these patients.

    Attributes:
        maker: encoder, arm and whatever else made them.
        repeat: number of the draw.
        cohort: whose images.
        classes: what `label` and `predicted` index.
        image: digests, (n, 32) uint8.
        label: true class, (n,) int16.
        cluster: patient cluster within the cohort, (n,) int64.
        site: of each image, empty without sites, (n,) str.
        fold: whose training set the patients were drawn from, (n,) int8.
        patients: patients a class, (s,).
        predicted: class predicted, among those that the cohort has, (s, n) int16.
    """

    maker: Maker
    repeat: int
    cohort: str
    classes: tuple[str, ...]
    image: NDArray[np.uint8]
    label: NDArray[np.int16]
    cluster: NDArray[np.int64]
    site: NDArray[np.str_]
    fold: NDArray[np.int8]
    patients: tuple[int, ...]
    predicted: NDArray[np.int16]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Head:
    """What the parts of a draw share."""

    maker: Maker
    classes: tuple[str, ...]
    repeat: int


def efficiency_folder(folder: ResultsFolder, arm: str, encoder: str) -> Path:
    """Where one encoder's draws lie."""
    return folder.path / "efficiency" / folder_name(arm) / folder_name(encoder)


def efficiency_files(folder: ResultsFolder) -> tuple[Path, ...]:
    """Every finished draw, sorted."""
    return tuple(sorted((folder.path / "efficiency").glob("*/*/*.parquet")))


def write_few(file: Path, parts: Sequence[FewPredictions]) -> None:
    """Write one draw, a part a cohort, durably; a file that exists is left alone."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file.exists():
        return
    first = parts[0]
    image = np.concatenate([part.image for part in parts])
    cohort = np.repeat([part.cohort for part in parts], [len(part.label) for part in parts])
    columns = {
        "image": pa.FixedSizeBinaryArray.from_buffers(
            pa.binary(32), len(image), [None, pa.py_buffer(image.tobytes())]
        ),
        "cohort": pa.array(cohort.tolist(), pa.string()).dictionary_encode(),
        "fold": np.concatenate([part.fold for part in parts]),
        "cluster": np.concatenate([part.cluster for part in parts]),
        "label": np.concatenate([part.label for part in parts]),
        "site": pa.array(
            np.concatenate([part.site for part in parts]).tolist(), pa.string()
        ).dictionary_encode(),
    }
    for index, patients in enumerate(first.patients):
        columns[f"{_PREDICTED}{patients}"] = np.concatenate([p.predicted[index] for p in parts])
    head = _Head(maker=first.maker, classes=first.classes, repeat=first.repeat)
    table = pa.table(columns).replace_schema_metadata({METADATA: canonical_json(head)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    write_file(file, buffer.getvalue())


def read_few(file: Path) -> tuple[FewPredictions, ...]:
    """Read one draw: one part a cohort, sorted by cohort.

    Raises:
        PredictionsFileError: if the file is not one of ours, or damaged.
    """
    columns = read_columns(file)
    head = columns.head(_Head)
    classes = len(head.classes)
    names = {_patients(file, text): name for text, name in columns.starting(_PREDICTED).items()}
    if not names:
        raise PredictionsFileError(file, f"lacks columns {_PREDICTED}N")
    image, cohort, site = columns.digests("image"), columns.text("cohort"), columns.text("site")
    predicted = np.stack([columns.whole(one, np.int16, 0, classes) for one in names.values()])
    number = {
        "fold": columns.whole("fold", np.int8, 0),
        "cluster": columns.whole("cluster", np.int64, 0),
        "label": columns.whole("label", np.int16, 0, classes),
    }
    return tuple(
        FewPredictions(
            maker=head.maker,
            repeat=head.repeat,
            cohort=str(name),
            classes=head.classes,
            image=image[rows],
            site=site[rows],
            patients=tuple(names),
            predicted=predicted[:, rows],
            **{field: values[rows] for field, values in number.items()},
        )
        for name in np.unique(cohort)
        for rows in [cohort == name]
    )


def _patients(file: Path, text: str) -> int:
    if re.fullmatch("[1-9][0-9]{0,8}", text) is None:
        raise PredictionsFileError(file, f"has a column {_PREDICTED}{text[:20]!r}")
    return int(text)
