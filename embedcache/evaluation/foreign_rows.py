"""Foreign tables checked and put together: one value a row and column, in the tables' order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import TableClassError, TableColumnError
from embedcache.evaluation.estimands import REFIT
from embedcache.evaluation.foreign_table import ForeignTable
from embedcache.progress import Progress
from embedcache.results.predictions_file import PROBABILITY, STRATUM

#: Published probabilities may be rounded to three decimals, half a unit off in every class.
ROUNDING = 0.5e-3
#: Far above float64 rounding: a prediction may tie with the most probable class.
_TIE = 1e-9

#: `arm` and `cohort` of a table that has no such column.
ARM = "imported"
COHORT = "cohort"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ForeignRows:
    """All rows of all tables.

    Attributes:
        classes: the class list.
        image: names of the images, (n,) str.
        patient: what is resampled: the column `cluster`, else `patient`, (n,) str.
        label: index into `classes`, (n,) int16.
        predicted: likewise.
        probability: (n, c) float64 as given, or None.
        fold: (n,) int8; -1: a model of all training data.
        encoder: (n,) str.
        arm: (n,) str.
        cohort: (n,) str.
        strata: text by name, (n,) str.
    """

    classes: tuple[str, ...]
    image: NDArray[np.str_]
    patient: NDArray[np.str_]
    label: NDArray[np.int16]
    predicted: NDArray[np.int16]
    probability: NDArray[np.float64] | None
    fold: NDArray[np.int8]
    encoder: NDArray[np.str_]
    arm: NDArray[np.str_]
    cohort: NDArray[np.str_]
    strata: dict[str, NDArray[np.str_]]


def read_rows(tables: Sequence[ForeignTable], progress: Progress) -> ForeignRows:
    """Check every cell and put the tables together.

    Raises:
        TableColumnError: if a column is missing, or only some tables have it.
        BadCellsError: if cells are empty, no numbers or no probabilities, or rows contradict.
        TableClassError: if a label or prediction is none of the classes.
    """
    probability = _shared_columns(tables, PROBABILITY)
    strata = _shared_columns(tables, STRATUM)
    if not probability:
        for table in tables:
            table.text("predicted")
    classes = tuple(name.removeprefix(PROBABILITY) for name in probability) or _found(tables)
    parts = [_rows(table, classes, probability, strata) for table in tables]
    for table in tables:
        _note_unused(table, progress)
    for table, part in zip(tables, parts, strict=True):
        _check_rows(table, part)
    return _joined(parts)


def _shared_columns(tables: Sequence[ForeignTable], prefix: str) -> tuple[str, ...]:
    """Columns of a prefix in the first table's order; every table has the same."""
    names = tuple(name for name in tables[0].columns if name.startswith(prefix))
    for table in tables[1:]:
        own = tuple(name for name in table.columns if name.startswith(prefix))
        for name in (*names, *own):
            if name not in own:
                raise TableColumnError(table.file, name, tuple(table.columns))
            if name not in names:
                raise TableColumnError(tables[0].file, name, tuple(tables[0].columns))
    return names


def _found(tables: Sequence[ForeignTable]) -> tuple[str, ...]:
    """Class list of tables without probabilities: all that is a label or predicted, sorted."""
    columns = [table.text(name) for table in tables for name in ("label", "predicted")]
    return tuple(np.unique(np.concatenate(columns)).tolist())


def _rows(
    table: ForeignTable,
    classes: tuple[str, ...],
    probability: tuple[str, ...],
    strata: tuple[str, ...],
) -> ForeignRows:
    label = _codes(table, "label", classes)
    scores = _probability(table, probability) if probability else None
    return ForeignRows(
        classes=classes,
        image=table.text("image"),
        patient=table.text("cluster" if "cluster" in table.columns else "patient"),
        label=label,
        predicted=_predicted(table, classes, scores),
        probability=scores,
        fold=_fold(table),
        encoder=_text_or(table, "encoder", table.file.stem),
        arm=_text_or(table, "arm", ARM),
        cohort=_text_or(table, "cohort", COHORT),
        strata={
            name.removeprefix(STRATUM): np.array(table.columns[name], np.str_) for name in strata
        },
    )


def _codes(table: ForeignTable, column: str, classes: tuple[str, ...]) -> NDArray[np.int16]:
    values = table.text(column)
    index = {name: code for code, name in enumerate(classes)}
    code = np.array([index.get(value, -1) for value in values.tolist()], np.int16)
    if (code < 0).any():
        unknown = tuple(np.unique(values[code < 0]).tolist())
        raise TableClassError(table.file, column, unknown, int((code < 0).sum()), classes)
    return code


