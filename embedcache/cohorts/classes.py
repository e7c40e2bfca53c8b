"""Other classes for a cohort: rows left out, classes merged, a class list of one's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from embedcache.cohorts.cohort import Cohort, check_classes
from embedcache.errors import EmptyCohortError, SchemaError, UnknownLabelError


def leave_out(cohort: Cohort, names: Sequence[str], where: str) -> Cohort:
    """Take the rows of some classes out of a cohort, and the classes out of its list.

    Raises:
        SchemaError: if a name is no class.
        EmptyCohortError: if no row is left.
    """
    _check_known(cohort, names, where, "leave_out")
    left = [name for name in cohort.classes if name not in names]
    row = np.flatnonzero(~np.isin(cohort.label, [cohort.classes.index(name) for name in names]))
    if not row.size:
        raise EmptyCohortError(Path(where), "images beside those that it leaves out")
    kept = replace(
        cohort,
        images=tuple(cohort.images[index] for index in row),
        label=cohort.label[row],
        patient=cohort.patient[row],
        strata={stratum: value[row] for stratum, value in cohort.strata.items()},
    )
    return choose_classes(kept, left, where)


def merge_classes(cohort: Cohort, merges: Mapping[str, Sequence[str]], where: str) -> Cohort:
    """Give several classes one name; it takes the place of the first of them in the class list.

    Raises:
        SchemaError: if an old name is no class or is merged twice, or the new one is a class that
            is not merged.
    """
    new = {name: name for name in cohort.classes}
    for merged, olds in merges.items():
        _check_known(cohort, olds, where, f"merges.{merged}")
        twice = [old for old in olds if new[old] != old]
        if twice:
            raise SchemaError(where, f"merges.{merged}", f"merges {twice[0]!r} a second time")
        if merged in cohort.classes and merged not in olds:
            problem = f"is a class already; list {merged!r} among those merged into it"
            raise SchemaError(where, f"merges.{merged}", problem)
        new.update(dict.fromkeys(olds, merged))
    classes = tuple(dict.fromkeys(new.values()))
    code = np.array([classes.index(new[name]) for name in cohort.classes], dtype=np.int16)
    return replace(cohort, classes=classes, label=code[cohort.label])


def choose_classes(cohort: Cohort, classes: Sequence[str], where: str) -> Cohort:
    """Give a cohort another class list: another order, or classes that no image shows.

    Raises:
        SchemaError: if the list names a class twice.
        UnknownLabelError: if it lacks the label of a row.
    """
    check_classes(classes, where)
    lost = [index for index, name in enumerate(cohort.classes) if name not in classes]
    rows = int(np.isin(cohort.label, lost).sum())
    if rows:
        used = tuple(cohort.classes[index] for index in lost if (cohort.label == index).any())
        raise UnknownLabelError(where, used, rows, tuple(classes))
    place = {name: index for index, name in enumerate(classes)}
    code = np.array([place.get(name, -1) for name in cohort.classes], dtype=np.int16)
    return replace(cohort, classes=tuple(classes), label=code[cohort.label])


def _check_known(cohort: Cohort, names: Sequence[str], where: str, key: str) -> None:
    unknown = [name for name in names if name not in cohort.classes]
    if unknown:
        problem = f"names {unknown[0]!r}, which is no label (labels: {', '.join(cohort.classes)})"
        raise SchemaError(where, key, problem)
