"""The class list of a protocol, and how each cohort's labels map onto it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import ClassUnknownError, MergeUnknownError, TooFewClassesError

ClassRule = Literal["shared", "all"] | tuple[str, ...]

#: Label of a row whose class is not judged.
NOT_JUDGED = -1


def class_list(
    rule: ClassRule, train: Sequence[str], external: Mapping[str, Sequence[str]]
) -> tuple[str, ...]:
    """Choose the classes that models learn and are judged on, in the training cohort's order.

    Args:
        rule: `shared`, the training classes that every external cohort has; `all` training
            classes; or names.
        train: classes that images of the training cohort carry.
        external: the same of each external cohort, by its name.

    Raises:
        ClassUnknownError: if a name is none of the training classes.
        TooFewClassesError: if fewer than two remain.
    """
    if isinstance(rule, tuple):
        unknown = tuple(name for name in rule if name not in train)
        if unknown:
            raise ClassUnknownError(classes=unknown, found=tuple(train))
        chosen = tuple(name for name in train if name in rule)
    elif rule == "all":
        chosen = tuple(train)
    else:
        chosen = tuple(name for name in train if all(name in has for has in external.values()))
    if len(chosen) < 2:
        cohorts = {"the training cohort": tuple(train)} | {k: tuple(v) for k, v in external.items()}
        raise TooFewClassesError(rule=str(rule), chosen=chosen, cohorts=cohorts)
    return chosen


def merge_classes(
    classes: Sequence[str], merges: Mapping[str, Sequence[str]]
) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    """Apply a protocol's merges to one cohort's class list.

    A new class stands where the first of its old ones stood, and takes in a class of its own name.

    Args:
        classes: the cohort's.
        merges: old classes by new one; those that the cohort lacks change nothing here.

    Returns:
        The class list after merging, and the place there of each class before, (c,) int16.
    """
    into = {old: new for new, names in merges.items() for old in names}
    named = [into.get(name, name) for name in classes]
    merged = tuple(dict.fromkeys(named))
    return merged, np.array([merged.index(name) for name in named], np.int16)


def check_merges(merges: Mapping[str, Sequence[str]], cohorts: Mapping[str, Sequence[str]]) -> None:
    """Make sure that every class merged is a class of some cohort.

    Raises:
        MergeUnknownError: if one is not, most often for a slip of the pen.
    """
    known = tuple(dict.fromkeys(name for classes in cohorts.values() for name in classes))
    for new, names in merges.items():
        unknown = tuple(name for name in names if name not in known)
        if unknown:
            raise MergeUnknownError(new=new, classes=unknown, found=known)


def label_map(classes: Sequence[str], cohort_classes: Sequence[str]) -> NDArray[np.int16]:
    """Map a cohort's class indices to the protocol's, (c,) int16; `NOT_JUDGED` for the rest."""
    place = {name: index for index, name in enumerate(classes)}
    return np.array([place.get(name, NOT_JUDGED) for name in cohort_classes], np.int16)


def present_classes(classes: Sequence[str], label: NDArray[np.int16]) -> tuple[str, ...]:
    """Name the classes that occur among labels, (n,) int16; a negative label is none."""
    return tuple(classes[index] for index in np.unique(label[label >= 0]))
