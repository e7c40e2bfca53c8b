"""New labels for a cohort of a store; images, patients, strata and features stay as they are."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import LabelsUnusableError, PathMissingError, listed
from embedcache.store.image_table import ImageTable
from embedcache.store.reader import open_store
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import create_or_open_for_writing

#: Columns of a table of labels.
COLUMNS = ["digest", "label"]
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Relabelled:
    """What new labels changed.

    Attributes:
        cohort: its name.
        classes: the class list from now on.
        changed: rows whose class is another one now, or that had none, or have none now.
        same: rows that were named and keep their class.
        kept: rows that were not named, unreadable ones among them.
    """

    cohort: str
    classes: tuple[str, ...]
    changed: int
    same: int
    kept: int


def read_labels(file: Path) -> dict[str, str]:
    """Label by digest of a CSV with the columns `digest` and `label`; an empty label is none.

    Raises:
        PathMissingError: if there is no such file.
        LabelsUnusableError: if it is no such table, or gives an image two labels.
    """
    if not file.is_file():
        raise PathMissingError("the table of labels", file)
    mend = "write a CSV (UTF-8) with the columns digest and label"
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            header, *rows = list(csv.reader(opened)) or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise LabelsUnusableError(file.name, "it is no CSV in UTF-8", mend) from error
    if header != COLUMNS:
        raise LabelsUnusableError(file.name, f"its columns are {listed(tuple(header))}", mend)
    wrong = [number for number, row in enumerate(rows, 2) if len(row) != 2 or not _is_digest(row)]
    if wrong:
        problem = f"lines {listed(tuple(wrong))} do not hold 64 hex digits and a label"
        raise LabelsUnusableError(file.name, problem, mend)
    return labels_by_digest(((row[0].lower(), row[1].strip()) for row in rows), file.name)


def labels_by_digest(pairs: Iterable[tuple[str, str]], where: str) -> dict[str, str]:
    """Label by digest, where no image has two.

    Args:
        pairs: digest in lower-case hex, and class name or nothing.
        where: names the table or cohort in errors.

    Raises:
        LabelsUnusableError: if an image has two labels.
    """
    label_of: dict[str, str] = {}
    pairs = list(pairs)
    twice = {digest for digest, label in pairs if label_of.setdefault(digest, label) != label}
    if twice:
        problem = f"the images {listed(tuple(sorted(twice)), most=3)} have two labels each"
        raise LabelsUnusableError(where, problem, "give each one")
    return label_of


def add_labels(
    path: Path,
    cohort: str,
    label_of: Mapping[str, str],
    *,
    where: str,
    classes: Sequence[str] | None = None,
) -> Relabelled:
    """Replace labels of a cohort, durably; rows that are not named keep theirs.

    Args:
        path: the store.
        cohort: name of the cohort.
        label_of: class name by digest, in hex; an empty name takes the label away.
        where: names the table or cohort of the labels in errors.
        classes: the new class list; None: as it is.

    Raises:
        UnknownNameError: if the store has no such cohort.
        LabelsUnusableError: if an image is not in the cohort, or a class not in the class list.
    """
    store = open_store(path)
    stored = store.cohort(cohort)
    classes = tuple(stored.classes if classes is None else classes)
    _refuse_twice(classes)
    row_of = _row_of(stored, store.images)
    strange = tuple(sorted(set(label_of) - set(row_of)))
    if strange:
        problem = f"{len(strange)} images are not in {cohort!r} ({listed(strange, most=3)})"
        raise LabelsUnusableError(where, problem, "name the cohort that they are in")
    named = np.isin(stored.row, [row_of[digest] for digest in label_of])
    name_of = {row_of[digest]: label for digest, label in label_of.items()}
    before = [stored.classes[code] if code >= 0 else "" for code in stored.label]
    after = [
        name_of[row] if given else old
        for row, given, old in zip(stored.row.tolist(), named.tolist(), before, strict=True)
    ]
    label = _codes(after, classes, where)
    create_or_open_for_writing(path).put_cohort(replace(stored, classes=classes, label=label))
    changed = sum(old != new for old, new in zip(before, after, strict=True))
    return Relabelled(
        cohort=cohort,
        classes=classes,
        changed=changed,
        same=int(named.sum()) - changed,
        kept=int((~named).sum()),
    )


def _refuse_twice(classes: tuple[str, ...]) -> None:
    twice = sorted({name for name in classes if classes.count(name) > 1 or not name.strip()})
    if twice:
        problem = f"it names {listed(tuple(twice))} twice, or nothing"
        raise LabelsUnusableError("the class list", problem, "name each class once")


def _is_digest(row: Sequence[str]) -> bool:
    return _DIGEST.fullmatch(row[0].lower()) is not None


def _row_of(cohort: StoredCohort, images: ImageTable) -> dict[str, int]:
    rows = np.unique(cohort.row[cohort.row >= 0]).tolist()
    return {bytes(images.digest[row]).hex(): row for row in rows}


def _codes(names: Sequence[str], classes: tuple[str, ...], where: str) -> NDArray[np.int16]:
    code_of = {name: code for code, name in enumerate(classes)} | {"": -1}
    unknown = tuple(sorted(set(names) - set(code_of)))
    if unknown:
        problem = f"the class list ({listed(classes)}) lacks {listed(unknown)}"
        mend = f"correct the labels, or give a new list: --classes {','.join((*classes, *unknown))}"
        raise LabelsUnusableError(where, problem, mend)
    return np.array([code_of[name] for name in names], np.int16)
