"""Neighbours are those of scikit-learn, and k is what pooled held-out loss says."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from typer.testing import CliRunner

from embedcache.errors import ClassAbsentError
from embedcache.probing.estimators import knn
from embedcache.probing.estimators.inner import inner_folds
from embedcache.probing.estimators.knn import ESTIMATOR, NEIGHBOURS, inner_losses, unit
from embedcache.probing.probe import probe
from embedcache.protocol.protocol import Protocol, Tuning


def counted(x, label, tested, k: int, classes: int) -> np.ndarray:
    """(neighbours + share) / (k + 1), neighbours by scikit-learn, brute force, in float64."""
    from sklearn.neighbors import NearestNeighbors

    near = NearestNeighbors(metric="cosine", algorithm="brute").fit(x.astype(np.float64))
    own = label[near.kneighbors(tested.astype(np.float64), k, return_distance=False)]
    count = (own[:, :, np.newaxis] == np.arange(classes)).sum(axis=1)
    return (count + np.bincount(label, minlength=classes) / len(label)) / (k + 1)


@pytest.mark.parametrize("ranked", [4, 1], ids=["from the ranking", "ranked again"])
def test_k_and_probabilities_are_those_of_a_search_by_scikit_learn(
    ranked, features, monkeypatch
) -> None:
    monkeypatch.setattr(knn, "_RANKED", ranked)
    monkeypatch.setattr(knn, "_ROWS", 64)
    x, label, cluster = features(240, 20, 3)
    train = np.stack([*(cluster % 4 != k for k in range(4)), np.ones(240, np.bool_)])
    models = ESTIMATOR.fit(x, label, cluster, train, tuning=Tuning(), seed=0)
    inner = inner_folds(label, cluster, train, tuning=Tuning(), seed=0)
    for rows, fold, fitted in zip(train, inner, models, strict=True):
        tried = [k for k in NEIGHBOURS if k <= 120]
        loss = np.zeros(len(tried))
        for out in (fold == k for k in range(3)):
            learns = rows & ~out
            for place, k in enumerate(tried):
                found = counted(x[learns], label[learns], x[out], k, 3)
                loss[place] -= np.log(found[np.arange(out.sum()), label[out]]).sum()
        loss /= rows.sum()
        usable = loss[: len([k for k in NEIGHBOURS if k <= min_rows(train, inner)])]
        assert fitted.settings["k"] == NEIGHBOURS[int(usable.argmin())]
        assert fitted.settings["inner-log-loss"] == pytest.approx(usable.min(), rel=1e-9)
        if not rows.all():
            expected = counted(x[rows], label[rows], x[~rows], int(fitted.settings["k"]), 3)
            assert np.allclose(fitted.probabilities(x[~rows]), expected, atol=1e-12)


def min_rows(train, inner) -> int:
    sets = zip(train, inner, strict=True)
    return min(int((rows & (fold != k)).sum()) for rows, fold in sets for k in range(3))


def test_one_neighbour_and_the_shares_by_hand() -> None:
    """Two of three training rows are of class 0; the nearest to (1, 0) is of class 1."""
    model = ESTIMATOR.restore(
        {
            "vector": unit(np.array([[0, 1], [0, 2], [3, 0]], np.float32)),
            "label": np.array([0, 0, 1]),
            "share": np.array([2 / 3, 1 / 3]),
            "k": np.array([1.0]),
        }
    )
    found = model.probabilities(np.array([[5, 0.1]], np.float32))
    assert np.allclose(found, [[(2 / 3) / 2, (1 + 1 / 3) / 2]], atol=1e-15)


def test_how_long_features_are_does_not_matter(features) -> None:
    """Lengths that are powers of two change no digit."""
    x, label, cluster = features(90, 6, 3)
    train = (cluster % 5 != 0)[np.newaxis]
    (before,) = ESTIMATOR.fit(x, label, cluster, train, tuning=Tuning(), seed=0)
    longer = x * 2.0 ** (np.arange(90) % 5).astype(np.float32)[:, np.newaxis]
    (after,) = ESTIMATOR.fit(longer, label, cluster, train, tuning=Tuning(), seed=0)
    assert np.array_equal(before.probabilities(x), after.probabilities(x))


def test_what_is_held_out_changes_nothing(features) -> None:
    x, label, cluster = features(90, 6, 3)
    train = (cluster % 5 != 0)[np.newaxis]
    (before,) = ESTIMATOR.fit(x, label, cluster, train, tuning=Tuning(), seed=0)
    other = np.where(train.T, x, -7.0).astype(np.float32)
    (after,) = ESTIMATOR.fit(other, label, cluster, train, tuning=Tuning(), seed=0)
    assert before.settings == after.settings
    assert np.array_equal(before.probabilities(x), after.probabilities(x))


def test_a_feature_that_is_zero_throughout_is_like_nothing() -> None:
    assert np.array_equal(unit(np.zeros((1, 4), np.float32)), np.zeros((1, 4)))


def test_a_k_beyond_the_inner_training_sets_is_not_tried(features) -> None:
    x, label, cluster = features(60, 6, 3)
    train = np.ones((1, 60), np.bool_)
    inner = inner_folds(label, cluster, train, tuning=Tuning(), seed=0)
    loss = inner_losses(unit(x), label.astype(np.int64), train, inner)
    assert loss.shape == (1, sum(k <= min_rows(train, inner) for k in NEIGHBOURS))


def test_the_largest_k_is_said_to_be_so(monkeypatch) -> None:
    """Features that say nothing: twenty neighbours come nearer to the class shares than one."""
    monkeypatch.setattr(knn, "NEIGHBOURS", (1, 20))
    x = np.random.default_rng(0).standard_normal((90, 6)).astype(np.float32)
    label, cluster = (np.arange(90) % 3).astype(np.int16), np.arange(90)
    train = np.ones((1, 90), np.bool_)
    (fitted,) = ESTIMATOR.fit(x, label, cluster, train, tuning=Tuning(), seed=0)
    assert fitted.settings["k"] == 20
    assert fitted.notes == ("the best k is the largest tried (20); more may do better",)


def test_a_class_that_an_inner_training_set_lacks_is_refused() -> None:
    cluster = np.arange(40) // 2
    label = (cluster == 7).astype(np.int16)
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    train = np.ones((1, 40), np.bool_)
    with pytest.raises(ClassAbsentError):
        ESTIMATOR.fit(x, label, cluster, train, tuning=Tuning(), seed=0)


def test_both_arms_stand_in_one_results_folder(make_study, tmp_path) -> None:
    """The linear probe by the verb, then neighbours by the command line, which evaluates both."""
    from embedcache.cli import app

    store, results = make_study(tmp_path), tmp_path / "results"
    probe(store, Protocol(train="home", external=("abroad",), folds=3), out=results)
    words = ["probe", str(store), "--train", "home", "--external", "abroad", "--folds", "3"]
    done = CliRunner().invoke(app, [*words, "--out", str(results), "--estimator", "knn"])
    assert done.exit_code == 0, done.output
    with (results / "metrics.csv").open(encoding="utf-8", newline="") as table:
        assert {row["arm"] for row in csv.DictReader(table)} == {"linear-probe", "knn"}
