"""The interval that is printed beside a metric, or the reason why none is.

A mean over classes of counts is withheld where a class that few patients have shows no error: such
a class adds nothing to the variance, though it may hold most of it. Studies without an error of it
are what fails: of 60 patients 3 with the class, true macro-F1 .95, intervals hold it in 71 % of all
studies and in 99 % of those that saw an error (benchmarks/coverage.py rare). Ranks show more than
errors do: AUROC and average precision are withheld for fewer patients, whatever they show.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedcache.evaluation.intervals import (
    NOT_ESTIMABLE,
    Clusters,
    Degrees,
    Interval,
    StandardError,
    jackknife,
    standard_error,
)
from embedcache.evaluation.sample import LeftOut, Sample
from embedcache.evaluation.unequal import expected_variance
from embedcache.metrics.metric import CountMetric, Floats, Metric

#: A class is rare that fewer patient clusters have, and fewer than this share of them: by what a
#: class without an error lacks, misses ("true") or false alarms too ("either"). Where one class of
#: four was rare among 60, at macro-F1 .95, macro-F1 was covered in 91 % of studies with 10, in 93
#: with 12, balanced accuracy in 87 with 12 or 15, 91 with 18 and 92 with 20, if none was withheld;
#: of 14 and 20 patients no class of a third of them harmed (benchmarks/coverage.py rare; bar 92.5).
FEW = {"either": 12, "true": 20}
SHARE = 1 / 3
#: Means over classes of how images are ranked, and from which number and share of patient clusters
#: a class may take part. With 2 to 6 of 60 patients AUROC was covered in 86 to 92.6 % at macro-F1
#: .85, with 8 in 94; where all classes of 20 patients are few, in 94 to 96 (bar 93).
RANKING = ("auroc", "average-precision")
FEW_RANKED, SHARE_RANKED = 8, 1 / 6


def metric_interval(metric: Metric, drawn: Sample, left: LeftOut, *, folds: int = 0) -> Interval:
    """The default interval of a metric over the class set (statistics.md section 3).

    Args:
        metric: what was computed.
        drawn: the rows.
        left: the metric, and without each cluster.
        folds: as in `jackknife`.
    """
    hidden = unseen(metric, drawn)
    if hidden:
        return Interval(method=NOT_ESTIMABLE, note=hidden)
    clusters, degrees = clusters_of(metric, drawn), _degrees(metric)
    return jackknife(left, clusters, scale=metric.scale, degrees=degrees, folds=folds)


def difference_interval(metric: Metric, samples: tuple[Sample, Sample], left: LeftOut) -> Interval:
    """The interval of a difference between two encoders on the same rows."""
    hidden = unseen(metric, *samples)
    if hidden:
        return Interval(method=NOT_ESTIMABLE, note=hidden)
    return jackknife(left, _alike(samples[0]), scale="identity", degrees="clusters")


def metric_error(metric: Metric, drawn: Sample, left: LeftOut) -> StandardError:
    """The standard error behind `metric_interval`, for differences between cohorts."""
    hidden = unseen(metric, drawn)
    if hidden:
        return StandardError(note=hidden)
    return standard_error(left, clusters_of(metric, drawn), degrees=_degrees(metric))


def difference_error(
    metric: Metric, samples: tuple[Sample, Sample], left: LeftOut
) -> StandardError:
    """The standard error behind `difference_interval`."""
    hidden = unseen(metric, *samples)
    if hidden:
        return StandardError(note=hidden)
    return standard_error(left, _alike(samples[0]), degrees="clusters")


def clusters_of(metric: Metric, drawn: Sample) -> Clusters:
    """The clusters of a sample, with the variance that each is expected to bring."""
    unit = metric.unit if isinstance(metric, CountMetric) else "image"
    models = len(drawn.predicted)
    return Clusters(
        site=drawn.site,
        sites=drawn.sites,
        expected=expected_variance(drawn.counts, models=models, unit=unit),
    )


def unseen(metric: Metric, *samples: Sample) -> str:
    """Why a mean over classes is withheld: rare classes without an error; empty where it is not.

    Args:
        metric: no other metric is in doubt.
        samples: the same rows, as one or two encoders judge them; a difference varies where either
            errs.
    """
    drawn = samples[0]
    clusters = (drawn.counts.sum(axis=2) > 0).sum(axis=0)
    patients = len(drawn.site)
    if metric.name in RANKING:
        hidden = clusters < min(FEW_RANKED, SHARE_RANKED * patients)
        why, reason = "in", "too few for a mean of ranks over classes"
    elif isinstance(metric, CountMetric) and metric.mean_of:
        of_all = [_faultless(metric.mean_of, one.counts) for one in samples]
        few = min(FEW[metric.mean_of], SHARE * patients)
        hidden = (clusters < few) & np.all(of_all, axis=0)
        why, reason = "no error in", "too few to say how it varies"
    else:
        return ""
    return "; ".join(
        f"{drawn.classes[k]}: {why} {count} patient cluster{'s' if count > 1 else ''}, {reason}"
        for k, count in enumerate(clusters.tolist())
        if hidden[k]
    )


def _degrees(metric: Metric) -> Degrees:
    return "clusters" if isinstance(metric, CountMetric) else "kurtosis"


def _alike(drawn: Sample) -> Clusters:
    """Clusters of a difference: what two encoders have in common falls out, sizes among it."""
    return Clusters(site=drawn.site, sites=drawn.sites)


def _faultless(mean_of: Literal["true", "either"], counts: Floats) -> NDArray[np.bool_]:
    """Which classes add no variance to a mean over classes, of (C, k, c) counts: (k,) bool."""
    total = counts.sum(axis=0)
    right, true = np.diagonal(total), total.sum(axis=1)
    predicted = total.sum(axis=0)[: len(true)]
    return np.asarray((right == true) & ((right == predicted) | (mean_of == "true")))
