"""How little C moves the class that a model of few patients predicts, on real features.

Needs a store with the 888 Spanish images and efficientnet-lite0:
`embedcache extract store.zarr --cohort spain=fetal-planes-db:PLACE --encoder efficientnet-lite0`,
then `python benchmarks/few_patients_c.py store.zarr`; three CPU minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from record import record

from embedcache.metrics.macro_f1 import METRIC as MACRO_F1
from embedcache.probing.estimators.scikit_learn import refit
from embedcache.protocol.clusters import cluster_images
from embedcache.protocol.folds import assign_folds
from embedcache.protocol.subsets import draw_patients
from embedcache.store.reader import open_store

SIZES, DRAWS, VALUES = (1, 2, 5, 10, 20, 50), 15, (1e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 10.0)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store", type=Path)
    parser.add_argument("--cohort", default="spain")
    parser.add_argument("--encoder", default="efficientnet-lite0")
    given = parser.parse_args()
    store = open_store(given.store)
    cohort = store.cohort(given.cohort)
    rows = np.unique(cohort.row[cohort.label >= 0], return_index=True)[1]
    image = store.images.digest[cohort.row[rows]]
    x = store.features(store.select(given.encoder).id, cohort.row[rows])
    _, label = np.unique(cohort.label[rows], return_inverse=True)
    label = label.astype(np.int16)
    cluster = cluster_images(image, cohort.patient[rows])
    pool = assign_folds(label, cluster, folds=5, seed=0)[cluster] != 0
    classes = int(label.max()) + 1
    found: dict[int, dict[float, list[float]]] = {n: {c: [] for c in VALUES} for n in SIZES}
    for draw in range(DRAWS):
        drawn = draw_patients(label, cluster, pool, most=SIZES[-1], seed=(0, draw))
        for number in SIZES:
            taught = np.sort(drawn[:, :number].ravel())
            for c in VALUES:
                model = refit(x[taught], label[taught], c, np.array([0.0]))
                logit = (x[~pool] - model.mean) / model.scale @ model.weight.T + model.bias
                cells = label[~pool] * classes + logit.argmax(axis=1)
                table = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
                found[number][c].append(float(MACRO_F1.from_confusion(table.astype(float))))
    record(
        "few-patients-c",
        {
            "images": len(label),
            "tested": int((~pool).sum()),
            "draws": DRAWS,
            "macro_f1_by_patients_and_c": {
                str(number): {f"{c:g}": round(float(np.mean(v)), 4) for c, v in by_c.items()}
                for number, by_c in found.items()
            },
        },
    )


if __name__ == "__main__":
    main()
