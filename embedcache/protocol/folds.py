"""Which fold tests which image: a function of digests, links, a seed and, if asked, strata.

Three rules give the outer folds. A number: patient clusters are dealt out by the greedy rule of
statistics.md section 5. `split`: the publisher's test images are fold 0 and the others are never
tested. `site`: each site is a fold; a cluster across sites belongs to that of its smallest digest.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import (
    FoldRuleError,
    LeakError,
    TooFewPatientsError,
    TooFewToTrainError,
)
from embedcache.protocol.protocol import MOST_FOLDS, FoldRule

#: Names of the strata that rules of the same name read.
SPLIT, SITE = "split", "site"
#: What the publisher's split may say, and what becomes of it.
_SPLIT_FOLD = {"train": -1, "test": 0}
#: Patient clusters of each class that a training set needs: tuning parts them again.
_TO_TRAIN = 2


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Folds:
    """Which fold tests which image of the training cohort; every arm reads the same value.

    Attributes:
        image: digest of each image, distinct, ascending, (n, 32) uint8.
        label: index into the protocol's class list, (n,) int16.
        cluster: patient cluster, numbered by its smallest digest, (n,) int64.
        fold: the fold that tests the row in each of r repeats, (n, r) int8; -1: never tested.
        strata: text value of each stratum by name, (n,) str.

    Raises:
        LeakError: if the images of one cluster lie in two folds of a repeat.
    """

    image: NDArray[np.uint8]
    label: NDArray[np.int16]
    cluster: NDArray[np.int64]
    fold: NDArray[np.int8]
    strata: dict[str, NDArray[np.str_]]

    def __post_init__(self) -> None:
        _, first = np.unique(self.cluster, return_index=True)
        leaking = (self.fold != self.fold[first][self.cluster]).any(axis=1)
        if leaking.any():
            raise LeakError(clusters=tuple(np.unique(self.cluster[leaking]).tolist()))

    @property
    def sha256(self) -> str:
        """Of all but strata: shapes, then little-endian bytes; 64 hex digits."""
        columns = (
            self.image.astype("u1"),
            self.label.astype("<i2"),
            self.cluster.astype("<i8"),
            self.fold.astype("i1"),
        )
        total = hashlib.sha256(b"embedcache folds 1")
        for column in columns:
            total.update(f"{column.shape}".encode("ascii"))
            total.update(np.ascontiguousarray(column).tobytes())
        return total.hexdigest()


def draw_folds(
    image: NDArray[np.uint8],
    label: NDArray[np.int16],
    cluster: NDArray[np.int64],
    strata: Mapping[str, NDArray[np.str_]],
    *,
    classes: Sequence[str],
    folds: FoldRule,
    seed: int,
) -> Folds:
    """Draw one repeat of outer folds.

    Args:
        image: distinct digests, ascending, (n, 32) uint8.
        label: index into `classes`, (n,) int16.
        cluster: numbered from 0 by smallest digest, (n,) int64.
        strata: text values by name, (n,) str each.
        classes: names of the classes.
        folds: how many over patient clusters, `split` or `site`.
        seed: of the shuffle; `split` and `site` draw nothing.

    Raises:
        TooFewPatientsError: if a class has fewer patient clusters than folds.
        TooFewToTrainError: if a fold would leave a class fewer than two clusters to train on.
        FoldRuleError: if the strata do not give what `split` or `site` needs.
        LeakError: if the publisher's split parts the images of a cluster.
    """
    if isinstance(folds, int):
        _check_clusters(label, cluster, classes, folds)
        fold = assign_folds(label, cluster, folds=folds, seed=seed)[cluster]
    elif folds == SPLIT:
        fold = _published(_stratum(strata, SPLIT))
    else:
        fold = _left_out_sites(_stratum(strata, SITE), cluster)
    drawn = Folds(
        image=image,
        label=label,
        cluster=cluster,
        fold=fold.astype(np.int8)[:, np.newaxis],
        strata=dict(strata),
    )
    _check_training(drawn, classes, folds)
    return drawn


def training_sets(folds: Folds) -> dict[int, NDArray[np.bool_]]:
    """The training images of each outer fold that is tested, by fold, (n,) bool each."""
    fold = folds.fold[:, 0]
    return {int(tested): fold != tested for tested in np.unique(fold[fold >= 0])}


def assign_inner_folds(
    label: NDArray[np.int16], cluster: NDArray[np.int64], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """Part one outer training set by the same rule, for tuning.

    Args:
        label: class of each training row, (n,) int16.
        cluster: numbered by smallest digest, gaps allowed, (n,) int64.
        folds: how many.
        seed: of the shuffle.

    Returns:
        The inner fold of each row, (n,) int64.
    """
    _, number = np.unique(cluster, return_inverse=True)
    return assign_folds(label, number, folds=folds, seed=seed)[number]


def check_inner_folds(folds: Folds, *, classes: Sequence[str], inner: int, seed: int) -> None:
    """Make sure that every inner training set of every outer one has all classes.

    Raises:
        TooFewPatientsError: if not, naming the class.
    """
    for train in (np.ones(len(folds.label), np.bool_), *training_sets(folds).values()):
        label, cluster = folds.label[train], folds.cluster[train]
        fold = assign_inner_folds(label, cluster, folds=inner, seed=seed)
        for held_out in np.unique(fold):
            missing = set(range(len(classes))) - set(label[fold != held_out].tolist())
            if missing:
                clusters = _clusters_of(label, cluster, len(classes))
                raise _too_few(classes, clusters, inner, worst=min(missing))


def assign_folds(
    label: NDArray[np.int16], cluster: NDArray[np.int64], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """Give every cluster a fold by the greedy rule of statistics.md section 5.

    Clusters are shuffled by seed, stably sorted by their greatest share of any class, and each
    goes to the fold that adds least to the sum of squared loads (class shares, image share, half
    the patient share). Loads are whole numbers, so that a tie is a tie and every machine draws the
    same folds; a tie goes to the fold filled first. Folds are numbered by their smallest cluster.

    Args:
        label: class of each row, (n,) int16.
        cluster: numbered from 0 by smallest digest without gaps, (n,) int64.
        folds: how many.
        seed: of the shuffle.

    Returns:
        The fold of each cluster, (clusters,) int64.
    """
    amount = _amounts(label, cluster)
    total = amount.sum(axis=0)
    order = np.random.default_rng(seed).permutation(len(amount))
    share = (amount[:, :-2] / total[:-2]).max(axis=1)
    order = order[np.argsort(-share[order], kind="stable")]
    # A load is amount / total, for patients half of it. Adding a cluster to a fold adds twice
    # load · share to the sum of squares, and a square that is the same for every fold.
    scale = [*total[:-1].tolist(), 2 * int(total[-1])]
    common = math.lcm(*scale)
    weight = np.array([(common // part) ** 2 for part in scale], dtype=object)
    load = np.zeros((folds, len(scale)), dtype=object)
    fold = np.empty(len(amount), np.int64)
    exact = amount.astype(object)
    for index in order:
        added = load @ (weight * exact[index])
        fold[index] = int(np.argmin(added))
        load[fold[index]] += exact[index]
    return _numbered(fold)


def _amounts(label: NDArray[np.int16], cluster: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count each cluster's images by class, its images, and itself, (clusters, c + 2) int64."""
    _, present = np.unique(label, return_inverse=True)
    size, classes = int(cluster.max()) + 1, int(present.max()) + 1
    count = np.bincount(cluster * classes + present, minlength=size * classes)
    count = count.reshape(size, classes)
    return np.column_stack([count, count.sum(axis=1), np.ones(size, np.int64)])


