"""Folds are balanced, disjoint in patients, and drawn from digests and a seed alone."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache.errors import (
    FoldRuleError,
    LeakError,
    TooFewPatientsError,
    TooFewToTrainError,
)
from embedcache.protocol.clusters import cluster_images, digest_keys
from embedcache.protocol.folds import (
    Folds,
    assign_folds,
    assign_inner_folds,
    check_inner_folds,
    draw_folds,
    training_sets,
)

#: Enough to find a wrong rule (tried); no deadline, as a loaded machine is no failure.
few = settings(max_examples=40, deadline=None)
#: digest -> (patient, class)
cohorts = st.dictionaries(
    st.binary(min_size=32, max_size=32),
    st.tuples(st.integers(0, 9), st.integers(0, 2)),
    min_size=9,
    max_size=40,
)


def assigned(rows) -> dict[bytes, int]:
    """The fold of each digest."""
    image = np.frombuffer(b"".join(d for d, _ in rows), np.uint8).reshape(-1, 32)
    label = np.array([k for _, (_, k) in rows], np.int16)
    cluster = cluster_images(image, np.array([p for _, (p, _) in rows]))
    fold = assign_folds(label, cluster, folds=3, seed=1)[cluster]
    return dict(zip((d for d, _ in rows), fold.tolist(), strict=True))


def drawn(patients: int, classes: int = 2, folds: int = 5, seed: int = 0, images: int = 2) -> Folds:
    """Folds of patients of one class and a few images each."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (patients * images, 32), dtype=np.uint8)
    image = image[np.argsort(digest_keys(image))]
    patient = rng.permutation(np.repeat(np.arange(patients), images))
    label = (patient % classes).astype(np.int16)
    cluster = cluster_images(image, patient)
    names = [f"class-{k}" for k in range(classes)]
    return draw_folds(image, label, cluster, {}, classes=names, folds=folds, seed=seed)


@few
@given(cohorts, st.randoms())
def test_folds_do_not_depend_on_row_order(cohort, random) -> None:
    rows = list(cohort.items())
    assert assigned(random.sample(rows, k=len(rows))) == assigned(rows)


@few
@given(cohorts, st.permutations(range(10)))
def test_folds_do_not_depend_on_patient_names(cohort, names) -> None:
    renamed = {digest: (names[patient], k) for digest, (patient, k) in cohort.items()}
    assert assigned(list(renamed.items())) == assigned(list(cohort.items()))


@few
@given(cohorts)
def test_a_patient_lies_in_one_fold_and_fold_zero_holds_the_smallest_digest(cohort) -> None:
    fold = assigned(list(cohort.items()))
    for patient in {patient for patient, _ in cohort.values()}:
        assert len({fold[d] for d, (p, _) in cohort.items() if p == patient}) == 1
    assert fold[min(cohort)] == 0


@few
@given(cohorts, st.integers(0, 5))
def test_each_cluster_goes_where_it_adds_least_to_the_squared_loads(cohort, seed) -> None:
    """The rule of statistics.md section 5, in fractions, one cluster after the other."""
    rows = sorted(cohort.items())
    image = np.frombuffer(b"".join(d for d, _ in rows), np.uint8).reshape(-1, 32)
    label = np.array([k for _, (_, k) in rows], np.int16)
    cluster = cluster_images(image, np.array([p for _, (p, _) in rows]))
    found = assign_folds(label, cluster, folds=3, seed=seed)

    number = int(cluster.max()) + 1
    present = sorted(set(label.tolist()))
    shares = [
        [
            Fraction(int(((cluster == c) & (label == k)).sum()), int((label == k).sum()))
            for k in present
        ]
        for c in range(number)
    ]
    loads_of = [
        [*shares[c], Fraction(int((cluster == c).sum()), len(rows)), Fraction(1, 2 * number)]
        for c in range(number)
    ]
    order = np.random.default_rng(seed).permutation(number).tolist()
    order.sort(key=lambda c: -max(shares[c]))
    load = [[Fraction(0)] * (len(present) + 2) for _ in range(3)]
    fold = {}
    for c in order:
        added = [
            sum((a + b) ** 2 - a**2 for a, b in zip(load[f], loads_of[c], strict=True))
            for f in range(3)
        ]
        fold[c] = added.index(min(added))
        load[fold[c]] = [a + b for a, b in zip(load[fold[c]], loads_of[c], strict=True)]
    names: dict[int, int] = {}
    expected = [names.setdefault(fold[c], len(names)) for c in range(number)]
    assert found.tolist() == expected


