"""CPU seconds of 10,000 paired cluster draws, beside scipy and scikit-learn; and of cluster swap.

    python benchmarks/bootstrap.py

Seven encoders on FETAL_PLANES_DB's 12,400 images of 1,792 patients (six planes) and on 403 of 112
African patient clusters (four planes, five sites); probabilities are simulated, labels and patients
are real. The product's functions run in a process of their own, so that its peak memory is theirs.

Bars: all count metrics 0.6 s and 1,500 times fewer seconds a draw than `scipy.stats.bootstrap`
calling `sklearn.metrics.f1_score`; AUROC 5 s at .995 and 400 times fewer than `roc_auc_score`,
20 s at .86; swap of 21 pairs 0.6 s; all together 700 MB. One core; medians of RUNS.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # before numpy is loaded

import numpy as np
from numpy.typing import NDArray
from record import record
from simulated_studies import (
    Rows,
    Structure,
    africa,
    as_published,
    counts,
    model,
    scores,
    softmax,
    spain,
)

from embedcache.evaluation.draws import DRAWS
from embedcache.evaluation.percentile import draw_values, plan_scores, plan_tables
from embedcache.evaluation.sample import leave_counts_out
from embedcache.evaluation.swap import swap_counts, two_sided
from embedcache.metrics import (
    accuracy,
    auroc,
    average_precision,
    balanced_accuracy,
    brier,
    f1,
    log_loss,
    macro_f1,
    mcc,
    patient_weighted_macro_f1,
    precision,
    sensitivity,
)
from embedcache.metrics.metric import ClassMetric, CountMetric, Floats, ScoreMetric

ENCODERS, RUNS = 7, 5
COUNT_METRICS: tuple[CountMetric | ClassMetric, ...] = (
    macro_f1.METRIC,
    balanced_accuracy.METRIC,
    accuracy.METRIC,
    mcc.METRIC,
    patient_weighted_macro_f1.METRIC,
    sensitivity.METRIC,
    precision.METRIC,
    f1.METRIC,
)
#: AUROC that each encoder has on each cohort.
AUROC_LEVELS = (0.995, 0.86)
#: Draws of scipy and scikit-learn, whose seconds a draw do not depend on how many there are.
SLOW_DRAWS = 100


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """A cohort as seven encoders see it.

    Attributes:
        structure: patients and sites.
        rows: images in order of patient.
        probability: (7, n, k) float64.
        predicted: (7, n).
        counts: confusion counts, (7, C, k, k).
    """

    structure: Structure
    rows: Rows
    probability: Floats
    predicted: NDArray[np.int64]
    counts: Floats


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--ours", action="store_true", help="print the product's figures alone")
    if arguments.parse_args().ours:
        print(json.dumps(ours()))
        return
    run = [sys.executable, __file__, "--ours"]
    found = json.loads(subprocess.run(run, stdout=subprocess.PIPE, check=True, text=True).stdout)
    slow = theirs()
    record("bootstrap", {**found, "scipy_and_scikit_learn": slow, "ratios": ratios(found, slow)})


def ours() -> dict[str, Any]:
    """Seconds of every fast path, and the peak memory of this process."""
    figures: dict[str, Any] = {"draws": DRAWS, "encoders": ENCODERS, "runs": RUNS}
    before = _peak_mb()
    for level in AUROC_LEVELS:
        cohorts = judged(level)
        figures[f"auroc_{level}"] = {
            "true": [[round(_auroc(c, e), 4) for e in range(ENCODERS)] for c in cohorts],
            "auroc_seconds": timed(lambda c=cohorts: draw_scores(c, auroc.METRIC)),
        }
        if level == AUROC_LEVELS[0]:
            figures |= _at_the_usual_level(cohorts)
    return {**figures, "peak_mb": _peak_mb(), "peak_mb_of_imports": before}


def _at_the_usual_level(cohorts: Sequence[Judged]) -> dict[str, Any]:
    usual = [m for m in COUNT_METRICS if m is not patient_weighted_macro_f1.METRIC]
    return {
        "macro_f1_seconds": timed(lambda: draw_counts(cohorts, [macro_f1.METRIC])),
        "seven_count_metrics_seconds": timed(lambda: draw_counts(cohorts, usual)),
        "count_metrics_seconds": timed(lambda: draw_counts(cohorts, COUNT_METRICS)),
        "average_precision_seconds": timed(lambda: draw_scores(cohorts, average_precision.METRIC)),
        "log_loss_seconds": timed(lambda: draw_scores(cohorts, log_loss.METRIC)),
        "brier_seconds": timed(lambda: draw_scores(cohorts, brier.METRIC)),
        "swap_21_pairs_seconds": timed(lambda: swap(cohorts)),
        "jackknife_seconds": timed(lambda: jackknife(cohorts)),
    }


def draw_counts(
    cohorts: Sequence[Judged], metrics: Sequence[CountMetric | ClassMetric]
) -> list[Floats]:
    """Every encoder's count metrics under the same draws."""
    return [
        values
        for cohort in cohorts
        for values in draw_values(
            [plan_tables(metrics, list(cohort.counts))], cohort.structure.cluster_site
        )
    ]


def draw_scores(cohorts: Sequence[Judged], metric: ScoreMetric) -> list[Floats]:
    """Every encoder's metric of probabilities under the same draws."""
    return [
        values
        for cohort in cohorts
        for values in draw_values(
            [
                plan_scores(metric, one[np.newaxis], cohort.rows.label, cohort.rows.cluster)
                for one in cohort.probability
            ],
            cohort.structure.cluster_site,
        )
    ]


