"""What is evaluated: one estimand of one encoder on one cohort, under one class rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.results.tables import ClassRule, Estimand, Level


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Evaluand:
    """Predictions of K models for n images, in order of digest; clusters likewise.

    Attributes:
        arm: how the predictions were made.
        encoder: reference without weights.
        cohort: whose images.
        estimand: which models (statistics.md section 1); only `external-folds` has K > 1.
        class_rule: how classes that the cohort lacks were treated.
        classes: what `label`, `predicted` and the columns of `probability` index.
        image: digests, distinct, ascending, (n, 32) uint8.
        label: true class, (n,) int16.
        cluster: patient cluster, 0 to C - 1 by smallest digest, (n,) int64; every number occurs,
            but where images of some classes were taken (`on_classes`).
        site: of each cluster, that of its smallest digest, (C,) str; all empty without sites.
        predicted: (K, n) int16.
        probability: (K, n, c) float64, or None where a table has labels only.
        folds: number of models behind it: training sets for `oof`, K for the others.
        strata: text value of each stratum by name, (n,) str.
        notes: what to beware of in every number of it.
        tested: the fold that tested each image, (n,) int8; None unless `oof`.
        level: whether rows are images, or patient clusters.
    """

    arm: str
    encoder: str
    cohort: str
    estimand: Estimand
    class_rule: ClassRule
    classes: tuple[str, ...]
    image: NDArray[np.uint8]
    label: NDArray[np.int16]
    cluster: NDArray[np.int64]
    site: NDArray[np.str_]
    predicted: NDArray[np.int16]
    probability: NDArray[np.float64] | None
    folds: int
    strata: dict[str, NDArray[np.str_]]
    notes: tuple[str, ...] = ()
    tested: NDArray[np.int8] | None = None
    level: Level = "image"


def by_class_rule(evaluand: Evaluand) -> Iterator[Evaluand]:
    """Apply the class rules (statistics.md section 2) to predictions as they were made.

    Where every class occurs there is nothing to restrict: one evaluand, `restricted`. Else both
    rules, but `restricted` needs probabilities.
    """
    present = np.unique(evaluand.label)
    if len(present) == len(evaluand.classes):
        yield dataclasses.replace(evaluand, class_rule="restricted")
        return
    if evaluand.probability is not None:
        yield _restricted(evaluand, evaluand.probability, present)
    yield dataclasses.replace(evaluand, class_rule="as-is")


def on_classes(evaluand: Evaluand, names: Sequence[str]) -> Evaluand:
    """Judge images of some classes only, in the evaluand's order of classes.

    With probabilities these are renormalised over the classes, else predictions of other classes
    are errors.
    """
    kept = np.array([k for k, name in enumerate(evaluand.classes) if name in names], np.int16)
    rows = np.isin(evaluand.label, kept)
    part = dataclasses.replace(
        evaluand,
        image=evaluand.image[rows],
        label=evaluand.label[rows],
        cluster=evaluand.cluster[rows],
        predicted=evaluand.predicted[:, rows],
        strata={name: values[rows] for name, values in evaluand.strata.items()},
        tested=None if evaluand.tested is None else evaluand.tested[rows],
    )
    if evaluand.probability is None:
        return dataclasses.replace(part, class_rule="as-is")
    if len(kept) == len(evaluand.classes):
        return dataclasses.replace(
            part, class_rule="restricted", probability=evaluand.probability[:, rows]
        )
    return _restricted(part, evaluand.probability[:, rows], kept)


def _restricted(
    evaluand: Evaluand, probability: NDArray[np.float64], present: NDArray[np.int16]
) -> Evaluand:
    kept = probability[..., present]
    total = kept.sum(axis=-1, keepdims=True)
    # A table of rounded figures may give the cohort's classes nothing at all: then none leads.
    uniform = np.full_like(kept, 1 / len(present))
    renormalised = np.divide(kept, total, out=uniform, where=total > 0)
    return dataclasses.replace(
        evaluand,
        class_rule="restricted",
        classes=tuple(evaluand.classes[index] for index in present),
        label=np.searchsorted(present, evaluand.label).astype(np.int16),
        predicted=renormalised.argmax(axis=-1).astype(np.int16),
        probability=renormalised,
    )