def test_folds_of_the_full_spanish_cohort_are_balanced(shared_cohorts: Path) -> None:
    """statistics.md section 5: worst class deviation .6 %, patients per fold within 3."""
    file = shared_cohorts / "fetal_planes_db_metadata" / "FETAL_PLANES_DB_data.csv"
    with file.open(newline="") as text:
        table = [[cell.strip() for cell in row] for row in csv.reader(text, delimiter=";")]
    head = table[0]
    _, label = np.unique([row[head.index("Plane")] for row in table[1:]], return_inverse=True)
    patient = np.array([row[head.index("Patient_num")] for row in table[1:]])
    image = np.random.default_rng(0).integers(0, 256, (len(label), 32), dtype=np.uint8)
    cluster = cluster_images(image, patient)
    fold = assign_folds(label.astype(np.int16), cluster, folds=5, seed=0)
    count = np.array([np.bincount(label[fold[cluster] == k]) for k in range(5)])
    assert np.abs(5 * count / count.sum(axis=0) - 1).max() < 0.01
    assert np.ptp(np.bincount(fold)) <= 3


def test_another_seed_draws_other_folds() -> None:
    one = assign_folds(np.zeros(60, np.int16), np.arange(60), folds=5, seed=0)
    other = assign_folds(np.zeros(60, np.int16), np.arange(60), folds=5, seed=1)
    assert not np.array_equal(one, other)


def test_a_cluster_in_two_folds_is_refused() -> None:
    folds = drawn(20)
    fold = folds.fold.copy()
    torn = np.flatnonzero(folds.cluster == folds.cluster[0])
    fold[torn[1]] = (fold[torn[0]] + 1) % 5
    with pytest.raises(LeakError, match="split by cluster"):
        Folds(image=folds.image, label=folds.label, cluster=folds.cluster, fold=fold, strata={})


def test_the_hash_follows_all_but_strata() -> None:
    folds = drawn(20)
    site = {"site": np.full(len(folds.label), "A")}
    same = Folds(
        image=folds.image, label=folds.label, cluster=folds.cluster, fold=folds.fold, strata=site
    )
    assert same.sha256 == folds.sha256
    for change in ("image", "label", "fold"):
        columns = {name: getattr(folds, name) for name in ("image", "label", "cluster", "fold")}
        columns[change] = columns[change] ^ 1
        assert Folds(**columns, strata={}).sha256 != folds.sha256


def test_too_few_patients_of_a_class_name_the_class_and_the_mend() -> None:
    with pytest.raises(TooFewPatientsError) as error:
        drawn(8, classes=2, folds=5)
    assert (error.value.clusters, error.value.folds) == (4, 5)
    assert "--folds 4" in str(error.value)


def test_a_rare_class_may_be_left_out() -> None:
    label = np.array([0] * 6 + [1] * 6 + [2], np.int16)
    image = np.sort(np.random.default_rng(0).integers(0, 256, (13, 32), dtype=np.uint8), axis=0)
    with pytest.raises(TooFewPatientsError, match="--classes 'a,b'"):
        draw_folds(image, label, np.arange(13), {}, classes=["a", "b", "c"], folds=5, seed=0)


def test_as_many_folds_as_patients_of_each_class_leave_every_class_to_train_on() -> None:
    folds = drawn(6, classes=2, folds=3)
    check_inner_folds(folds, classes=["a", "b"], inner=3, seed=0)
    for tested in range(3):
        assert set(folds.label[folds.fold[:, 0] != tested].tolist()) == {0, 1}