def swap(cohorts: Sequence[Judged]) -> None:
    """P of all pairs by themselves and adjusted over the family, for macro-F1."""
    pairs = list(combinations(range(ENCODERS), 2))
    for cohort in cohorts:
        swapped = swap_counts(macro_f1.METRIC, cohort.counts, pairs)
        two_sided(swapped)


def jackknife(cohorts: Sequence[Judged]) -> None:
    """Macro-F1 without each cluster."""
    for cohort in cohorts:
        for table in cohort.counts:
            leave_counts_out(macro_f1.METRIC, table)


def judged(level: float) -> list[Judged]:
    """Both cohorts, seen by seven encoders of one AUROC."""
    return [_judged(spain(), level), _judged(africa(), level)]


def _judged(structure: Structure, level: float) -> Judged:
    guess = model(structure, 0.9, patient=0.7, seed=1, shared=0.5)
    rows = as_published(structure)
    low, high = 0.0, 10.0
    while high - low > 0.01:
        middle = (low + high) / 2
        score = scores([replace(guess, separation=middle)], rows, np.random.default_rng(0))[0]
        weight = np.ones((1, len(rows.label)))
        below = auroc.from_scores(softmax(score), rows.label, weight)[0] < level
        low, high = (middle, high) if below else (low, middle)
    models = [replace(guess, separation=high)] * ENCODERS
    probability = softmax(scores(models, rows, np.random.default_rng(0)))
    predicted = probability.argmax(axis=-1)
    table = np.stack([counts(rows, one, structure.classes)[0] for one in predicted])
    return Judged(
        structure=structure, rows=rows, probability=probability, predicted=predicted, counts=table
    )


def _auroc(cohort: Judged, encoder: int) -> float:
    weight = np.ones((1, len(cohort.rows.label)))
    return float(auroc.from_scores(cohort.probability[encoder], cohort.rows.label, weight)[0])


def theirs() -> dict[str, Any]:
    """Seconds a draw of the usual way: one encoder after another, one draw after another."""
    cohorts = judged(AUROC_LEVELS[0])
    return {
        "draws": SLOW_DRAWS,
        "f1_score_seconds_a_draw": sum(_scipy_f1(cohort) for cohort in cohorts),
        "roc_auc_score_seconds_a_draw": sum(_scikit_learn_auroc(cohort) for cohort in cohorts),
    }


def _scipy_f1(cohort: Judged) -> float:
    from scipy.stats import bootstrap
    from sklearn.metrics import f1_score

    label, images = cohort.rows.label, _images_of(cohort)
    classes = np.arange(cohort.structure.classes)

    def seconds(predicted: NDArray[np.int64]) -> float:
        def statistic(drawn: NDArray[np.int64]) -> float:
            row = np.concatenate([images[cluster] for cluster in drawn])
            return float(f1_score(label[row], predicted[row], labels=classes, average="macro"))

        started = time.process_time()
        bootstrap(
            (np.arange(len(images)),),
            statistic,
            n_resamples=SLOW_DRAWS,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(0),
        )
        return (time.process_time() - started) / SLOW_DRAWS

    return sum(seconds(predicted) for predicted in cohort.predicted)


def _scikit_learn_auroc(cohort: Judged) -> float:
    from sklearn.metrics import roc_auc_score

    label, images = cohort.rows.label, _images_of(cohort)
    random = np.random.default_rng(0)
    started = time.process_time()
    for _ in range(SLOW_DRAWS):
        drawn = random.integers(0, len(images), len(images))
        row = np.concatenate([images[cluster] for cluster in drawn])
        for probability in cohort.probability:
            roc_auc_score(label[row], probability[row], multi_class="ovr", average="macro")
    return (time.process_time() - started) / SLOW_DRAWS


def _images_of(cohort: Judged) -> list[NDArray[np.int64]]:
    cluster = cohort.rows.cluster
    return np.split(np.arange(len(cluster)), np.flatnonzero(np.diff(cluster)) + 1)


def ratios(found: dict[str, Any], slow: dict[str, Any]) -> dict[str, float]:
    """How many times fewer seconds a draw the product takes.

    `f1_score` gives one metric; beside the same alone stand the seven that count images (their own
    F1s, sensitivities and precisions a class included), and these with the patient-weighted one,
    whose weights are fractions and need float64.
    """
    sides = {
        "macro_f1_over_f1_score": ("f1_score", found["macro_f1_seconds"]),
        "seven_count_metrics_over_f1_score": ("f1_score", found["seven_count_metrics_seconds"]),
        "all_count_metrics_over_f1_score": ("f1_score", found["count_metrics_seconds"]),
        "auroc_over_roc_auc_score": (
            "roc_auc_score",
            found[f"auroc_{AUROC_LEVELS[0]}"]["auroc_seconds"],
        ),
    }
    return {
        name: round(slow[f"{theirs}_seconds_a_draw"] / (ours["median"] / DRAWS))
        for name, (theirs, ours) in sides.items()
    }


def timed(work: Callable[[], object]) -> dict[str, float]:
    """Median and range of RUNS."""
    seconds = []
    for _ in range(RUNS):
        started = time.process_time()
        work()
        seconds.append(time.process_time() - started)
    return {
        "median": round(statistics.median(seconds), 4),
        "least": round(min(seconds), 4),
        "most": round(max(seconds), 4),
    }


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    main()