def _numbered(fold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number folds in the order in which clusters meet them."""
    _, first, inverse = np.unique(fold, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]


def _stratum(strata: Mapping[str, NDArray[np.str_]], name: str) -> NDArray[np.str_]:
    if name not in strata:
        has = f"it has {', '.join(strata)}" if strata else "it has none"
        raise FoldRuleError(name, f"the training cohort has no stratum {name!r} ({has})")
    empty = int((strata[name] == "").sum())
    if empty:
        raise FoldRuleError(name, f"{empty:,} training images have no {name}")
    return strata[name]


def _published(split: NDArray[np.str_]) -> NDArray[np.int64]:
    """The fold of each row by the publisher's word for it, (n,) int64."""
    words = np.unique(split).tolist()
    if words != sorted(_SPLIT_FOLD):
        found = ", ".join(repr(word) for word in words)
        raise FoldRuleError(SPLIT, f"the stratum holds {found}, and not 'train' and 'test'")
    return np.where(split == "test", _SPLIT_FOLD["test"], _SPLIT_FOLD["train"])


def _left_out_sites(site: NDArray[np.str_], cluster: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fold of each row by its cluster's site, (n,) int64; rows are in order of digest."""
    _, first = np.unique(cluster, return_index=True)
    sites, fold = np.unique(site[first], return_inverse=True)
    if not 2 <= len(sites) <= MOST_FOLDS:
        problem = f"the training cohort has {len(sites)} sites, and not 2 to {MOST_FOLDS}"
        raise FoldRuleError(SITE, problem)
    return _numbered(fold)[cluster]


def _check_clusters(
    label: NDArray[np.int16], cluster: NDArray[np.int64], classes: Sequence[str], folds: int
) -> None:
    clusters = _clusters_of(label, cluster, len(classes))
    worst = int(clusters.argmin())
    if clusters[worst] < max(folds, _TO_TRAIN + 1):
        raise _too_few(classes, clusters, folds, worst)


def _check_training(folds: Folds, classes: Sequence[str], rule: FoldRule) -> None:
    for tested, train in training_sets(folds).items():
        clusters = _clusters_of(folds.label[train], folds.cluster[train], len(classes))
        worst = int(clusters.argmin())
        if clusters[worst] < _TO_TRAIN:
            names = enumerate(classes)
            raise TooFewToTrainError(
                class_=classes[worst],
                clusters=int(clusters[worst]),
                tested=_tested(folds, tested, rule),
                enough=tuple(name for k, name in names if clusters[k] >= _TO_TRAIN),
            )


def _tested(folds: Folds, tested: int, rule: FoldRule) -> str:
    """What a fold tests, in words."""
    if rule == SPLIT:
        return "the publisher's test images are"
    if rule == SITE:
        # The fold's first row is the smallest digest of its cluster, whose site the fold is.
        row = int(np.flatnonzero(folds.fold[:, 0] == tested)[0])
        return f"site {str(folds.strata[SITE][row])!r} is"
    return f"fold {tested} is"


def _clusters_of(
    label: NDArray[np.int16], cluster: NDArray[np.int64], classes: int
) -> NDArray[np.int64]:
    """Count the clusters that hold images of each class, (classes,) int64."""
    return np.array([len(np.unique(cluster[label == k])) for k in range(classes)], np.int64)


def _too_few(
    classes: Sequence[str], clusters: NDArray[np.int64], folds: int, worst: int
) -> TooFewPatientsError:
    counts = enumerate(zip(classes, clusters, strict=True))
    enough = tuple(name for k, (name, n) in counts if k != worst and n >= max(folds, 3))
    return TooFewPatientsError(
        class_=classes[worst], clusters=int(clusters[worst]), folds=folds, enough=enough
    )
