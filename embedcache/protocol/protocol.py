"""The protocol: how models are judged. Saved with every result; another protocol is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

#: Inverse penalties C of the logistic regression, from strong to weak; every third of a decade
#: where the optimum lies for features of 512 to 2,048 dimensions, wider outside.
GRID = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 10.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tuning:
    """How an estimator's one setting is chosen inside each outer training set.

    Attributes:
        inner_folds: patient-grouped folds of the outer training set.
        grid: values tried, in order from strong to weak penalty; pooled log loss decides, ties
            to the smaller.
    """

    inner_folds: int = 3
    grid: tuple[float, ...] = GRID


@dataclass(frozen=True, kw_only=True, slots=True)
class Protocol:
    """How models are judged; every arm in a results folder shares it.

    Attributes:
        train: the cohort whose folds train and test.
        external: cohorts that are only ever tested on.
        classes: `shared` (training classes that every external cohort has; all where there is
            none), `all` training classes, or a list of names.
        folds: outer folds over patient clusters.
        seed: of the folds.
        links: pairs of hex digests that are near-duplicates: one cluster.
        tuning: inner selection.
    """

    train: str
    external: tuple[str, ...] = ()
    classes: Literal["shared", "all"] | tuple[str, ...] = "shared"
    folds: int = 5
    seed: int = 0
    links: tuple[tuple[str, str], ...] = ()
    tuning: Tuning = field(default_factory=Tuning)
