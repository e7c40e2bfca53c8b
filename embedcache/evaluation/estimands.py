"""From one encoder's predictions on one cohort to its estimands (statistics.md section 1)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import MixedFoldsError
from embedcache.evaluation.evaluand import Evaluand, by_class_rule
from embedcache.protocol.clusters import digest_keys, number_clusters
from embedcache.results.predictions import Predictions
from embedcache.results.tables import Estimand

#: `fold` of a model of all training data.
REFIT = -1


def is_home(part: Predictions) -> bool:
    """Whether predictions are out-of-fold, told from the folds alone.

    An image once with a fold: out-of-fold. Once for each fold, or without fold: abroad.

    Raises:
        MixedFoldsError: if the images differ in this, or two rows share image and fold.
    """
    _, image = np.unique(digest_keys(part.image), return_inverse=True)
    folds = np.unique(part.fold[part.fold != REFIT])
    tested = np.bincount(image[part.fold != REFIT], minlength=int(image.max()) + 1)
    refitted = np.bincount(image[part.fold == REFIT], minlength=len(tested))
    same = np.unique(np.column_stack([tested, refitted]), axis=0)
    if len(same) != 1 or same[0, 1] > 1 or same[0, 0] not in {0, 1, len(folds)}:
        raise MixedFoldsError(named(part), part.cohort)
    home = bool(same[0, 0] == 1)
    if home and same[0, 1]:
        raise MixedFoldsError(named(part), part.cohort)
    return home


def evaluands(part: Predictions, *, home: bool, notes: tuple[str, ...]) -> Iterator[Evaluand]:
    """Split merged predictions, in order of fold, then digest, into estimands and class rules."""
    tested, refitted = part.fold != REFIT, part.fold == REFIT
    folds = len(np.unique(part.fold[tested]))
    if home:
        yield from by_class_rule(_stacked(part, tested, "oof", notes))
        return
    if folds:
        yield from by_class_rule(_stacked(part, tested, "external-folds", notes))
    if refitted.any():
        yield from by_class_rule(_stacked(part, refitted, "external-refit", notes))
    if folds > 1 and part.probability is not None:
        yield from by_class_rule(_ensemble(_stacked(part, tested, "external-ensemble", notes)))


def patients_in_two_folds(part: Predictions) -> int:
    """Patient clusters whose images lie in more than one fold of out-of-fold predictions."""
    pairs = np.unique(np.column_stack([part.cluster, part.fold]), axis=0)
    return int((np.unique(pairs[:, 0], return_counts=True)[1] > 1).sum())


def named(part: Predictions) -> str:
    """Encoder and arm, for a sentence."""
    return f"{part.maker.encoder} ({part.maker.arm})"


def _stacked(
    part: Predictions, rows: NDArray[np.bool_], estimand: Estimand, notes: tuple[str, ...]
) -> Evaluand:
    """Stack the rows of each model, in order of digest: (K, n)."""
    folds = len(np.unique(part.fold[rows]))
    models = 1 if estimand == "oof" else folds
    taken = np.flatnonzero(rows)
    key = digest_keys(part.image[taken])
    if (np.unique(key, return_counts=True)[1] != models).any():
        raise MixedFoldsError(named(part), part.cohort)
    order = taken[np.argsort(key, kind="stable")].reshape(-1, models).T
    one = order[0]
    cluster = number_clusters(part.image[one], part.cluster[one])
    site = part.strata.get("site", np.full(len(part.label), "", np.str_))
    return Evaluand(
        arm=part.maker.arm,
        encoder=part.maker.encoder,
        cohort=part.cohort,
        estimand=estimand,
        class_rule="as-is",
        classes=part.classes,
        image=part.image[one],
        label=part.label[one],
        cluster=cluster,
        site=site[one][np.unique(cluster, return_index=True)[1]],
        predicted=part.predicted[order],
        probability=None if part.probability is None else part.probability[order],
        folds=folds,
        strata={name: values[one] for name, values in part.strata.items()},
        notes=notes,
        tested=part.fold[one] if estimand == "oof" else None,
    )


def _ensemble(every: Evaluand) -> Evaluand:
    assert every.probability is not None  # asked for only with probabilities
    mean = every.probability.mean(axis=0, keepdims=True)
    return dataclasses.replace(
        every, predicted=mean.argmax(axis=-1).astype(np.int16), probability=mean
    )
