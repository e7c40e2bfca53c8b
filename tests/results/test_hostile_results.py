"""A results folder from a stranger, or damaged: an embedcache error of a line, or what it says."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa  # noqa: TID253  # nothing here runs without it
import pyarrow.parquet as pq  # noqa: TID253  # likewise
import pytest

from embedcache.contract import Contract, Preprocessing
from embedcache.errors import EmbedcacheError, PredictionsFileError, SchemaError
from embedcache.protocol.folds import Folds
from embedcache.protocol.protocol import Protocol
from embedcache.provenance import provenance
from embedcache.results.columns import METADATA
from embedcache.results.curves_file import CurveRow, read_curves, write_curve
from embedcache.results.efficiency_file import FewPredictions, read_few, write_few
from embedcache.results.folds_file import read_folds, write_folds
from embedcache.results.layout import ResultsFolder, read_record, write_record
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import read_unit, write_predictions
from embedcache.results.record import CohortRecord, Maker, Record
from embedcache.results.rows_file import read_metrics, write_metrics
from embedcache.results.shift_file import (
    EncoderShift,
    Map,
    Shift,
    read_map,
    read_shift,
    shift_file,
    write_map,
    write_shift,
)
from embedcache.results.tables import MetricRow
from embedcache.schema import plain
from embedcache.testing.hostile_store import everywhere, is_sentence

N = 4
DIGEST = np.arange(N * 32, dtype=np.uint8).reshape(N, 32)
TEXT = np.array(["Ghana"] * N)
CLASSES = ("a", "b")
STEPS = Preprocessing(height=8, width=8, mean=(0.5,), std=(0.5,))
CONTRACT = Contract(
    architecture="x", code="1", weights="none", preprocessing=STEPS, pooling="none", dim=4
)
MAKER = Maker(encoder="e", arm="linear-probe", contract=CONTRACT, settings={"C": 0.1})
ENCODER = EncoderShift(
    encoder="e",
    feature_id="f",
    unit="u",
    images=N,
    explained=(0.5, 0.2),
    cohorts=(),
)
INTEGERS = {
    "label": np.array([0, 1, 0, 1], np.int16),
    "cluster": np.array([0, 1, 1, 2]),
    "fold": np.array([0, 1, 1, 0], np.int8),
}


def predictions(file: Path) -> None:
    part = Predictions(
        maker=MAKER,
        cohort="home",
        classes=CLASSES,
        image=DIGEST,
        predicted=INTEGERS["label"],
        probability=np.full((N, 2), 0.5),
        strata={"site": TEXT},
        **INTEGERS,
    )
    write_predictions(file, (part,))


def few(file: Path) -> None:
    part = FewPredictions(
        maker=MAKER,
        repeat=0,
        cohort="home",
        classes=CLASSES,
        image=DIGEST,
        site=TEXT,
        patients=(1, 2),
        predicted=np.stack([INTEGERS["label"]] * 2),
        **INTEGERS,
    )
    write_few(file, (part,))


def a_map(file: Path) -> None:
    number = np.arange(N) / 2
    points = Map(image=DIGEST, cohort=TEXT, label=TEXT, site=TEXT, x=number, y=number)
    write_map(file, ENCODER, points)


def folds(file: Path) -> None:
    columns = {**INTEGERS, "fold": INTEGERS["fold"][:, np.newaxis]}
    write_folds(ResultsFolder(file.parent), Folds(image=DIGEST, strata={"site": TEXT}, **columns))


@dataclass(frozen=True)
class Kind:
    """A Parquet file of ours: what writes and what reads it."""

    name: str
    write: Callable[[Path], None]
    read: Callable[[Path], object]


KINDS = [
    Kind("unit.parquet", predictions, read_unit),
    Kind("few.parquet", few, read_few),
    Kind("map.parquet", a_map, read_map),
    Kind("folds.parquet", folds, lambda file: read_folds(ResultsFolder(file.parent))),
]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request) -> Kind:
    return request.param


def other_columns() -> Iterator[pa.Array]:
    """Columns that none of ours is."""
    broken = pa.py_buffer(np.arange(N + 1, dtype=np.int32).tobytes())
    yield pa.Array.from_buffers(pa.string(), N, [None, broken, pa.py_buffer(b"\xff" * N)])
    beyond = pa.DictionaryArray.from_arrays(pa.array([9] * N), ["x"], safe=False)
    yield from (beyond, pa.nulls(N), pa.array([None, *[1] * (N - 1)]))
    yield from (pa.array([value] * N) for value in (float("nan"), -5, [1], {"a": 1}, b"\xff"))
    yield from (pa.array([True] * N), pa.array([datetime.date(2026, 1, 1)] * N))
    yield pa.array([2**64 - 1] * N, pa.uint64())
    yield pa.array([b"\xff" * 31] * N, pa.binary(31))


def test_a_column_of_anything_else_is_refused_by_name(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / kind.name
    kind.write(file)
    table = pq.read_table(file, partitioning=None)
    optional = {"stratum:site"} if kind.name == "unit.parquet" else set()
    for place, name in enumerate(table.column_names):
        for column in other_columns():
            if name in optional and column.null_count:
                continue  # a stratum that some cohort lacks
            other = table.set_column(place, name, column)
            pq.write_table(other.replace_schema_metadata(table.schema.metadata), file)
            with pytest.raises(PredictionsFileError) as caught:
                kind.read(file)
            assert is_sentence(str(caught.value))


def test_a_column_that_is_gone_or_there_twice_is_named(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / kind.name
    kind.write(file)
    table = pq.read_table(file, partitioning=None)
    for name in ("image", "label"):
        place = table.column_names.index(name)
        twice = table.append_column(name, table.column(place))
        for other in (table.remove_column(place), twice):
            pq.write_table(other, file)
            with pytest.raises(PredictionsFileError, match=name):
                kind.read(file)


def test_probabilities_that_do_not_sum_to_one_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "unit.parquet"
    predictions(file)
    table = pq.read_table(file, partitioning=None)
    place = table.column_names.index("probability:a")
    for value in (0.4, 1.0, 1.5, -0.1):
        other = table.set_column(place, "probability:a", pa.array([value] * N))
        pq.write_table(other.replace_schema_metadata(table.schema.metadata), file)
        with pytest.raises(PredictionsFileError, match="probabilities"):
            read_unit(file)


@pytest.mark.parametrize("kind", KINDS[:3], ids=lambda kind: kind.name)
def test_a_head_with_anything_anywhere_is_refused_or_read(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / kind.name
    kind.write(file)
    table = pq.read_table(file, partitioning=None)
    head = json.loads(table.schema.metadata[METADATA])
    # Every seventh: each place and each value still comes.
    for text in itertools.islice(everywhere(head), 0, None, 7):
        pq.write_table(table.replace_schema_metadata({METADATA: text}), file)
        refused_or_read(lambda: kind.read(file))


def test_any_byte_changed_or_cut_is_refused_or_read(kind: Kind, tmp_path: Path) -> None:
    file = tmp_path / kind.name
    kind.write(file)
    whole = file.read_bytes()
    draw = np.random.default_rng(0)
    for place in draw.integers(len(whole), size=60).tolist():
        flipped = bytes([whole[place] ^ 1 << int(draw.integers(8))])
        for damaged in (whole[:place], whole[:place] + flipped + whole[place + 1 :]):
            file.write_bytes(damaged)
            refused_or_read(lambda: kind.read(file))


def refused_or_read(read: Callable[[], Any]) -> None:
    with contextlib.suppress(EmbedcacheError):
        try:
            read()
        except EmbedcacheError as error:
            text = str(error)
            assert is_sentence(text), text[:5_000]
            raise


RECORD = Record(
    protocol=Protocol(train="home", external=("abroad",), merges={"a": ("b",)}),
    classes=CLASSES,
    folds_sha256="0" * 64,
    cohorts=(
        CohortRecord(
            name="home",
            reader="folder",
            citation="",
            licence="",
            synthetic=False,
            rows=4,
            images=4,
            patients=3,
            clusters=3,
            strata=("site",),
            left_out={"listed twice": 1},
        ),
    ),
    provenance=provenance(),
)


def test_a_protocol_with_anything_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    write_record(folder, RECORD)
    for text in itertools.islice(everywhere(plain(RECORD)), 0, None, 3):
        folder.protocol_file.write_bytes(text)
        refused_or_read(lambda: read_record(folder))


def test_a_shift_with_anything_anywhere_is_refused_or_read(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    shift = Shift(encoders=(ENCODER,), agreement=(), provenance=provenance())
    write_shift(folder, shift)
    for text in everywhere(plain(shift)):
        shift_file(folder).write_bytes(text)
        refused_or_read(lambda: read_shift(folder))


@pytest.mark.parametrize("unit", ["../../elsewhere", "/etc/passwd", "", "a/b", "..", "x" * 300])
def test_a_map_s_name_never_leads_out_of_the_folder(unit: str, tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    one = dataclasses.replace(ENCODER, unit=unit)
    write_shift(folder, Shift(encoders=(one,), agreement=(), provenance=provenance()))
    with pytest.raises(SchemaError, match="is no name of a map"):
        read_shift(folder)


NOT_CSV = [b"", b"\xff\xfe", b"\x00", b'"', b"x" * 200_000, b"a,b\n1,2\n"]


@pytest.mark.parametrize("content", NOT_CSV, ids=range(len(NOT_CSV)))
def test_tables_of_other_bytes_are_refused(content: bytes, tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    curve = tmp_path / "curves/fine-tune/e/u.csv"
    write_metrics(folder, ())
    write_curve(curve, ())
    for file, read in ((folder.metrics_file, read_metrics), (curve, read_curves)):
        file.write_bytes(content)
        with pytest.raises(SchemaError) as caught:
            read(folder)
        assert is_sentence(str(caught.value))


@pytest.mark.parametrize("cell", ["nan", "inf", "1e999", "x", ""])
def test_a_number_that_is_none_is_refused_in_a_table(cell: str, tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    row = MetricRow(
        arm="knn",
        encoder="e",
        cohort="c",
        estimand="oof",
        class_rule="restricted",
        metric="macro-f1",
        value=0.625,
        images=1,
        clusters=1,
    )
    write_metrics(folder, (row,))
    text = folder.metrics_file.read_text()
    folder.metrics_file.write_text(text.replace("0.625", cell))
    if cell:
        with pytest.raises(SchemaError, match="value"):
            read_metrics(folder)
    curve = tmp_path / "curves/fine-tune/e/u.csv"
    columns = {field.name: 1 for field in dataclasses.fields(CurveRow)}
    write_curve(curve, (CurveRow(**{**columns, "loss": 0.625}),))
    curve.write_text(curve.read_text().replace("0.625", cell))
    with pytest.raises(SchemaError):
        read_curves(folder)
