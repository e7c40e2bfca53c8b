"""Features that a probe has something to learn from, and scikit-learn's way of probing them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest


def _features(n: int, d: int, classes: int, seed: int = 0):
    """Overlapping classes, patients of three images, correlated positive features."""
    rng = np.random.default_rng(seed)
    cluster = np.arange(n) // 3
    label = (cluster % classes).astype(np.int16)
    spread = (np.arange(d) + 1.5) ** -0.43
    centre = 0.3 * rng.standard_normal((classes, d))
    patient = 0.5 * rng.standard_normal((n, d))[cluster]
    x = (centre[label] + patient + rng.standard_normal((n, d))) * spread
    return np.exp(0.3 * x).astype(np.float32), label, cluster


def _pipeline(c: float):
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=c, tol=1e-10, max_iter=50_000))


def _searched(x, label, inner, grid) -> np.ndarray:
    """Pooled log loss of each C by plain scikit-learn in float64, every fit cold and tight.

    Probabilities clipped at 1e-15 (statistics.md section 2); scikit-learn's log_loss clips lower.
    """
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    split = PredefinedSplit(inner)
    loss = []
    for c in grid:
        found = cross_val_predict(_pipeline(c), x, label, cv=split, method="predict_proba")
        loss.append(-np.log(np.maximum(found[np.arange(len(label)), label], 1e-15)).mean())
    return np.array(loss)


@pytest.fixture(scope="session")
def features() -> Callable:
    """Gives features (n, d), labels and patients."""
    return _features


@pytest.fixture(scope="session")
def pipeline() -> Callable:
    """Gives scikit-learn's pipeline at one C, in float64 and tight."""
    return _pipeline


@pytest.fixture(scope="session")
def searched() -> Callable:
    """Gives the pooled inner log loss of each C by that pipeline."""
    return _searched
