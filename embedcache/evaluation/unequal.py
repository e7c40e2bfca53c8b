"""What unequal patients weigh: the variance that each cluster is expected to bring.

A variance estimated from patients of whom a few hold most images is itself known from few. With
v_c the variance that cluster c is expected to bring, the estimate has (sum v)^2 / sum v^2 degrees
of freedom, less the sites (Satterthwaite 1946; with a working model of correlation within clusters
as Bell and McCaffrey 2002 and Imbens and Kolesár 2016, doi:10.1162/REST_a_00552). The model: the
images of a patient are right together with one correlation, that of the analysis of variance.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from embedcache.metrics.metric import ClassMetric, Floats


def expected_variance(
    counts: Floats, *, models: int, unit: Literal["image", "cluster"] = "image"
) -> Floats:
    """What each cluster is expected to bring to the variance of a metric over all classes.

    Args:
        counts: confusion counts summed over `models`, (C, k, c) float64.
        models: that judged each image; they do not make it several.
        unit: what counts alike (`CountMetric.unit`).

    Returns:
        (C,) float64, on a scale of its own.
    """
    images = counts.sum(axis=(1, 2)) / models
    weight = images if unit == "image" else np.ones_like(images)
    return _variance(images, weight, _correlation(counts, models))


def expected_class_variance(counts: Floats, metric: ClassMetric, *, models: int) -> Floats:
    """The same for a metric of each class, which its own images alone bring: (C, k) float64."""
    own = np.diagonal(counts, axis1=1, axis2=2)
    true, predicted = counts.sum(axis=2), counts.sum(axis=1)[:, : counts.shape[1]]
    chosen = {"true": true, "predicted": predicted, "either": true + predicted - own}
    images = chosen[metric.counts] / models
    return _variance(images, images, _correlation(counts, models))


def _variance(images: Floats, weight: Floats, correlation: float) -> Floats:
    """Of a mean of so many images, times its weight squared; 0 without images."""
    alone = np.divide(1, images, out=np.zeros_like(images), where=images > 0)
    of_mean = np.where(images > 0, correlation + (1 - correlation) * alone, 0)
    return np.asarray(weight**2 * of_mean)


def _correlation(counts: Floats, models: int) -> float:
    """Intraclass correlation of being right, from one-way analysis of variance; 0 to 1."""
    images = counts.sum(axis=(1, 2)) / models
    right = np.diagonal(counts, axis1=1, axis2=2).sum(axis=1) / models
    total, clusters = images.sum(), len(images)
    if total - clusters < 1 or clusters < 2:
        return 0.0  # one image a patient: nothing is within
    share = right / images
    between = (images * (share - right.sum() / total) ** 2).sum() / (clusters - 1)
    within = (right * (1 - share)).sum() / (total - clusters)
    size = (total - (images**2).sum() / total) / (clusters - 1)
    whole = between + (size - 1) * within
    return float(np.clip((between - within) / whole, 0, 1)) if whole > 0 else 0.0
