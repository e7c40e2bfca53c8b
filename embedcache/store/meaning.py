"""What every node of a store must be by its own checksums and by its neighbours.

The half of `verify` that asks no manifest what the numbers are: it notices one made to fit.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from embedcache.errors import DamagedRowsError, DamagedStoreError
from embedcache.store.feature_set import read_with_done, set_keys
from embedcache.store.image_table import ImageTable, read_table, table_keys
from embedcache.store.layout import (
    COHORTS,
    DOCUMENT,
    FEATURES,
    IMAGES,
    cohort_arrays,
    cohort_node,
    feature_node,
)
from embedcache.store.manifest import Manifest, list_key, proofs_of
from embedcache.store.objects import Proofs, children
from embedcache.store.stored_cohort import read_cohort
from embedcache.store.vectors import Vectors, content_digest
from embedcache.store.witness import Witness


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        node: the node or object of the store.
        problem: what is wrong with it, in a phrase.
        rows: rows of the image table whose vectors it costs; empty: not a matter of rows.
    """

    node: str
    problem: str
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Look:
    """One look at a store.

    Attributes:
        root: where its objects are read.
        manifest: as it was when the look began.
        lists: what each sealed node's objects must be.
        findings: what was found so far; threads append.
    """

    root: Witness
    manifest: Manifest
    lists: dict[str, Proofs]
    findings: list[Finding]

    def note(self, error: DamagedStoreError) -> None:
        """Add damage to what was found."""
        self.findings.append(finding_of(error))


def check_meaning(look: Look, pool: ThreadPoolExecutor) -> dict[str, str]:
    """Read every node by its own checksums and rules; content digests of what holds by these."""
    try:
        table = read_table(look.root, None)
        _check_distinct(table)
        _check_listed(look, IMAGES, table_keys(len(table)))
    except DamagedStoreError as error:
        look.note(error)
        return {}
    for name in _names(look, COHORTS):
        try:
            _check_cohort(look, name, len(table))
        except DamagedStoreError as error:
            look.note(error)

    def judge(feature_id: str) -> str | None:
        return _judge_features(look, feature_id, table)

    ids = _names(look, FEATURES)
    digests = zip(ids, pool.map(judge, ids), strict=True)
    return {one: digest for one, digest in digests if digest}


def _names(look: Look, node: str) -> tuple[str, ...]:
    try:
        return children(look.root, node)
    except DamagedStoreError as error:
        look.note(error)
        return ()


def _judge_features(look: Look, feature_id: str, table: ImageTable) -> str | None:
    """Content digest of a feature set, or None and a finding."""
    try:
        return _check_features(look, feature_id, table)
    except DamagedStoreError as error:
        look.note(error)
    except DamagedRowsError as error:
        node = f"{feature_node(feature_id)}/vectors"
        look.findings.append(Finding(node=node, problem=error.problem, rows=error.rows))
    return None


def _check_distinct(table: ImageTable) -> None:
    if len(np.unique(np.ascontiguousarray(table.digest).view("S32"))) < len(table):
        raise DamagedStoreError("images/digest", "an image is in the table twice")


def _check_cohort(look: Look, name: str, images: int) -> None:
    cohort = read_cohort(look.root, name, images, None)
    layouts = cohort_arrays(name, len(cohort), tuple(cohort.strata)).values()
    keys = [layout.key(chunk) for layout in layouts for chunk in range(layout.chunks)]
    keys += [f"{node}/{DOCUMENT}" for node in (cohort_node(name), *(one.path for one in layouts))]
    _check_listed(look, cohort_node(name), keys)


def _check_features(look: Look, feature_id: str, table: ImageTable) -> str:
    one, done = read_with_done(look.root, feature_id, len(table), None)
    keys = set_keys(look.root, one.contract, one.rows)
    _check_listed(look, feature_node(feature_id), keys)
    vectors = Vectors(look.root, one.contract, one.rows, name=one.name)
    return content_digest(vectors, table.digest, np.flatnonzero(done))


def _check_listed(look: Look, node: str, keys: Iterable[str]) -> None:
    """A sealed node's list names exactly the objects that its kind has: no strangers signed."""
    if node in look.manifest.open:
        return
    if list_key(node) not in look.manifest.objects:
        raise DamagedStoreError(node, "the manifest does not know it")
    listed = look.lists.get(node)
    if listed is None:  # it could not be read: the same damage, which costs the node its digest
        listed = proofs_of(look.root, node, look.manifest) or {}
    if set(listed) != set(keys):
        raise DamagedStoreError(list_key(node), "it does not list what the node should hold")


def finding_of(error: DamagedStoreError) -> Finding:
    """What an error says of a store, as a finding."""
    return Finding(node=error.node, problem=error.problem)
