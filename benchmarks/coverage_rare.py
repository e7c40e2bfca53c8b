"""Coverage where one class of four lies in few of 60 patients, by their number."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from coverage_intervals import USUAL, Outcome, outcome, printed, studies_of, summary
from simulated_studies import model, rare_class, truth_counts

from embedcache.evaluation.intervals import Clusters, Interval, jackknife
from embedcache.evaluation.sample import LeftOut, Sample, leave_one_out
from embedcache.metrics import f1, macro_f1, sensitivity
from embedcache.metrics.metric import ClassMetric

PATIENTS, RARE = 60, 3
#: Studies whose images make the truth.
SIZES = 8_000


def rare(studies: int) -> Iterator[dict[str, object]]:
    """One setting for each number of patients who have the class."""
    for patients in (2, 3, 4, 5, 6, 8, 10, 12, 15, 20):
        for level in (0.85, 0.95):
            yield _setting(patients, level, studies)


def _setting(patients: int, level: float, studies: int) -> dict[str, object]:
    structure = rare_class(PATIENTS, patients)
    judge = model(structure, level, patient=USUAL, seed=1)
    expected = truth_counts(structure, judge, sizes=SIZES, seed=2)
    found: dict[str, list[Outcome]] = {}
    for drawn in studies_of(structure, judge, studies, seed=3):
        # Those who have the class are a stratum of the draw alone: the study has one site.
        whole = replace(drawn, site=np.zeros_like(drawn.site), sites=("",))
        left = leave_one_out(macro_f1.METRIC, whole)
        assert left is not None  # a count metric always has a value
        interval = printed(macro_f1.METRIC, left, whole)
        true = float(macro_f1.METRIC.from_confusion(expected))
        found.setdefault("macro-f1", []).append(outcome(interval, true))
        for metric in (sensitivity.METRIC, f1.METRIC):
            true = float(metric.from_confusion(expected)[RARE])
            own = outcome(_of_class(metric, whole), true)
            found.setdefault(f"{metric.name} of the class", []).append(own)
    return {
        "patients_with_the_class": patients,
        "patients": PATIENTS,
        "macro_f1": level,
        "studies": studies,
        "default": {name: summary(outcomes) for name, outcomes in found.items()},
    }


def _of_class(metric: ClassMetric, drawn: Sample) -> Interval:
    """The rare class's interval, as evaluation computes it: bounded by its own patients."""
    total = drawn.counts.sum(axis=0)
    true = drawn.counts[:, RARE].sum(axis=1) > 0
    predicted = drawn.counts[:, :, RARE].sum(axis=1) > 0
    counted = true if metric.counts == "true" else true | predicted
    left = LeftOut(
        value=float(metric.from_confusion(total)[RARE]),
        without=metric.from_confusion(total - drawn.counts)[:, RARE],
    )
    clusters = Clusters(site=drawn.site, sites=drawn.sites, counted=counted)
    return jackknife(left, clusters, scale=metric.scale, degrees="clusters")
