"""How well a linear probe tells two cohorts apart by one encoder's features.

Patient folds as everywhere. Where both cohorts have labels, only images of classes that both have
are told apart, since otherwise the classes that one lacks would do it. Their shares still differ:
part of an AUROC above .5 may be that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache import registry
from embedcache.errors import NotConvergedError
from embedcache.metrics.auroc import METRIC as AUROC
from embedcache.protocol.clusters import cluster_images, digest_keys
from embedcache.protocol.folds import assign_folds
from embedcache.protocol.protocol import Tuning
from embedcache.results.shift_file import CohortAuroc

if TYPE_CHECKING:
    from embedcache.probing.shift import Members

FOLDS = 5
#: Patient clusters of each cohort that folds and inner folds need.
FEWEST = 2 * FOLDS
_ESTIMATOR = "linear-probe"


def tell_apart(
    x: NDArray[np.float32],
    first: tuple[Members, NDArray[np.int64]],
    other: tuple[Members, NDArray[np.int64]],
    *,
    encoder: str,
    seed: int,
) -> CohortAuroc:
    """Fit a probe of the cohort over patient folds, and pool what it says out of fold.

    Args:
        x: features of all images, (n, d) float32.
        first: a cohort, and the rows of x that are its images.
        other: another.
        encoder: for messages.
        seed: of the folds.

    Raises:
        NotConvergedError: if a fit does not reach its optimum.
    """
    a, b = first[0], other[0]
    classes = tuple(sorted((set(a.label) & set(b.label)) - {""}))
    keep = [_kept(one, twin, classes) for one, twin in ((a, b), (b, a))]
    place = np.concatenate([first[1][keep[0]], other[1][keep[1]]])
    image = np.concatenate([a.image[keep[0]], b.image[keep[1]]])
    patient = np.concatenate([a.patient[keep[0]], b.patient[keep[1]]])
    label = np.repeat([0, 1], [keep[0].sum(), keep[1].sum()]).astype(np.int16)
    order = np.argsort(digest_keys(image), kind="stable")
    place, label, image = place[order], label[order], image[order]
    cluster = cluster_images(image, patient[order])
    found = CohortAuroc(
        first=a.name,
        other=b.name,
        classes=classes,
        first_images=int((label == 0).sum()),
        other_images=int((label == 1).sum()),
        clusters=len(np.unique(cluster)),
        auroc=None,
        fold_low=None,
        fold_high=None,
    )
    fewest = min(len(np.unique(cluster[label == k])) for k in (0, 1))
    if fewest < FEWEST:
        return replace(found, note=f"fewer than {FEWEST} patient clusters of a cohort")
    fold = assign_folds(label, cluster, folds=FOLDS, seed=seed)[cluster]
    score = _out_of_fold(x[place], label, cluster, fold, encoder=encoder, seed=seed)
    folds = [_auroc(score[fold == k], label[fold == k]) for k in range(FOLDS)]
    return replace(found, auroc=_auroc(score, label), fold_low=min(folds), fold_high=max(folds))


def _kept(one: Members, twin: Members, classes: tuple[str, ...]) -> NDArray[np.bool_]:
    """Which images are told apart: of the shared classes, and in one of the cohorts only."""
    shared = np.isin(digest_keys(one.image), digest_keys(twin.image))
    wanted = np.isin(one.label, classes) if classes else np.ones(len(one.row), np.bool_)
    return np.asarray(wanted & ~shared)


def _out_of_fold(
    x: NDArray[np.float32],
    label: NDArray[np.int16],
    cluster: NDArray[np.int64],
    fold: NDArray[np.int64],
    *,
    encoder: str,
    seed: int,
) -> NDArray[np.float64]:
    """Probabilities of both cohorts by the model that has not seen the image's patient, (n, 2)."""
    train = fold != np.arange(FOLDS)[:, np.newaxis]
    models = registry.load("estimators", _ESTIMATOR).fit(
        x, label, cluster, train, tuning=Tuning(), seed=seed
    )
    score = np.empty((len(x), 2))
    for k, model in enumerate(models):
        if isinstance(model, NotConvergedError):
            raise replace(model, encoder=encoder, training=f"telling cohorts apart, fold {k}")
        score[fold == k] = model.probabilities(x[fold == k])
    return score


def _auroc(score: NDArray[np.float64], label: NDArray[np.int16]) -> float:
    return float(AUROC.from_scores(score, label, np.ones((1, len(label))))[0])
