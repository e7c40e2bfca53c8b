"""A small study: two classes apart in feature space, patients of two images, two cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from embedcache.testing.stored_features import MadeCohort, put_cohort, put_features

CLASSES = ("brain", "femur", "thorax")


def rows_of(name: str, patients: int, classes: Sequence[str] = CLASSES, **more) -> MadeCohort:
    """Patients of two images and one class each."""
    owner = [f"{name}-patient-{k // 2}" for k in range(2 * patients)]
    label = [classes[(k // 2) % len(classes)] for k in range(2 * patients)]
    image = [f"{name}-{k}" for k in range(2 * patients)]
    site = {"site": [("north", "south")[(k // 2) % 2] for k in range(2 * patients)]}
    given = {"classes": tuple(classes), "image": image, "label": label, "patient": owner}
    return MadeCohort(name=name, **{**given, "strata": site, **more})


def vectors_of(
    cohorts: Sequence[MadeCohort], dim: int = 6, seed: int = 0
) -> Mapping[str, np.ndarray]:
    """A vector for every image, its first dimensions telling its class."""
    rng = np.random.default_rng(seed)
    vectors = {}
    for cohort in cohorts:
        for image, label in zip(cohort.image, cohort.label, strict=True):
            if image is not None:
                at = CLASSES.index(label) if label in CLASSES else 0
                vectors[image] = (rng.standard_normal(dim) + 2 * np.eye(dim)[at]).astype(np.float32)
    return vectors


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A store of cohorts `home` (18 patients) and `abroad` (6), two encoders."""
    store = tmp_path / "store.zarr"
    cohorts = [rows_of("home", 18), rows_of("abroad", 6)]
    for cohort in cohorts:
        put_cohort(store, cohort)
    put_features(store, "good", vectors_of(cohorts))
    put_features(store, "other", vectors_of(cohorts, dim=4, seed=1))
    return store
