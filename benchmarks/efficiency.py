"""Whether intervals of few-patient curves cover, beside draws alone and clusters alone.

Simulated studies: patients with an effect of their own, three classes, 5 patient folds, 10 draws,
models and resampling by the product's own functions. The truth is macro-F1 on 2,000 new patients,
averaged over all draws of all studies. Run from the repository:
`python benchmarks/efficiency.py [--studies 300]`; about 10 CPU minutes.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from record import record

from embedcache.evaluation.efficiency import resampled_means
from embedcache.metrics.macro_f1 import METRIC as MACRO_F1
from embedcache.probing.efficiency import C
from embedcache.probing.estimators.scikit_learn import refit
from embedcache.protocol.folds import assign_folds
from embedcache.protocol.subsets import draw_patients

CLASSES, DIMENSIONS, FOLDS, DRAWS = 3, 24, 5, 10
PATIENTS, SIZES = 100, (2, 5, 10)
NEW_PATIENTS = 2_000
#: Spread of a patient's own effect, beside a spread of 1 between images.
EFFECT = 0.8
#: Distance between class means.
APART = 2.2

Rows = tuple[NDArray[np.float32], NDArray[np.int16], NDArray[np.int64]]


def patients(random: np.random.Generator, number: int) -> Rows:
    """Features, labels and clusters of patients with one to five images of one class."""
    images = random.integers(1, 6, number)
    cluster = np.repeat(np.arange(number), images)
    label = (np.arange(number) % CLASSES)[cluster].astype(np.int16)
    x = random.standard_normal((len(cluster), DIMENSIONS))
    x += EFFECT * random.standard_normal((number, DIMENSIONS))[cluster]
    x[np.arange(len(x)), label] += APART
    return x.astype(np.float32), label, cluster


def confusion(label: NDArray[np.int16], said: NDArray[np.int64]) -> NDArray[np.float64]:
    cells = np.bincount(label * CLASSES + said, minlength=CLASSES**2)
    return cells.reshape(CLASSES, CLASSES).astype(float)


def study(seed: int, new: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Counts (sizes, clusters, draws, k, k) of one study, and F1 on new patients (sizes, draws)."""
    x, label, cluster = patients(np.random.default_rng((1, seed)), PATIENTS)
    fold = assign_folds(label, cluster, folds=FOLDS, seed=0)[cluster]
    counts = np.zeros((len(SIZES), PATIENTS, DRAWS, CLASSES, CLASSES))
    outside = np.zeros((len(SIZES), DRAWS, CLASSES, CLASSES))
    for draw in range(DRAWS):
        for k in range(FOLDS):
            drawn = draw_patients(label, cluster, fold != k, most=SIZES[-1], seed=(seed, draw, k))
            for size, number in enumerate(SIZES):
                rows = np.sort(drawn[:, :number].ravel())
                model = refit(x[rows], label[rows], C, np.array([0.0]))

                def said(some: NDArray[np.float32], model: Any = model) -> NDArray[np.int64]:
                    logit = (some - model.mean) / model.scale @ model.weight.T + model.bias
                    return logit.argmax(axis=1)

                tested = np.flatnonzero(fold == k)
                at = (size, cluster[tested], draw, label[tested], said(x[tested]))
                np.add.at(counts, at, 1)
                outside[size, draw] += confusion(new[1], said(new[0]))
    return counts, MACRO_F1.from_confusion(outside)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=300)
    studies = parser.parse_args().studies
    started = time.process_time()
    new = patients(np.random.default_rng(0), NEW_PATIENTS)
    ends, truths = [], []
    site = np.zeros(PATIENTS, np.int64)
    for seed in range(studies):
        counts, outside = study(seed, new)
        truths.append(outside)
        both = resampled_means([MACRO_F1], counts, site)[..., 0]
        ends.append([quantiles(both), *alone(counts, seed)])
    truth = np.mean(truths, axis=(0, 2))
    low, high = np.moveaxis(np.array(ends), 2, 0)
    covers = ((low <= truth) & (truth <= high)).mean(axis=0)
    ways = ("draws and clusters", "clusters alone", "draws alone")
    record(
        "efficiency",
        {
            "studies": studies,
            "patients": PATIENTS,
            "draws": DRAWS,
            "cpu_seconds": round(time.process_time() - started),
            "coverage_percent": {
                f"{number} patients a class (macro-F1 {truth[size]:.3f})": {
                    way: round(100 * float(covers[row, size]), 1) for row, way in enumerate(ways)
                }
                for size, number in enumerate(SIZES)
            },
        },
    )


def quantiles(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ends of the middle 95 %, (2, sizes)."""
    return np.nanquantile(values, (0.025, 0.975), axis=0)


def alone(counts: NDArray[np.float64], seed: int) -> tuple[NDArray[np.float64], ...]:
    """Percentiles with one source only: clusters, by averaging draws first; draws."""
    random = np.random.default_rng((2, seed))
    weight = random.multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), 2000).astype(float)
    drawn = np.tensordot(weight, counts, (1, 1))
    clusters = MACRO_F1.from_confusion(drawn).mean(axis=2)
    value = MACRO_F1.from_confusion(counts.sum(axis=1))
    share = random.multinomial(DRAWS, np.full(DRAWS, 1 / DRAWS), 2000) / DRAWS
    return quantiles(clusters), quantiles(share @ value.T)


if __name__ == "__main__":
    main()
