"""Feature sets whose labels and patients are real and whose numbers are drawn.

Labels and patients are those of FETAL_PLANES_DB's table (12,400 images, 1,792 patients). Variances
along the axes fall as those of real efficientnet-lite0 features do (rank^-0.86, steeper beyond a
sixth of the dimensions); classes lie apart mostly in the leading axes, images of a patient resemble
each other, some images are noisier than others, and a softplus makes all of it skewed and
non-negative, like pooled activations. Macro-F1 of a probe comes out at .85 to .91.
"""

from __future__ import annotations

import csv

import numpy as np
from numpy.typing import NDArray
from record import COHORTS

#: How far classes lie apart; puts the macro-F1 of a probe between .85 and .91.
APART = 0.5


def labels_and_patients() -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Class and patient of each image of the published table, numbered from 0."""
    table = COHORTS / "fetal_planes_db_metadata" / "FETAL_PLANES_DB_data.csv"
    with table.open(encoding="utf-8", newline="") as text:
        rows = [
            {name.strip(): value.strip() for name, value in row.items() if name}
            for row in csv.DictReader(text, delimiter=";")
        ]
    label = np.unique([row["Plane"] for row in rows], return_inverse=True)[1]
    patient = np.unique([row["Patient_num"] for row in rows], return_inverse=True)[1]
    return label.astype(np.int16), patient.astype(np.int64)


def features(
    label: NDArray[np.int16],
    patient: NDArray[np.int64],
    dim: int,
    seed: int,
    apart: float = APART,
) -> NDArray[np.float32]:
    """One feature set, (n, dim) float32; `apart` multiplies the variance between classes."""
    rng = np.random.default_rng(seed)
    classes = int(label.max()) + 1
    rank = np.arange(dim)
    variance = (rank + 1.5) ** -0.86
    knee = max(dim // 6, 60)
    steep = variance[knee] * (np.maximum(rank, 1) / knee) ** -1.4
    variance = np.where(rank > knee, steep, variance)
    variance *= dim / variance.sum()

    between = apart * (1.2 * np.exp(-rank / 8) + 0.15 * np.exp(-rank / 60))
    centre = rng.standard_normal((classes, dim))
    centre -= centre.mean(axis=0)
    shared = 0.15 + 0.25 * np.exp(-rank / 40)  # part of the variance that a patient's plane keeps
    planes, plane = np.unique(patient * classes + label, return_inverse=True)
    x = np.sqrt(between) * centre[label]
    x += np.sqrt(shared) * rng.standard_normal((len(planes), dim))[plane]
    noise = np.exp(0.25 * rng.standard_normal((len(label), 1)))
    x += np.sqrt(1 - shared) * noise * rng.standard_normal((len(label), dim))
    turn = np.linalg.qr(rng.standard_normal((dim, dim)).astype(np.float32))[0]
    turned = (x * np.sqrt(variance)).astype(np.float32) @ turn
    return np.logaddexp(0, 1.5 * turned - 1).astype(np.float32)
