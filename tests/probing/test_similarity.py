"""Linear CKA against its definition by n x n kernels, and what it must not see."""

from __future__ import annotations

import numpy as np
import pytest

from embedcache.probing.principal_axes import principal_map
from embedcache.probing.similarity import linear_cka


def reader(x: np.ndarray):
    return lambda rows: x[rows].astype(np.float32)


def by_kernels(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Plain and debiased CKA from n x n kernels (Song et al. 2012, equation 5)."""

    def trace(k: np.ndarray, other: np.ndarray) -> float:
        """Of the product of two symmetric kernels."""
        return float((k * other).sum())

    def hsic(k: np.ndarray, other: np.ndarray) -> float:
        n = len(k)
        k, other = k - np.diag(np.diag(k)), other - np.diag(np.diag(other))
        one = np.ones(n)
        middle = (one @ k @ one) * (one @ other @ one) / ((n - 1) * (n - 2))
        last = 2 / (n - 2) * (one @ k) @ (other @ one)
        return (trace(k, other) + middle - last) / (n * (n - 3))

    k, other = x @ x.T, y @ y.T
    mean = [kernel.mean(axis=0) for kernel in (k, other)]
    centred = [
        kernel - m - m[:, None] + m.mean() for kernel, m in zip((k, other), mean, strict=True)
    ]
    plain = trace(*centred) / np.sqrt(trace(centred[0], centred[0]) * trace(centred[1], centred[1]))
    return plain, hsic(k, other) / np.sqrt(hsic(k, k) * hsic(other, other))


def features(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, 3))
    first = shared @ rng.standard_normal((3, 12)) + rng.standard_normal((n, 12)) + 3
    return first, shared @ rng.standard_normal((3, 7)) + rng.standard_normal((n, 7)) - 1


@pytest.mark.parametrize("n", [5, 40, 2500])
def test_blocks_of_rows_give_the_kernels_cka(n: int) -> None:
    x, y = features(n)
    found = linear_cka([reader(x), reader(y)], np.arange(n))[0, 1]
    if n == 2500:  # more than two blocks; kernels of all rows would take a gigabyte
        x, y = x[:n], y[:n]
    assert (found.plain, found.debiased) == pytest.approx(by_kernels(x, y), abs=2e-5)


def test_rotation_and_scale_of_an_encoder_are_not_seen() -> None:
    x, _ = features(60)
    turn, _ = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))
    found = linear_cka([reader(x), reader(5 * x @ turn + 2)], np.arange(60))[0, 1]
    assert found.plain == pytest.approx(1, abs=1e-5)
    assert found.debiased == pytest.approx(1, abs=1e-5)


def test_unrelated_encoders_of_many_dimensions_agree_only_before_debiasing() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 400)), rng.standard_normal((50, 400))
    found = linear_cka([reader(x), reader(y)], np.arange(50))[0, 1]
    assert found.plain > 0.8
    assert abs(found.debiased) < 0.1


def test_three_images_have_no_debiased_form() -> None:
    x, y = features(3)
    assert linear_cka([reader(x), reader(y)], np.arange(3))[0, 1].debiased is None


def test_the_map_is_scikit_learn_s_pca_of_standardised_features() -> None:
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    x, _ = features(80)
    places, explained = principal_map(x.astype(np.float32))
    pca = PCA(2).fit(StandardScaler().fit_transform(x))
    expected = pca.transform(StandardScaler().fit_transform(x))
    assert explained == pytest.approx(pca.explained_variance_ratio_, abs=1e-5)
    for axis in (0, 1):
        turned = np.sign(places[:, axis] @ expected[:, axis])
        assert np.allclose(places[:, axis], turned * expected[:, axis], atol=1e-3)


def test_a_single_feature_has_one_axis() -> None:
    places, explained = principal_map(np.arange(5, dtype=np.float32)[:, None])
    assert explained == (pytest.approx(1),)
    assert not places[:, 1].any()