def _probability(table: ForeignTable, columns: tuple[str, ...]) -> NDArray[np.float64]:
    values = np.column_stack([table.numbers(name) for name in columns])
    for index, name in enumerate(columns):
        table.refuse(values[:, index] < 0, name, "are negative")
    off = np.abs(values.sum(axis=1) - 1) > ROUNDING * len(columns) + _TIE
    table.refuse(off, f"{PROBABILITY}…", "do not sum to one (give probabilities, not logits)")
    return values


def _predicted(
    table: ForeignTable, classes: tuple[str, ...], probability: NDArray[np.float64] | None
) -> NDArray[np.int16]:
    if probability is None:
        return _codes(table, "predicted", classes)
    if "predicted" not in table.columns:
        return np.asarray(probability.argmax(axis=1), np.int16)
    predicted = _codes(table, "predicted", classes)
    given = probability[np.arange(len(predicted)), predicted]
    other = given < probability.max(axis=1) - _TIE
    table.refuse(other, "predicted", "are not the most probable class; leave one of the two out")
    return predicted


def _fold(table: ForeignTable) -> NDArray[np.int8]:
    if "fold" not in table.columns:
        return np.full(len(table), REFIT, np.int8)
    cells = [cell or str(REFIT) for cell in table.columns["fold"]]
    columns = {"fold": cells}
    filled = ForeignTable(
        file=table.file, columns=columns, decimal=table.decimal, first_row=table.first_row
    )
    fold = filled.numbers("fold")
    wrong = (fold != np.round(fold)) | (fold < REFIT) | (fold > np.iinfo(np.int8).max)
    table.refuse(wrong, "fold", "are no whole number from 0 to 127")
    return fold.astype(np.int8)


def _text_or(table: ForeignTable, column: str, default: str) -> NDArray[np.str_]:
    if column in table.columns:
        return table.text(column)
    return np.full(len(table), default)


def _note_unused(table: ForeignTable, progress: Progress) -> None:
    patient = "cluster" if "cluster" in table.columns else "patient"
    used = {"image", patient, "label", "predicted", "encoder", "arm", "cohort", "fold"}
    unused = [
        name
        for name in table.columns
        if name not in used and not name.startswith((PROBABILITY, STRATUM))
    ]
    if unused:
        progress.note(f"{table.file.name}: not used: {', '.join(unused)}")


def _check_rows(table: ForeignTable, rows: ForeignRows) -> None:
    """Refuse repeated rows, and images whose label changes from row to row."""
    key = _key(rows.cohort, rows.image)
    model = _key(rows.arm, rows.encoder, rows.fold.astype(np.str_))
    table.refuse(_repeats(_key(key, model)), "image", "repeat image, cohort, encoder and fold")
    table.refuse(_changes(key, rows.label), "label", "differ from the image's first row")
    for name, values in rows.strata.items():
        table.refuse(_changes(key, values), STRATUM + name, "differ from the image's first row")


def _key(*columns: NDArray[np.str_] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the distinct combinations of columns: (n,) int64."""
    codes = [np.unique(column, return_inverse=True)[1] for column in columns]
    return np.unique(np.column_stack(codes), axis=0, return_inverse=True)[1].reshape(-1)


def _repeats(key: NDArray[np.int64]) -> NDArray[np.bool_]:
    repeated = np.ones(len(key), bool)
    repeated[np.unique(key, return_index=True)[1]] = False
    return repeated


def _changes(key: NDArray[np.int64], value: NDArray[np.generic]) -> NDArray[np.bool_]:
    first = np.unique(key, return_index=True)[1]
    return np.asarray(value != value[first][key])


def _joined(parts: Sequence[ForeignRows]) -> ForeignRows:
    first = parts[0]
    probability = [part.probability for part in parts if part.probability is not None]
    return ForeignRows(
        classes=first.classes,
        image=np.concatenate([part.image for part in parts]),
        patient=np.concatenate([part.patient for part in parts]),
        label=np.concatenate([part.label for part in parts]),
        predicted=np.concatenate([part.predicted for part in parts]),
        probability=np.concatenate(probability) if probability else None,
        fold=np.concatenate([part.fold for part in parts]),
        encoder=np.concatenate([part.encoder for part in parts]),
        arm=np.concatenate([part.arm for part in parts]),
        cohort=np.concatenate([part.cohort for part in parts]),
        strata={
            name: np.concatenate([part.strata[name] for part in parts]) for name in first.strata
        },
    )
