"""Coverage where one class of four lies in few of a study's patients, by both numbers.

Beside what the product prints stands what it would print if it withheld nothing: why it withholds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from coverage_intervals import USUAL, Outcome, outcome, studies_of, summary
from simulated_studies import model, rare_class, truth, truth_counts

from embedcache.evaluation.intervals import Clusters, Interval, jackknife
from embedcache.evaluation.printed import clusters_of, metric_interval
from embedcache.evaluation.sample import LeftOut, Sample, leave_one_out
from embedcache.evaluation.unequal import expected_class_variance
from embedcache.metrics import auroc, balanced_accuracy, f1, macro_f1, sensitivity
from embedcache.metrics.metric import ClassMetric, CountMetric, Metric

#: Patients of a study, and numbers of them who have the class.
CASES = {60: (2, 3, 4, 5, 6, 8, 10, 12, 15, 20), 30: (3, 5, 8, 10), 20: (3, 5, 7)}
#: Place of the rare class.
RARE = 3
METRICS: tuple[Metric, ...] = (macro_f1.METRIC, balanced_accuracy.METRIC, auroc.METRIC)
#: Studies whose images make the truth.
SIZES = 8_000


def rare(studies: int) -> Iterator[dict[str, object]]:
    """One setting for each number of patients, and of those who have the class."""
    for patients, numbers in CASES.items():
        for own in numbers:
            for level in (0.85, 0.95):
                yield _setting(patients, own, level, studies)


def _setting(patients: int, own: int, level: float, studies: int) -> dict[str, object]:
    structure = rare_class(patients, own)
    judge = model(structure, level, patient=USUAL, seed=1)
    true, _ = truth(structure, judge, METRICS, sizes=SIZES, seed=2)
    expected = truth_counts(structure, judge, sizes=SIZES, seed=2)
    found: dict[str, list[Outcome]] = {}
    regardless: dict[str, list[Outcome]] = {}
    for drawn in studies_of(structure, judge, studies, seed=3):
        # Those who have the class are a stratum of the draw alone: the study has one site.
        whole = replace(drawn, site=np.zeros_like(drawn.site), sites=("",))
        for metric in METRICS:
            left = leave_one_out(metric, whole)
            assert left is not None  # every study has probabilities
            one = outcome(metric_interval(metric, whole, left), true[metric.name])
            found.setdefault(metric.name, []).append(one)
            one = outcome(_regardless(metric, whole, left), true[metric.name])
            regardless.setdefault(metric.name, []).append(one)
        for of_class in (sensitivity.METRIC, f1.METRIC):
            value = float(of_class.from_confusion(expected)[RARE])
            one = outcome(_of_class(of_class, whole), value)
            found.setdefault(f"{of_class.name} of the class", []).append(one)
    return {
        "patients_with_the_class": own,
        "patients": patients,
        "macro_f1": level,
        "studies": studies,
        "default": {name: summary(outcomes) for name, outcomes in found.items()},
        "if_none_were_withheld": {name: summary(outcomes) for name, outcomes in regardless.items()},
    }


def _regardless(metric: Metric, drawn: Sample, left: LeftOut) -> Interval:
    degrees = "clusters" if isinstance(metric, CountMetric) else "kurtosis"
    return jackknife(left, clusters_of(metric, drawn), scale=metric.scale, degrees=degrees)


def _of_class(metric: ClassMetric, drawn: Sample) -> Interval:
    """The rare class's interval, as evaluation computes it: bounded by its own patients."""
    total = drawn.counts.sum(axis=0)
    left = LeftOut(
        value=float(metric.from_confusion(total)[RARE]),
        without=metric.from_confusion(total - drawn.counts)[:, RARE],
    )
    expected = expected_class_variance(drawn.counts, metric, models=len(drawn.predicted))
    clusters = Clusters(site=drawn.site, sites=drawn.sites, expected=expected[:, RARE])
    return jackknife(left, clusters, scale=metric.scale, degrees="clusters")
