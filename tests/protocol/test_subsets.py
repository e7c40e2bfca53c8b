"""Small training sets are nested, hold one image a patient, and follow digests and seed alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache.errors import TooFewForEfficiencyError
from embedcache.protocol.clusters import cluster_images
from embedcache.protocol.folds import Folds, draw_folds, training_sets
from embedcache.protocol.subsets import draw_patients, patient_counts

few = settings(max_examples=40, deadline=None)


def cohort(patients: int, seed: int = 0, classes: int = 2) -> tuple[np.ndarray, ...]:
    """Digests in order, labels and clusters of patients with one to four images."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(patients), rng.integers(1, 5, patients))
    image = rng.integers(0, 256, (len(patient), 32), dtype=np.uint8)
    image = image[np.lexsort(image.T[::-1])]
    patient = rng.permutation(patient)
    return image, (patient % classes).astype(np.int16), cluster_images(image, patient)


def folds_of(patients: int) -> Folds:
    image, label, cluster = cohort(patients)
    return draw_folds(image, label, cluster, {}, classes=["a", "b"], folds=5, seed=0)


@few
@given(st.integers(0, 50), st.integers(2, 8), st.integers(1, 8))
def test_a_larger_sample_holds_the_smaller_one(seed: int, most: int, fewer: int) -> None:
    _, label, cluster = cohort(24, seed)
    pool = np.ones(len(label), np.bool_)
    large = draw_patients(label, cluster, pool, most=most, seed=(seed,))
    small = draw_patients(label, cluster, pool, most=min(fewer, most), seed=(seed,))
    assert np.array_equal(large[:, : min(fewer, most)], small)


@few
@given(st.integers(0, 50), st.integers(0, 3))
def test_each_class_gives_one_image_of_each_of_its_patients_from_the_pool(seed, left_out) -> None:
    _, label, cluster = cohort(24, seed)
    pool = cluster % 4 != left_out
    clusters = [len(np.unique(cluster[pool & (label == k)])) for k in (0, 1)]
    drawn = draw_patients(label, cluster, pool, most=min(clusters), seed=(seed, 7))
    for k in (0, 1):
        assert (label[drawn[k]] == k).all()
        assert pool[drawn[k]].all()
        assert len(np.unique(cluster[drawn[k]])) == min(clusters)


def test_every_patient_and_every_image_has_its_chance() -> None:
    _, label, cluster = cohort(12)
    pool = np.ones(len(label), np.bool_)
    seen = [draw_patients(label, cluster, pool, most=1, seed=(k,))[0, 0] for k in range(3000)]
    own = np.flatnonzero(label == 0)
    count = np.bincount(seen, minlength=len(label))[own]
    # A patient of six comes in a sixth of the draws, each of its images as often as the others.
    images = np.bincount(cluster[own])[cluster[own]]
    expected = 3000 / 6 / images
    assert (np.abs(count - expected) < 5 * np.sqrt(expected)).all()


def test_draws_differ_with_every_part_of_the_seed() -> None:
    _, label, cluster = cohort(24)
    pool = np.ones(len(label), np.bool_)
    seeds = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    drawn = {draw_patients(label, cluster, pool, most=8, seed=seed).tobytes() for seed in seeds}
    assert len(drawn) == 4


def test_at_most_half_of_the_rarest_class_is_drawn_and_what_is_left_out_is_named() -> None:
    folds = folds_of(50)  # 25 patients a class, 20 of them outside each fold
    fewest = min(
        len(np.unique(folds.cluster[train & (folds.label == k)]))
        for train in training_sets(folds).values()
        for k in (0, 1)
    )
    possible, note = patient_counts(folds, classes=["a", "b"], asked=(1, 5, fewest // 2, 50))
    assert possible == (1, 5, fewest // 2)
    assert "50 patients a class are left out" in note
    assert patient_counts(folds, classes=["a", "b"], asked=(1, 5)) == ((1, 5), "")


def test_too_few_patients_for_any_draw_name_the_class() -> None:
    with pytest.raises(TooFewForEfficiencyError, match=r"class '[ab]'.*--classes"):
        patient_counts(folds_of(50), classes=["a", "b"], asked=(20,))
