"""metrics.csv, comparisons.csv and reliability.csv: frozen rows to CSV and back, strictly.

A column a field (`class` for `class_`); floats as Python prints them, which round-trips; an empty
cell is None. Whoever edits a header or a cell hears of it on reading.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from embedcache.durable import write_file
from embedcache.errors import PathMissingError, SchemaError
from embedcache.results.layout import ResultsFolder
from embedcache.results.tables import ComparisonRow, MetricRow, ReliabilityRow
from embedcache.schema import from_plain, read_csv_rows, shown

Row = TypeVar("Row", MetricRow, ComparisonRow, ReliabilityRow)


def write_metrics(folder: ResultsFolder, rows: Sequence[MetricRow]) -> None:
    """Replace metrics.csv."""
    write_file(folder.metrics_file, _text(rows, MetricRow))


def read_metrics(folder: ResultsFolder) -> tuple[MetricRow, ...]:
    """Read metrics.csv.

    Raises:
        PathMissingError: if nothing has been evaluated.
        SchemaError: on another header or a cell that does not fit its column.
    """
    return _read(folder.metrics_file, MetricRow)


def write_comparisons(folder: ResultsFolder, rows: Sequence[ComparisonRow]) -> None:
    """Replace comparisons.csv."""
    write_file(folder.comparisons_file, _text(rows, ComparisonRow))


def read_comparisons(folder: ResultsFolder) -> tuple[ComparisonRow, ...]:
    """Read comparisons.csv; raises as `read_metrics` does."""
    return _read(folder.comparisons_file, ComparisonRow)


def write_reliability(folder: ResultsFolder, rows: Sequence[ReliabilityRow]) -> None:
    """Replace reliability.csv."""
    write_file(folder.reliability_file, _text(rows, ReliabilityRow))


def read_reliability(folder: ResultsFolder) -> tuple[ReliabilityRow, ...]:
    """Read reliability.csv; raises as `read_metrics` does."""
    return _read(folder.reliability_file, ReliabilityRow)


def _columns(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name.rstrip("_") for field in dataclasses.fields(kind))


def _text(rows: Sequence[Row], kind: type[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_columns(kind))
    names = [field.name for field in dataclasses.fields(kind)]
    writer.writerows([_cell(getattr(row, name)) for name in names] for row in rows)
    return text.getvalue().encode("utf-8")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a table holds no {value}; a number that does not exist is None")
        return repr(float(value))
    return str(value)


def _read(file: Path, kind: type[Row]) -> tuple[Row, ...]:
    if not file.is_file():
        raise PathMissingError("the table", file)
    header, *lines = read_csv_rows(file) or [[]]
    if tuple(header) != _columns(kind):
        raise SchemaError(
            file.name, "the header", f"is {shown(header)}, not {list(_columns(kind))}"
        )
    hints = typing.get_type_hints(kind)
    return tuple(
        _row(kind, hints, line, f"{file.name}, line {number}")
        for number, line in enumerate(lines, start=2)
    )


def _row(kind: type[Row], hints: dict[str, Any], line: list[str], where: str) -> Row:
    if len(line) != len(hints):
        raise SchemaError(where, "", f"has {len(line)} cells, not {len(hints)}")
    cells = zip(hints.items(), line, strict=True)
    values = {name: _parsed(hint, cell, where, name) for (name, hint), cell in cells}
    return from_plain(kind, values, where)


def _parsed(hint: Any, cell: str, where: str, name: str) -> object:
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if not cell and type(None) in options:
        return None
    parse = _PARSERS.get(options[0])
    try:
        return cell if parse is None else parse(cell)
    except (ValueError, KeyError) as error:
        raise SchemaError(where, name.rstrip("_"), f"is {shown(cell)}") from error


_PARSERS: dict[Any, Any] = {
    int: int,
    float: float,
    bool: {"true": True, "false": False}.__getitem__,
}
