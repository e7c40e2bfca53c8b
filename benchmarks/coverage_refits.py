"""What intervals cover when models are fitted anew in each study: the part `refits` of coverage.py.

Features are simulated with patient effects, the model is linear discriminant analysis, folds are
the product's. Truths of three kinds can be asked for: of the K models that were fitted, on new
patients (what an interval of `oof` and of `external-folds` speaks of); of training sets like this
one, on average (what `low_train` and `high_train` are for); of the gap between both populations,
for the fitted models. All are counted on the images of SIZES studies, by each study's own models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from coverage_intervals import Outcome, outcome, summary
from numpy.typing import NDArray
from simulated_studies import Rows, Structure, africa, counts, draw, spain

from embedcache.evaluation.intervals import (
    Clusters,
    Interval,
    StandardError,
    independent_difference,
    jackknife,
    standard_error,
)
from embedcache.evaluation.sample import leave_counts_out
from embedcache.evaluation.unequal import expected_variance
from embedcache.metrics import macro_f1
from embedcache.metrics.metric import Floats
from embedcache.protocol.folds import assign_folds

METRIC = macro_f1.METRIC
FOLDS, SIZES = 5, 400
#: Patients at home, features, and the distance of class means in each that gives an F1 near .9:
#: from many patients to so few that each training set finds another model.
CASES = ((200, 100, 0.37), (60, 100, 0.44), (60, 160, 0.42))
#: Standard deviation of a patient's effect on a feature, against 1 of an image's.
PATIENT = 0.5
#: Standard deviation of what a site abroad adds to the class means.
ABROAD = 0.15
#: Added to the within-class variances, so that few images in many dimensions can be inverted.
RIDGE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Population:
    """Patients and the features of their images.

    Attributes:
        structure: patients and sites.
        mean: of each class in each site, (S, k, d).
    """

    structure: Structure
    mean: Floats


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Large:
    """Images of many studies, to count truths on: features (n, d) float32 with a column of ones."""

    rows: Rows
    feature: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """One study in one population, with the expected counts of its models."""

    value: float
    interval: Interval
    error: StandardError
    expected: Floats


def refits(studies: int) -> Iterator[dict[str, object]]:
    """Each case at home; abroad is Africa."""
    for patients, features, distance in CASES:
        yield _setting(patients, features, distance, studies)


def _setting(patients: int, features: int, distance: float, studies: int) -> dict[str, object]:
    random = np.random.default_rng(1)
    structure = spain(drawn=patients, shared_classes=True)
    mean = distance * random.standard_normal((1, structure.classes, features))
    home = Population(structure=structure, mean=mean)
    moved = ABROAD * random.standard_normal((5, structure.classes, features))
    abroad = Population(structure=africa(), mean=mean + moved)
    large = [_large(population, random) for population in (home, abroad)]
    found: list[tuple[Judged, Judged]] = []
    while len(found) < studies:
        rows = draw(structure, 1, random)
        fold = assign_folds(rows.label, rows.cluster, folds=FOLDS, seed=0)
        if _complete(rows, fold, structure.classes):
            found.append(_study(home, abroad, (rows, fold), (large[0], large[1]), random))
    return {
        "home_patients": patients,
        "features": features,
        "abroad_patients": abroad.structure.clusters,
        "studies": studies,
        "oof": _covered([one for one, _ in found]),
        "external-folds": _covered([one for _, one in found]),
        "gap": {"fitted_models": summary([_gap(*one) for one in found])},
    }


def _complete(rows: Rows, fold: NDArray[np.int64], classes: int) -> bool:
    """Whether every training set and the study itself have all classes."""
    present = np.zeros((FOLDS, classes), bool)
    present[fold[rows.cluster], rows.label] = True
    return bool((present.sum(axis=0) > 1).all())


def _study(
    home: Population,
    abroad: Population,
    drawn: tuple[Rows, NDArray[np.int64]],
    large: tuple[Large, Large],
    random: np.random.Generator,
) -> tuple[Judged, Judged]:
    rows, fold = drawn
    feature, tested = _features(home, rows, random), fold[rows.cluster]
    classes = home.structure.classes
    models = np.stack(
        [_fit(feature[tested != f], rows.label[tested != f], classes) for f in range(FOLDS)]
    )
    predicted = _predict(feature, models)[np.arange(len(tested)), tested]
    away = draw(abroad.structure, 1, random)
    every = _predict(_features(abroad, away, random), models)
    table = sum(counts(away, every[:, f], classes)[0] for f in range(FOLDS))
    share = np.bincount(fold, minlength=FOLDS) / len(fold)
    return (
        _judged(
            home, counts(rows, predicted, classes)[0], _expected(large[0], models, share), FOLDS
        ),
        _judged(
            abroad, np.asarray(table), _expected(large[1], models, np.full(FOLDS, 1 / FOLDS)), 0
        ),
    )


def _judged(population: Population, table: Floats, expected: Floats, folds: int) -> Judged:
    structure = population.structure
    clusters = Clusters(
        site=structure.cluster_site,
        sites=tuple(f"site {site}" for site in range(len(structure.drawn))),
        # Abroad all fold models judge each image; at home one does.
        expected=expected_variance(table, models=1 if folds else FOLDS),
    )
    left = leave_counts_out(METRIC, table)
    return Judged(
        value=left.value,
        interval=jackknife(left, clusters, scale=METRIC.scale, degrees="clusters", folds=folds),
        error=standard_error(left, clusters, degrees="clusters"),
        expected=expected,
    )


def _gap(home: Judged, abroad: Judged) -> Outcome:
    true = METRIC.from_confusion(home.expected) - METRIC.from_confusion(abroad.expected)
    value = home.value - abroad.value
    return outcome(independent_difference(value, home.error, abroad.error), float(true))


def _covered(found: list[Judged]) -> dict[str, object]:
    own = [float(METRIC.from_confusion(one.expected)) for one in found]
    mean = float(METRIC.from_confusion(np.mean([one.expected for one in found], axis=0)))
    figures: dict[str, object] = {
        "mean_truth": round(mean, 4),
        "sd_of_fitted_truths": round(float(np.std(own)), 5),
        "fitted_models": summary(
            [outcome(one.interval, true) for one, true in zip(found, own, strict=True)]
        ),
        "mean_over_training_sets": summary([outcome(one.interval, mean) for one in found]),
    }
    if found[0].interval.low_train is not None:
        figures["mean_over_training_sets_by_low_train"] = summary(
            [_trained(one.interval, mean) for one in found]
        )
    return figures


def _trained(interval: Interval, true: float) -> Outcome:
    low, high = interval.low_train, interval.high_train
    return outcome(Interval(low=low, high=high, method=interval.method), true)


def _large(population: Population, random: np.random.Generator) -> Large:
    rows = draw(population.structure, SIZES, random)
    return Large(rows=rows, feature=_features(population, rows, random).astype(np.float32))


def _features(population: Population, rows: Rows, random: np.random.Generator) -> Floats:
    """Features and a column of ones, (n, d + 1) float64."""
    clusters = rows.shape[0] * rows.shape[1]
    features = population.mean.shape[-1]
    effect = PATIENT * random.standard_normal((clusters, features))[rows.cluster]
    noise = random.standard_normal((len(rows.label), features))
    feature = population.mean[rows.site, rows.label] + effect + noise
    return np.column_stack([feature, np.ones(len(feature))])


def _fit(feature: Floats, label: NDArray[np.int16], classes: int) -> Floats:
    """Linear discriminant analysis: weights of each class, (d + 1, k)."""
    x = feature[:, :-1]
    size = np.bincount(label, minlength=classes)
    mean = np.stack([x[label == k].mean(axis=0) for k in range(classes)])
    apart = x - mean[label]
    within = apart.T @ apart / len(x) + RIDGE * np.eye(x.shape[1])
    direction = np.linalg.solve(within, mean.T)
    offset = np.log(size / size.sum()) - (mean.T * direction).sum(axis=0) / 2
    return np.vstack([direction, offset])


def _predict(feature: NDArray[np.floating], models: Floats) -> NDArray[np.int64]:
    """The class that each model gives each image, from (K, d + 1, k) weights: (n, K)."""
    stacked = np.concatenate(list(models), axis=1).astype(feature.dtype)
    return (feature @ stacked).reshape(len(feature), len(models), -1).argmax(axis=-1)


def _expected(large: Large, models: Floats, share: Floats) -> Floats:
    """Counts of a large sample, each model with its share: (k, k)."""
    classes = models.shape[-1]
    predicted = _predict(large.feature, models)
    cell = large.rows.label[:, np.newaxis] * classes + predicted
    table = [np.bincount(one, minlength=classes**2) for one in cell.T]
    return np.asarray(share @ np.array(table)).reshape(classes, classes)
