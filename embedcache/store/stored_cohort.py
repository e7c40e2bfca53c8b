"""A cohort as the store keeps it: codes, pseudonyms and rows of the image table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import (
    DamagedStoreError,
    SchemaError,
    StratumTooFineError,
    StratumValueTooLongError,
    UnusableNameError,
)
from embedcache.schema import from_plain, plain
from embedcache.store.chunks import Objects
from embedcache.store.documents import check_complete, read_group, read_layout
from embedcache.store.layout import (
    DOCUMENT,
    MOST_CODES,
    MOST_VALUE,
    check_name,
    cohort_arrays,
    cohort_node,
    group_document,
)
from embedcache.store.objects import Proof, Proofs, Root, write_object


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredCohort:
    """A cohort without its images: m rows, one an entry of the publisher's table.

    Attributes:
        name: what commands call it.
        classes: the class list.
        row: row in the image table, (m,) int64; -1: the image could not be read.
        label: index into `classes`, (m,) int16; -1: unlabelled.
        patient: pseudonym, (m, 16) uint8; never anonymous, see `pseudonyms`.
        strata: text value of each stratum by name, (m,) str.
        reader: kind of the reader that made it.
        citation: how to cite it; empty for private data.
        licence: SPDX name, or empty.
        synthetic: whether the pictures were drawn.
        key_id: of the key behind the pseudonyms; cohorts of one key id may be compared.
        unreadable: how many images could not be read, by reason.
    """

    name: str
    classes: tuple[str, ...]
    row: NDArray[np.int64]
    label: NDArray[np.int16]
    patient: NDArray[np.uint8]
    strata: dict[str, NDArray[np.str_]]
    reader: str
    citation: str
    licence: str
    synthetic: bool
    key_id: str
    unreadable: dict[str, int]

    def __len__(self) -> int:
        return len(self.row)

    def same_as(self, other: StoredCohort) -> bool:
        """Whether two cohorts hold the same."""
        arrays = all(
            np.array_equal(mine, theirs)
            for mine, theirs in zip(_columns(self), _columns(other), strict=False)
        )
        return _attributes(self) == _attributes(other) and arrays


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortAttributes:
    """Attributes of a cohort's node; `categories` are the values of each stratum, by code."""

    classes: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    reader: str
    citation: str
    licence: str
    synthetic: bool
    key_id: str
    unreadable: dict[str, int]


def check_cohort(cohort: StoredCohort, others: tuple[str, ...]) -> None:
    """Refuse what the format cannot hold.

    Raises:
        UnusableNameError: for the cohort's name or a stratum's.
        StratumTooFineError: if a stratum has more values than codes.
        StratumValueTooLongError: if one is free text.
    """
    check_name("cohort", cohort.name, tuple(name for name in others if name != cohort.name))
    strata = tuple(cohort.strata)
    for index, name in enumerate(strata):
        check_name("stratum", name, (*_TAKEN, *strata[:index]))
        values = len(np.unique(cohort.strata[name]))
        if values > MOST_CODES:
            raise StratumTooFineError(cohort.name, name, values, MOST_CODES)
        longest = int(np.char.str_len(cohort.strata[name]).max(initial=0))
        if longest > MOST_VALUE:
            raise StratumValueTooLongError(cohort.name, name, longest, MOST_VALUE)


def read_cohort(root: Root, name: str, images: int, proofs: Proofs | None) -> StoredCohort:
    """Read one cohort.

    Args:
        root: folder of the store.
        name: of the cohort.
        images: length of the image table.
        proofs: what its objects must be.

    Raises:
        DamagedStoreError: if it is not what was written.
    """
    node = cohort_node(name)
    try:
        about = from_plain(CohortAttributes, read_group(root, node, proofs), where=node)
    except SchemaError as error:
        raise DamagedStoreError(node, f"{error.path or 'its content'} {error.problem}") from error
    strata = tuple(about.categories)
    _check_strata(node, about.categories)
    array = _read_arrays(root, name, strata, proofs)
    _check_codes(node, array["row"], -1, images, "row")
    _check_codes(node, array["label"], -1, len(about.classes), "label")
    for stratum in strata:
        _check_codes(node, array[stratum], 0, len(about.categories[stratum]), stratum)
    return StoredCohort(
        name=name,
        row=array["row"],
        label=array["label"],
        patient=array["patient"],
        strata={s: np.array(about.categories[s], np.str_)[array[s]] for s in strata},
        **{field: getattr(about, field) for field in _PLAIN},
    )