@few
@given(cohorts, st.integers(2, 4))
def test_inner_folds_keep_patients_together(cohort, inner) -> None:
    rows = sorted(cohort.items())
    label = np.array([k for _, (_, k) in rows], np.int16)
    # Numbers with gaps, as a training set leaves them.
    cluster = np.array([7 * p for _, (p, _) in rows])
    fold = assign_inner_folds(label, cluster, folds=inner, seed=0)
    for one in np.unique(cluster):
        assert len(np.unique(fold[cluster == one])) == 1
    assert fold.max() < inner


def ruled(rule, *, patients: int = 12, classes: int = 2, **strata: list[str]) -> Folds:
    """Folds by a rule: patient p has images 2p and 2p + 1, of class p mod 2; strata by image."""
    rows = np.arange(2 * patients)
    image = np.zeros((len(rows), 32), np.uint8)
    image[:, 0] = rows
    label = (rows // 2 % classes).astype(np.int16)
    columns = {name: np.array(values, np.str_) for name, values in strata.items()}
    names = [f"class-{k}" for k in range(classes)]
    return draw_folds(image, label, rows // 2, columns, classes=names, folds=rule, seed=0)


def test_the_publisher_s_split_is_one_fold_and_its_training_images_are_never_tested() -> None:
    split = ["test"] * 8 + ["train"] * 16
    folds = ruled("split", split=split)
    assert folds.fold[:, 0].tolist() == [0] * 8 + [-1] * 16
    ((tested, train),) = training_sets(folds).items()
    assert tested == 0
    assert train.tolist() == [word == "train" for word in split]


def test_a_publisher_s_split_that_shares_a_patient_is_refused() -> None:
    with pytest.raises(LeakError, match="--folds 5"):
        ruled("split", split=["test"] * 7 + ["train"] * 17)


def test_each_site_is_a_fold_and_a_cluster_across_sites_follows_its_smallest_digest() -> None:
    site = ["Ghana"] * 7 + ["Egypt"] * 9 + ["Algeria"] * 8
    folds = ruled("site", site=site)
    # Image 7 is of patient 3, whose smallest digest, image 6, lies in Ghana.
    assert folds.fold[:, 0].tolist() == [0] * 8 + [1] * 8 + [2] * 8


@few
@given(st.integers(0, 5))
def test_split_and_site_draw_nothing(seed: int) -> None:
    site = ["a"] * 12 + ["b"] * 12
    image = np.zeros((24, 32), np.uint8)
    image[:, 0] = np.arange(24)
    label = (np.arange(24) // 2 % 2).astype(np.int16)
    strata = {"site": np.array(site)}
    drawn = draw_folds(
        image, label, np.arange(24) // 2, strata, classes=["a", "b"], folds="site", seed=seed
    )
    assert drawn.sha256 == ruled("site", site=site).sha256


@pytest.mark.parametrize(
    ("rule", "strata", "said"),
    [
        pytest.param("split", {}, "no stratum 'split' .it has none", id="no strata"),
        pytest.param("site", {"machine": ["x"] * 24}, "it has machine", id="another stratum"),
        pytest.param("site", {"site": ["x"] * 24}, "has 1 sites", id="one site"),
        pytest.param("site", {"site": [""] + ["x"] * 23}, "1 training images have no", id="gap"),
        pytest.param(
            "split", {"split": ["train"] * 12 + ["val"] * 12}, "'train', 'val'", id="other words"
        ),
        pytest.param("split", {"split": ["train"] * 24}, "holds 'train'", id="nothing to test"),
    ],
)
def test_strata_that_do_not_give_the_rule_s_folds_are_named(rule, strata, said: str) -> None:
    with pytest.raises(FoldRuleError, match=said):
        ruled(rule, **strata)


def test_a_site_that_holds_nearly_all_of_a_class_cannot_be_left_out() -> None:
    with pytest.raises(TooFewToTrainError, match=r"0 patient clusters.*site 'a' is tested"):
        ruled("site", patients=4, classes=2, site=["a"] * 6 + ["b"] * 2)
