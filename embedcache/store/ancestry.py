"""Which of two copies of a node holds all of the other.

Rows are only ever added, so of two copies one is usually the other, grown. Where neither is, both
were added to since they parted, and sending one would lose what the other has: that is refused.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import DivergedError
from embedcache.store.feature_set import read_done, runs_node
from embedcache.store.layout import COHORTS, FEATURES, IMAGES
from embedcache.store.objects import children
from embedcache.store.reader import FeatureStore
from embedcache.store.stored_cohort import StoredCohort

Ahead = Literal["ours", "theirs"]


def which_is_ahead(node: str, ours: FeatureStore, theirs: FeatureStore) -> Ahead:
    """Say which copy of a node holds all of the other; "ours" where each does.

    Raises:
        DivergedError: if neither does.
    """
    kind, _, name = node.partition("/")
    if kind == IMAGES:
        return _of_tables(ours, theirs)
    if kind == FEATURES:
        return _of_features(name, ours, theirs)
    assert kind == COHORTS, "a store has no other nodes"
    return _of_cohorts(name, ours, theirs)


def _of_tables(ours: FeatureStore, theirs: FeatureStore) -> Ahead:
    mine, other = ours.images.digest, theirs.images.digest
    shared = min(len(mine), len(other))
    if not np.array_equal(mine[:shared], other[:shared]):
        problem = "its rows mean other images: the two were not made from one another"
        raise DivergedError("the image table", theirs.path.name, problem)
    return "ours" if len(mine) >= len(other) else "theirs"


def _of_features(feature_id: str, ours: FeatureStore, theirs: FeatureStore) -> Ahead:
    # Run ids are random: who holds all runs of the other was made from it, or from its origin.
    runs = [set(children(store.path, runs_node(feature_id))) for store in (ours, theirs)]
    problem = f"{len(runs[0] - runs[1])} runs wrote only here, {len(runs[1] - runs[0])} only there"
    if runs[0] - runs[1] and runs[1] - runs[0]:
        raise DivergedError(f"feature set {feature_id}", theirs.path.name, problem)
    done = [_done(feature_id, store) for store in (ours, theirs)]
    if runs[1] <= runs[0] and done[1] <= done[0]:
        return "ours"
    if runs[0] <= runs[1] and done[0] <= done[1]:
        return "theirs"
    problem = (
        f"{len(done[0] - done[1])} rows are done only here, {len(done[1] - done[0])} only there"
    )
    raise DivergedError(f"feature set {feature_id}", theirs.path.name, problem)


def _done(feature_id: str, store: FeatureStore) -> frozenset[int]:
    done = read_done(store.path, feature_id, len(store.images), None)
    return frozenset(np.flatnonzero(done).tolist())


def _of_cohorts(name: str, ours: FeatureStore, theirs: FeatureStore) -> Ahead:
    mine, other = ours.cohort(name), theirs.cohort(name)
    strata = sorted(mine.strata.keys() & other.strata.keys())
    rows = [
        _entries(cohort, store.images.digest, strata)
        for cohort, store in ((mine, ours), (other, theirs))
    ]
    if mine.key_id == other.key_id:
        if rows[1] <= rows[0] and other.strata.keys() <= mine.strata.keys():
            return "ours"
        if rows[0] <= rows[1] and mine.strata.keys() <= other.strata.keys():
            return "theirs"
    gone = (rows[1] - rows[0]).total()
    problem = f"{gone} of its {len(other)} rows there have another label, patient or stratum here"
    mend = f"--replace {name} sends this one"
    raise DivergedError(f"cohort {name!r}", theirs.path.name, problem, mend)


def _entries(
    cohort: StoredCohort, digest: NDArray[np.uint8], strata: list[str]
) -> Counter[tuple[object, ...]]:
    """What a cohort says of each image that could be read."""
    names = (*cohort.classes, None)  # -1: unlabelled
    columns = [cohort.strata[name].tolist() for name in strata]
    return Counter(
        (bytes(digest[row]), names[label], bytes(patient), *values)
        for row, label, patient, *values in zip(
            cohort.row.tolist(), cohort.label.tolist(), cohort.patient, *columns, strict=True
        )
        if row >= 0
    )
