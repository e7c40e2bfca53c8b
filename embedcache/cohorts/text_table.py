"""A publisher's table as columns of text: CSV as spreadsheets and databases write it, Parquet."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedcache.errors import (
    ColumnMissingError,
    EmptyCohortError,
    PathMissingError,
    SchemaError,
    TableUnreadableError,
)

#: Delimiters that are looked for in a header.
_DELIMITERS = ",;\t|"


@dataclass(frozen=True, kw_only=True, slots=True)
class TextTable:
    """A table whose cells are all text, stripped of the space around them.

    Attributes:
        file: where it was read.
        columns: cells by column name; all columns have as many.
    """

    file: Path
    columns: dict[str, tuple[str, ...]]

    def column(self, spelled: str | tuple[str, ...], key: str) -> tuple[str, ...]:
        """Give one column, or several joined to one key with `/` (a `/` within is doubled).

        Args:
            spelled: the table's name or names.
            key: the word for it in a cohort file's `columns`.

        Raises:
            SchemaError: if there is no name.
            ColumnMissingError: if the table lacks it.
        """
        names = (spelled,) if isinstance(spelled, str) else spelled
        if not names:
            raise SchemaError("the cohort file", f"columns.{key}", "names no column")
        for name in names:
            if name not in self.columns:
                raise ColumnMissingError(self.file, name, tuple(self.columns), key)
        return joined([self.columns[name] for name in names])


def joined(parts: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Join columns to one key a row; a key with an empty part is empty."""
    if len(parts) == 1:
        return tuple(parts[0])
    rows = zip(*parts, strict=True)
    return tuple("/".join(p.replace("/", "//") for p in row) if all(row) else "" for row in rows)


def read_columns(
    file: Path,
    *,
    names: Sequence[str],
    columns: Mapping[str, str | tuple[str, ...]],
    delimiter: str | None = None,
) -> dict[str, tuple[str, ...]]:
    """Read the columns of a published table.

    Args:
        file: the table.
        names: the publisher's columns that are needed.
        columns: others to read in their place, from a cohort file.
        delimiter: if not the one that the header shows.

    Raises:
        SchemaError: if `columns` names one that is not needed.
        ColumnMissingError: if the table lacks one.
        TableUnreadableError: if it is no table.
        EmptyCohortError: if it has no rows.
    """
    for key in columns:
        if key not in names:
            problem = f"is none of the columns read ({', '.join(names)})"
            raise SchemaError("the cohort file", f"columns.{key}", problem)
    table = read_table(file, delimiter)
    return {name: table.column(columns.get(name, name), name) for name in names}


def split_names(flags: Sequence[str], file: Path) -> list[str]:
    """Name the publisher's split: `1` is `train`, `0` is `test`.

    Raises:
        TableUnreadableError: on any other flag.
    """
    named = {"1": "train", "0": "test"}
    for row, flag in enumerate(flags, 1):
        if flag not in named:
            problem = f"has {flag!r} in its column of the split, row {row}, not 0 or 1"
            raise TableUnreadableError(file, problem)
    return [named[flag] for flag in flags]


def read_table(file: Path, delimiter: str | None = None) -> TextTable:
    """Read a CSV or Parquet file.

    Of a CSV the header shows the delimiter; a byte order mark, any line ending and blank lines are
    fine. Whole numbers that Parquet holds as floats (pandas, beside missing values) lose their .0.

    Raises:
        PathMissingError: if there is no such file.
        TableUnreadableError: if it is no table, or a row does not fit the header.
        EmptyCohortError: if it has no rows.
    """
    if not file.is_file():
        raise PathMissingError("the table", file)
    suffix = file.suffix.casefold()
    if suffix in {".xlsx", ".xls", ".ods"}:
        raise TableUnreadableError(file, "is a spreadsheet; save it as CSV (UTF-8)")
    parquet = suffix in {".parquet", ".pq"}
    columns = _parquet(file) if parquet else _text(file, delimiter)
    if not any(columns.values()):
        raise EmptyCohortError(file, "rows")
    return TextTable(file=file, columns=columns)


def _text(file: Path, delimiter: str | None) -> dict[str, tuple[str, ...]]:
    try:
        content = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problem = "is not UTF-8 text; save it as CSV UTF-8"
        raise TableUnreadableError(file, problem) from error
    if delimiter is not None and len(delimiter) != 1:
        raise SchemaError(file.name, "delimiter", f"is {delimiter!r}, not one character")
    lines = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter or _shown(content))
    try:
        rows = [(lines.line_num, row) for row in lines if any(cell.strip() for cell in row)]
    except csv.Error as error:
        problem = f"is no CSV: line {lines.line_num}: {error}"
        raise TableUnreadableError(file, problem) from error
    if not rows:
        raise EmptyCohortError(file, "header")
    header = _header(file, rows[0][1])
    for line, row in rows[1:]:
        if len(row) != len(header):
            problem = f"has {len(row)} cells in line {line} and {len(header)} in its header"
            raise TableUnreadableError(file, f"{problem}; correct the line")
    cells = zip(*(row for _, row in rows[1:]), strict=True)
    filled = [tuple(cell.strip() for cell in column) for column in cells]
    return dict(zip(header, filled or [()] * len(header), strict=True))


def _shown(content: str) -> str:
    """The delimiter that the first line holds most of."""
    first = content.lstrip("\r\n").splitlines()[:1]
    return max(_DELIMITERS, key=lambda each: "".join(first).count(each))


def _header(file: Path, names: Sequence[str]) -> tuple[str, ...]:
    header = tuple(name.strip() for name in names)
    twice = [name for name, times in Counter(header).items() if times > 1]
    if twice:
        raise TableUnreadableError(file, f"has two columns {twice[0]!r}; rename one")
    return header


def _parquet(file: Path) -> dict[str, tuple[str, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
        table.validate(full=True)
        names = table.column_names  # bytes until they are asked for
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableUnreadableError(file, "is no Parquet file that can be read") from error
    columns = {}
    for name, column in zip(_header(file, names), table.columns, strict=True):
        try:
            columns[name] = tuple(map(_cell, column.to_pylist()))
        # Python has no nanoseconds, no year 10,000, and not every machine all time zones.
        except (pa.ArrowException, ValueError, OverflowError) as error:
            problem = f"has values in its column {name!r} that cannot be read; write them as text"
            raise TableUnreadableError(file, problem) from error
    return columns


def _cell(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124  # NaN is what differs from itself
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()
