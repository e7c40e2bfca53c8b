"""Curves of tuned models: how each training went, epoch by epoch; one CSV a unit, never rewritten.

`curves/<arm>/<encoder>/<unit>.csv`, a row an epoch; floats as Python prints them.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedcache.durable import write_file
from embedcache.errors import SchemaError
from embedcache.results.layout import ResultsFolder
from embedcache.schema import from_plain, read_csv_rows, shown


@dataclass(frozen=True, kw_only=True, slots=True)
class CurveRow:
    """One epoch of one model.

    Attributes:
        fold: the outer fold that the model tests; -1: a model of all training data.
        epoch: from 1.
        step: steps taken by its end.
        loss: of training, as augmented.
        validation_loss: cross-entropy on patients set aside inside the training set.
        macro_f1: on the same patients.
        rate: learning rate at its last step.
        images_per_second: learnt from.
        kept: 1 for the epoch whose weights predict, else 0.
    """

    fold: int
    epoch: int
    step: int
    loss: float
    validation_loss: float
    macro_f1: float
    rate: float
    images_per_second: float
    kept: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The rows of one model, and whose it is: `arm` and `encoder` as folders are named."""

    arm: str
    encoder: str
    rows: tuple[CurveRow, ...]


def curve_file(folder: ResultsFolder, predictions: Path) -> Path:
    """Where the curve of a unit lies, by the file of its predictions."""
    arm, encoder, name = predictions.parts[-3:]
    return folder.path / "curves" / arm / encoder / Path(name).with_suffix(".csv")


def write_curve(file: Path, rows: Sequence[CurveRow]) -> None:
    """Write one curve, durably."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_HINTS)
    writer.writerows([repr(getattr(row, name)) for name in _HINTS] for row in rows)
    write_file(file, text.getvalue().encode("ascii"))


def read_curves(folder: ResultsFolder) -> tuple[Curve, ...]:
    """Read every curve, sorted by arm, encoder and fold.

    Raises:
        SchemaError: on another header or a cell that does not fit its column.
    """
    found = [
        Curve(arm=file.parts[-3], encoder=file.parts[-2], rows=_rows(file))
        for file in (folder.path / "curves").glob("*/*/*.csv")
    ]
    return tuple(sorted(found, key=lambda one: (one.arm, one.encoder, one.rows[0].fold)))


def _rows(file: Path) -> tuple[CurveRow, ...]:
    header, *lines = read_csv_rows(file) or [[]]
    if header != list(_HINTS) or not lines:
        raise SchemaError(file.name, "the header", f"is {shown(header)}, not {list(_HINTS)}")
    return tuple(_row(line, f"{file.name}, line {n}") for n, line in enumerate(lines, start=2))


def _row(line: list[str], where: str) -> CurveRow:
    try:
        values = {k: _HINTS[k](cell) for k, cell in zip(_HINTS, line, strict=True)}
    except ValueError as error:
        raise SchemaError(where, "", "does not fit its columns") from error
    return from_plain(CurveRow, values, where)


_HINTS = {
    field.name: typing.get_type_hints(CurveRow)[field.name]
    for field in dataclasses.fields(CurveRow)
}
