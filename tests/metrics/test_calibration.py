"""Calibration errors by hand, and around zero where a model is calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from embedcache.metrics import ece, ece_debiased
from embedcache.metrics.reliability import bin_rows, gap_variance


def two_classes(confidence: list[float], right: list[bool]) -> NDArray[np.float64]:
    """Class 0 is predicted with a confidence; whoever is not right has label 1."""
    first = np.array(confidence)
    return np.column_stack([first, 1 - first])


def test_two_confidences_are_two_bins_by_hand() -> None:
    # Ten at .9 of whom eight are right, ten at .6 of whom six are: gaps .1 and 0, mean .05.
    label = np.array(([0] * 8 + [1] * 2) + ([0] * 6 + [1] * 4), np.int16)
    probability = two_classes([0.9] * 10 + [0.6] * 10, [])
    assert ece.METRIC.from_clusters(probability, label, np.arange(20)) == pytest.approx(0.05)
    bins = bin_rows(probability, label)
    np.testing.assert_allclose(bins.size, [10, 10])
    np.testing.assert_allclose(bins.gap, [0, 0.1], atol=1e-15)
    # Every row its own cluster: the gap is a mean of ten, its variance s^2 / 10.
    variance = gap_variance(bins, np.arange(20))
    np.testing.assert_allclose(variance, [0.24 * 10 / 9 / 10, 0.16 * 10 / 9 / 10])
    q = 0.5 * (0.01 - 0.16 / 9) + 0.5 * (0 - 0.24 / 9)
    value = ece_debiased.METRIC.from_clusters(probability, label, np.arange(20))
    assert value == pytest.approx(-np.sqrt(-q))


def test_rows_of_one_patient_do_not_count_as_many() -> None:
    label = np.array(([0] * 8 + [1] * 2) * 2, np.int16)
    probability = two_classes([0.9] * 20, [])
    apart = gap_variance(bin_rows(probability, label), np.arange(20))
    # The second ten repeat the first: ten clusters of two equal rows are ten rows.
    together = gap_variance(bin_rows(probability, label), np.tile(np.arange(10), 2))
    np.testing.assert_allclose(apart * 20 * 19 / 20, together * 10 * 9 / 10)


def test_a_bin_of_one_patient_has_no_debiased_error() -> None:
    label = np.array([0, 0, 1, 1], np.int16)
    probability = two_classes([0.9, 0.9, 0.6, 0.6], [])
    assert np.isnan(ece_debiased.METRIC.from_clusters(probability, label, np.array([0, 0, 1, 2])))


def test_bins_hold_equally_many_rows_where_confidences_differ() -> None:
    first = np.random.default_rng(0).uniform(0.5, 1, 1500)
    bins = bin_rows(np.column_stack([first, 1 - first]), np.zeros(1500, np.int16))
    assert bins.size.tolist() == [100] * 15


def test_a_calibrated_model_scores_by_chance_and_zero_when_debiased() -> None:
    # 112 clusters of 4 images, as abroad: the plug-in error of a calibrated model is not 0
    # (statistics.md section 7 measured .017 under patient effects), the debiased one is on average.
    random = np.random.default_rng(3)
    cluster = np.repeat(np.arange(112), 4)
    plain, debiased = [], []
    for _ in range(300):
        first = random.uniform(0.5, 1, len(cluster))
        label = (random.random(len(cluster)) > first).astype(np.int16)
        probability = np.column_stack([first, 1 - first])
        plain.append(ece.METRIC.from_clusters(probability, label, cluster))
        debiased.append(ece_debiased.METRIC.from_clusters(probability, label, cluster))
    assert np.mean(plain) > 0.03
    squares = np.mean(np.sign(debiased) * np.square(debiased))
    assert abs(squares) < 0.15 * np.mean(np.square(plain))
