"""Anyone's prediction table as columns: CSV as people save it, or Parquet.

Everything but numbers is read as text: patient 007 is not patient 7. A CSV may be separated by
commas, semicolons or tabs; with semicolons a decimal comma is understood (0,95), as spreadsheets
in much of Europe write it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import (
    BadCellsError,
    EmptyTableError,
    NotATableError,
    PathMissingError,
    TableColumnError,
)
from embedcache.results.columns import METADATA

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ForeignTable:
    """A table of text and numbers; row numbers in errors are those a spreadsheet shows.

    Attributes:
        file: where it came from.
        columns: text of each cell by column, empty where there is none.
        decimal: decimal mark of its numbers.
        first_row: number of the first row of data.
    """

    file: Path
    columns: dict[str, list[str]]
    decimal: str = "."
    first_row: int = 2

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def text(self, name: str) -> NDArray[np.str_]:
        """A column that every row must fill, without the spaces around it, (n,) str.

        Raises:
            TableColumnError: if there is no such column.
            BadCellsError: if a cell is empty.
        """
        if name not in self.columns:
            raise TableColumnError(self.file, name, tuple(self.columns))
        values = np.array(self.columns[name], np.str_)
        self.refuse(values == "", name, "are empty")
        return values

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of finite numbers, (n,) float64.

        Raises:
            BadCellsError: if a cell is none.
        """
        cells = [cell.replace(self.decimal, ".") for cell in self.columns[name]]
        values = np.array([_number(cell) for cell in cells], np.float64)
        self.refuse(~np.isfinite(values), name, "hold no finite number")
        return values

    def refuse(self, bad: NDArray[np.bool_], column: str, problem: str) -> None:
        """Raise if any row is bad, naming how many and the first.

        Raises:
            BadCellsError: if so.
        """
        if bad.any():
            first = self.first_row + int(np.flatnonzero(bad)[0])
            raise BadCellsError(self.file, column, int(bad.sum()), first, problem)


def read_tables(place: Path) -> list[ForeignTable]:
    """Read one table, or every table of a folder in order of name.

    Raises:
        PathMissingError: if there is nothing there.
        NotATableError: if a file is no CSV or Parquet table, or one of our own units.
        EmptyTableError: if there are no rows.
    """
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix.lower() in SUFFIXES)
        if not files:
            raise EmptyTableError(place, f"no {', '.join(SUFFIXES)} file")
    elif place.is_file():
        files = [place]
    else:
        raise PathMissingError("the prediction table", place)
    return [_read(file) for file in files]


def _read(file: Path) -> ForeignTable:
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise NotATableError(file, f"is none of {', '.join(SUFFIXES)}")
    table = _read_parquet(file) if suffix == ".parquet" else _read_csv(file)
    if not table.columns or not len(table):
        raise EmptyTableError(file, "no rows")
    return table


def _read_csv(file: Path) -> ForeignTable:
    try:
        text = file.read_text("utf-8-sig")  # a spreadsheet begins its UTF-8 with a mark
    except UnicodeDecodeError as error:
        raise NotATableError(file, "is not UTF-8; save it as 'CSV UTF-8'") from error
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        read = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise NotATableError(file, f"is no CSV: {error}") from error
    header, *lines = read or [[]]
    header = [name.strip() for name in header]
    _check_header(file, header)
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=2):
        if len(line) != len(header):
            raise NotATableError(
                file, f"has {len(line)} cells in row {number}, but {len(header)} columns"
            )
    columns = {name: [line[i].strip() for line in lines] for i, name in enumerate(header)}
    return ForeignTable(file=file, columns=columns, decimal="," if delimiter == ";" else ".")


def _read_parquet(file: Path) -> ForeignTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file, partitioning=None)
        table.validate(full=True)
        names = table.column_names  # bytes until they are asked for
    except (pa.ArrowException, OSError, ValueError) as error:
        said = " ".join(str(error).split())[:200]
        raise NotATableError(file, f"is no Parquet file ({said})") from error
    if METADATA in (table.schema.metadata or {}):
        raise NotATableError(
            file, "belongs to a results folder; name that folder, or `compare` and `report` it"
        )
    _check_header(file, names)
    columns = {name: _cells(file, name, table[name]) for name in names}
    return ForeignTable(file=file, columns=columns, first_row=1)


def _cells(file: Path, name: str, column: pa.ChunkedArray) -> list[str]:
    import pyarrow as pa

    try:
        return [_cell(value) for value in column.to_pylist()]
    # Python has no nanoseconds, no year 10,000, and not every machine all time zones.
    except (pa.ArrowException, ValueError, OverflowError) as error:
        problem = f"has values in its column {name!r} that cannot be read; write them as text"
        raise NotATableError(file, problem) from error


def _check_header(file: Path, header: Sequence[str]) -> None:
    twice = sorted({name for name in header if list(header).count(name) > 1})
    if twice:
        raise NotATableError(file, f"has two columns {twice[0]!r}")


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):  # pandas writes a missing number as NaN
        return "" if math.isnan(value) else repr(value)
    return str(value).strip()


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return float("nan")
