"""A cohort in memory: images, labels, patients and strata, and where they came from."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import (
    ColumnLengthError,
    EmptyCellsError,
    EmptyCohortError,
    SchemaError,
    UnknownLabelError,
)
from embedcache.images.source import Source

#: What pandas, R and databases write for a missing value. A patient of that name would gather the
#: rows of many patients.
MISSING = frozenset({"", "nan", "na", "n/a", "<na>", "none", "null"})

#: The value of a stratum whose cell is empty.
NOT_GIVEN = "not given"

#: Names of cohorts and strata become Zarr nodes (which reserve a leading `__`) and column values.
TOKEN = re.compile(r"(?!__)[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")

#: Beside the strata in a stored cohort, so no stratum may be called so.
_TAKEN = frozenset({"image", "row", "label", "patient", "cluster", "fold"})


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cohort:
    """Labelled images with patients; m rows, one an entry of the publisher's table.

    Attributes:
        name: what the commands and the store call it; `read_cohort` gives it.
        classes: the class list; `label` indexes it.
        images: one source a row, m of them.
        label: index into `classes`, (m,) int16.
        patient: the patient as the hospital writes it, (m,) str; never stored, see `namespace`.
        strata: text values by stratum name (`machine`, `site`, `split`, …), (m,) str each.
        namespace: pseudonyms are comparable within one; the cohort file's `patients`, else `name`.
        reader: kind of the reader that made it.
        citation: how to cite it; empty for private data.
        licence: SPDX name, or empty for private data.
        synthetic: whether the pictures were drawn and not taken.
    """

    name: str
    classes: tuple[str, ...]
    images: tuple[Source, ...]
    label: NDArray[np.int16]
    patient: NDArray[np.str_]
    strata: dict[str, NDArray[np.str_]]
    namespace: str
    reader: str
    citation: str = ""
    licence: str = ""
    synthetic: bool = False

    def __len__(self) -> int:
        return len(self.images)

    @classmethod
    def from_columns(
        cls,
        *,
        classes: Sequence[str],
        images: Sequence[Source],
        label: Sequence[str],
        patient: Sequence[str],
        strata: Mapping[str, Sequence[str]] | None = None,
        name: str = "",
        where: str = "the cohort",
    ) -> Self:
        """Build a cohort from a table's columns; space around a text does not count.

        Args:
            classes: the class list, each name once.
            images: m sources.
            label: m class names.
            patient: m patients.
            strata: m texts each, by the stratum's name; an empty one reads `not given`.
            name: of the cohort; a reader leaves it to `read_cohort`.
            where: names the table in errors.

        Raises:
            EmptyCohortError: if there are no rows.
            ColumnLengthError: if the columns differ in length.
            EmptyCellsError: if a row has no label or no patient.
            UnknownLabelError: if a label is not in the class list.
            SchemaError: if a class is named twice, or a stratum cannot be called so.
        """
        strata = strata or {}
        columns = {"images": images, "label": label, "patient": patient, **strata}
        lengths = {column: len(values) for column, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ColumnLengthError(where, lengths)
        if not images:
            raise EmptyCohortError(Path(where), "images")
        check_classes(classes, where)
        _check_strata(strata, where)
        return cls(
            name=name,
            classes=tuple(classes),
            images=tuple(images),
            label=_codes(classes, _filled(label, "label", frozenset({""}), where), where),
            patient=np.array(_filled(patient, "patient", MISSING, where), dtype=np.str_),
            strata={
                stratum: np.array([text.strip() or NOT_GIVEN for text in values], dtype=np.str_)
                for stratum, values in strata.items()
            },
            namespace=name,
            reader="",
        )


def check_classes(classes: Sequence[str], where: str) -> None:
    """Refuse a class list that cannot be indexed.

    Raises:
        SchemaError: if it is empty, names a class twice or emptily, or outgrows an int16.
    """
    twice = [name for name, times in Counter(classes).items() if times > 1]
    if twice:
        raise SchemaError(where, "classes", f"names {', '.join(map(repr, twice))} twice")
    if not classes or not all(name.strip() for name in classes):
        raise SchemaError(where, "classes", "is empty, or has an empty name")
    if len(classes) > np.iinfo(np.int16).max:
        problem = f"has {len(classes):,} names: is the label column the right one?"
        raise SchemaError(where, "classes", problem)


def _check_strata(strata: Mapping[str, Sequence[str]], where: str) -> None:
    for stratum in strata:
        if not TOKEN.fullmatch(stratum) or stratum in _TAKEN:
            problem = "is no name for a stratum; use letters, digits, -, _ and . and no taken word"
            raise SchemaError(where, f"strata.{stratum}", problem)


def _filled(
    texts: Sequence[str], column: str, missing: frozenset[str], where: str
) -> Sequence[str]:
    stripped = [text.strip() for text in texts]
    rows = tuple(row for row, text in enumerate(stripped, 1) if text.casefold() in missing)
    if rows:
        raise EmptyCellsError(where, column, rows)
    return stripped


def _codes(classes: Sequence[str], label: Sequence[str], where: str) -> NDArray[np.int16]:
    code = {name: index for index, name in enumerate(classes)}
    unknown = Counter(text for text in label if text not in code)
    if unknown:
        rows = unknown.total()
        raise UnknownLabelError(where, tuple(sorted(unknown)), rows, tuple(classes))
    return np.array([code[text] for text in label], dtype=np.int16)
