"""A small study: three classes apart in feature space, patients of two images, two cohorts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedcache.testing.stored_features import MadeCohort, put_cohort, put_features

CLASSES = ("brain", "femur", "thorax")


def _cohort(name: str, patients: int) -> MadeCohort:
    rows = range(2 * patients)
    return MadeCohort(
        name=name,
        classes=CLASSES,
        image=[f"{name}-{k}" for k in rows],
        label=[CLASSES[(k // 2) % 3] for k in rows],
        patient=[f"{name}-patient-{k // 2}" for k in rows],
        strata={"site": [("north", "south")[(k // 2) % 2] for k in rows]},
    )


def _make_study(
    folder: Path,
    *,
    seed: int = 0,
    failed: dict | None = None,
    change: Callable[[MadeCohort], MadeCohort] = lambda cohort: cohort,
) -> Path:
    store = folder / "store.zarr"
    cohorts = [_cohort("home", 18), _cohort("abroad", 6)]
    labels = {}
    for cohort in cohorts:
        put_cohort(store, change(cohort))
        labels |= dict(zip(cohort.image, cohort.label, strict=True))
    rng = np.random.default_rng(seed)
    for name, dim in (("good", 6), ("other", 4)):
        lost = (failed or {}).get(name, {})
        vectors = {
            image: rng.standard_normal(dim) + 2 * np.eye(dim)[CLASSES.index(label)]
            for image, label in labels.items()
            if image not in lost
        }
        put_features(store, name, vectors, failed=lost)
    return store


@pytest.fixture(scope="session")
def make_study() -> Callable[..., Path]:
    """Makes a store of cohorts `home` (18 patients) and `abroad` (6), encoders `good`, `other`.

    `change` alters the cohorts on their way into the store, features stay what they are.
    """
    return _make_study