def _check_strata(node: str, categories: dict[str, tuple[str, ...]]) -> None:
    """A stratum's name is a folder's, and its values take memory for every row."""
    for index, name in enumerate(categories):
        try:
            check_name("stratum", name, (*_TAKEN, *tuple(categories)[:index]))
        except UnusableNameError as error:
            raise DamagedStoreError(node, f"the stratum {name!a} {error.problem}") from error
        if max(map(len, categories[name]), default=0) > MOST_VALUE:
            raise DamagedStoreError(node, f"the stratum {name} has a value of too many characters")


def write_cohort(root: Path, cohort: StoredCohort) -> dict[str, Proof]:
    """Write a cohort's node below `root`, where none of its name is."""
    categories, codes = {}, {}
    for name, value in cohort.strata.items():
        categories[name], codes[name] = np.unique(value, return_inverse=True)
    layouts = cohort_arrays(cohort.name, len(cohort), tuple(codes))
    objects = Objects(root)
    columns = {"row": cohort.row, "label": cohort.label, "patient": cohort.patient, **codes}
    written: dict[str, Proof] = {}
    for name, layout in layouts.items():
        if len(cohort):
            objects.write(layout, 0, np.asarray(columns[name], layout.dtype))
        key = f"{layout.path}/{DOCUMENT}"
        written[key] = write_object(root, key, layout.document())
    about = CohortAttributes(
        categories={name: tuple(values.tolist()) for name, values in categories.items()},
        **{field: getattr(cohort, field) for field in _PLAIN},
    )
    key = f"{cohort_node(cohort.name)}/{DOCUMENT}"
    written[key] = write_object(root, key, group_document(plain(about)))
    return {**written, **objects.written}


#: Names that a stratum cannot have.
_TAKEN = ("row", "label", "patient", DOCUMENT)
#: What a cohort and its node's attributes have in common.
_PLAIN = ("classes", "reader", "citation", "licence", "synthetic", "key_id", "unreadable")


def _read_arrays(
    root: Root, name: str, strata: tuple[str, ...], proofs: Proofs | None
) -> dict[str, NDArray[Any]]:
    rows = read_layout(root, lambda rows: cohort_arrays(name, rows, strata)["row"], proofs).rows
    layouts = cohort_arrays(name, rows, strata)
    for array, layout in layouts.items():
        check_complete(root, layout)
        found = read_layout(root, lambda r, a=array: cohort_arrays(name, r, strata)[a], proofs)  # type: ignore[misc]  # binds the loop's name
        if found.rows != rows:
            raise DamagedStoreError(layout.path, f"it has {found.rows} rows of {rows}")
    objects = Objects(root, proofs=proofs)
    return {array: objects.read(layout) for array, layout in layouts.items()}


def _check_codes(node: str, code: NDArray[Any], low: int, high: int, array: str) -> None:
    wrong = np.flatnonzero((code < low) | (code >= high))
    if len(wrong):
        raise DamagedStoreError(f"{node}/{array}", f"row {wrong[0]} has no legal value")


def _attributes(cohort: StoredCohort) -> dict[str, Any]:
    names = ("name", *_PLAIN)
    return {name: getattr(cohort, name) for name in names} | {"strata": sorted(cohort.strata)}


def _columns(cohort: StoredCohort) -> list[NDArray[Any]]:
    strata = [cohort.strata[name] for name in sorted(cohort.strata)]
    return [cohort.row, cohort.label, cohort.patient, *strata]
