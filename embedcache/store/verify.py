"""Prove a whole store from its manifest, without images or models.

Two looks, because each sees what the other cannot: every object against its size and sha256, which
notices chunks that were swapped; and every node against what it means, which notices a manifest
that was made to fit. Both replaced together can only be noticed from outside, by content digests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from embedcache.durable import PARTIAL
from embedcache.errors import DamagedRowsError, DamagedStoreError
from embedcache.executor import cores
from embedcache.progress import Progress, Silent
from embedcache.store.feature_set import FeatureSet, read_done, read_feature_set, set_keys
from embedcache.store.image_table import ImageTable, read_table, table_keys
from embedcache.store.layout import (
    COHORTS,
    DOCUMENT,
    FEATURES,
    FIXED,
    IMAGES,
    MANIFEST,
    cohort_arrays,
    cohort_node,
    feature_node,
)
from embedcache.store.manifest import (
    Manifest,
    list_key,
    manifest_document,
    proofs_of,
    read_manifest,
)
from embedcache.store.objects import (
    Proof,
    Root,
    children,
    files_below,
    object_size,
    proof_on_disk,
    read_object,
)
from embedcache.store.reader import check_format
from embedcache.store.stored_cohort import read_cohort
from embedcache.store.vectors import Vectors, content_digest

#: Threads that hash (hashing lets others run): faster than disks, and each may hold a gigabyte.
WORKERS = 4


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Verification:
    """What `verify` found.

    Attributes:
        findings: everything wrong; empty for a sound store.
        unsealed: nodes that a writer left, or still has, open, and files that it had begun.
        content: content digest by feature id, of the sets that are sound.
        objects: files read.
        size: their bytes.
    """

    findings: tuple[Finding, ...]
    unsealed: tuple[str, ...]
    content: dict[str, str]
    objects: int
    size: int

    @property
    def sound(self) -> bool:
        """Nothing is wrong, and the manifest covers everything."""
        return not self.findings and not self.unsealed


def verify(path: Root, progress: Progress | None = None) -> Verification:
    """Read every object of a store and compare it with the manifest and with its neighbours.

    Raises:
        PathMissingError, NotAStoreError, NewerFormatError: as `open_store`.
        StoreAccessError: if the system refuses to read.
    """
    while True:
        try:
            check_format(path)
            before = read_manifest(path)
        except DamagedStoreError as error:
            # Without these two nothing else can be judged.
            return Verification(
                findings=(_finding(error),), unsealed=(), content={}, objects=0, size=0
            )
        found = _look(path, before, progress or Silent())
        if not found.findings or read_manifest(path) == before:
            return found
        # A writer was at it meanwhile, and what was found may be its doing: look again.


def _look(path: Root, manifest: Manifest, progress: Progress) -> Verification:
    findings: list[Finding] = []
    every = frozenset(files_below(path))
    begun = frozenset(key for key in every if key.endswith(PARTIAL))
    keys = every - begun
    size = 0
    expected = dict(_expected(path, manifest, findings))

    def check(key: str) -> int:
        return _check_object(path, key, expected, manifest, findings)

    every_key = sorted({*keys, *expected})
    with (
        progress.stage("verify", len(keys), "objects") as stage,
        ThreadPoolExecutor(min(cores(), WORKERS)) as pool,
    ):
        for key, bytes_ in zip(every_key, pool.map(check, every_key), strict=True):
            size += bytes_
            stage.advance(int(key in keys))
        content = _check_meaning(path, manifest, findings, pool)
    return Verification(
        findings=tuple(sorted(set(findings), key=lambda finding: (finding.node, finding.problem))),
        unsealed=(*manifest.open, *_strangers_begun(begun, manifest)),
        content=content,
        objects=len(keys),
        size=size,
    )


def _strangers_begun(begun: frozenset[str], manifest: Manifest) -> list[str]:
    """Unfinished files outside the open nodes: those show as open already."""
    return sorted(_printable(key) for key in begun if not _in_open_node(key, manifest))


def _expected(
    path: Root, manifest: Manifest, findings: list[Finding]
) -> Iterator[tuple[str, Proof]]:
    """Every object that the manifest vouches for: not the open nodes' lists, which may be new."""
    in_flux = {list_key(node) for node in manifest.open}
    yield from ((key, proof) for key, proof in manifest.objects.items() if key not in in_flux)
    for node in manifest.nodes:
        try:
            yield from (proofs_of(path, node, manifest) or {}).items()
        except DamagedStoreError as error:
            findings.append(_finding(error))


def _check_object(
    path: Root, key: str, expected: dict[str, Proof], manifest: Manifest, findings: list[Finding]
) -> int:
    """Compare one object with its proof; returns its bytes."""
    try:
        size = object_size(path, key)
        problem = _problem(path, key, size, expected, manifest)
    except DamagedStoreError as error:
        size, problem = None, error.problem
    if problem:
        findings.append(Finding(node=_printable(key), problem=problem))
    return size or 0


def _problem(
    path: Root, key: str, size: int | None, expected: dict[str, Proof], manifest: Manifest
) -> str:
    """What is wrong with an object, in a phrase; empty for what is as it should be."""
    if size is None:
        return "it is missing"
    if key == f"{MANIFEST}/{DOCUMENT}":
        as_written = read_object(path, key) == manifest_document(manifest)
        return "" if as_written else "it is not written as we write it"
    if key not in expected:
        return "" if _in_open_node(key, manifest) else "the manifest does not know it"
    # The size first: a stranger's terabyte need not be read to know it.
    if size != expected[key].size or proof_on_disk(path, key) != expected[key]:
        return "it is not what the manifest says"
    if key in FIXED and read_object(path, key) != FIXED[key]:
        return "it is not written as we write it"
    return ""


def _printable(key: str) -> str:
    """A key for a terminal: strangers' names may hold what terminals obey."""
    return key if key.isprintable() else ascii(key)[1:-1]


def _in_open_node(key: str, manifest: Manifest) -> bool:
    return any(key.startswith((f"{node}/", f"{MANIFEST}/{node}/")) for node in manifest.open)


def _check_meaning(
    path: Root, manifest: Manifest, findings: list[Finding], pool: ThreadPoolExecutor
) -> dict[str, str]:
    """Read every node by its own checksums and rules; content digests of sound feature sets."""
    try:
        table = read_table(path, None)
        _check_distinct(table)
        _check_listed(path, IMAGES, table_keys(len(table)), manifest)
    except DamagedStoreError as error:
        findings.append(_finding(error))
        return {}
    for name in _names(path, COHORTS, findings):
        try:
            _check_cohort(path, name, len(table), manifest)
        except DamagedStoreError as error:
            findings.append(_finding(error))

    def judge(feature_id: str) -> str | None:
        return _judge_features(path, feature_id, table, manifest, findings)

    ids = _names(path, FEATURES, findings)
    content = dict(zip(ids, pool.map(judge, ids), strict=True))
    bad = {f.node.split("/")[1] for f in findings if f.node.startswith(f"{FEATURES}/")}
    return {one: digest for one, digest in content.items() if digest and one not in bad}


def _names(path: Root, node: str, findings: list[Finding]) -> tuple[str, ...]:
    try:
        return children(path, node)
    except DamagedStoreError as error:
        findings.append(_finding(error))
        return ()


def _judge_features(
    path: Root, feature_id: str, table: ImageTable, manifest: Manifest, findings: list[Finding]
) -> str | None:
    """Content digest of a feature set, or None and a finding."""
    try:
        return _check_features(path, feature_id, table, manifest)
    except DamagedStoreError as error:
        findings.append(_finding(error))
    except DamagedRowsError as error:
        node = f"{feature_node(feature_id)}/vectors"
        findings.append(Finding(node=node, problem=error.problem, rows=error.rows))
    return None


def _check_distinct(table: ImageTable) -> None:
    if len(np.unique(np.ascontiguousarray(table.digest).view("S32"))) < len(table):
        raise DamagedStoreError("images/digest", "an image is in the table twice")


def _check_cohort(path: Root, name: str, images: int, manifest: Manifest) -> None:
    cohort = read_cohort(path, name, images, None)
    layouts = cohort_arrays(name, len(cohort), tuple(cohort.strata)).values()
    keys = [layout.key(chunk) for layout in layouts for chunk in range(layout.chunks)]
    keys += [f"{node}/{DOCUMENT}" for node in (cohort_node(name), *(one.path for one in layouts))]
    _check_listed(path, cohort_node(name), keys, manifest)


def _check_features(path: Root, feature_id: str, table: ImageTable, manifest: Manifest) -> str:
    one: FeatureSet = read_feature_set(path, feature_id, len(table), None)
    rows = np.flatnonzero(read_done(path, feature_id, len(table), None))
    keys = set_keys(path, one.contract, one.rows)
    _check_listed(path, feature_node(feature_id), keys, manifest)
    vectors = Vectors(path, one.contract, one.rows, name=one.name)
    return content_digest(vectors, table.digest, rows)


def _check_listed(path: Root, node: str, keys: Iterable[str], manifest: Manifest) -> None:
    """A sealed node's list names exactly the objects that its kind has: no strangers signed."""
    if node in manifest.open:
        return
    if list_key(node) not in manifest.objects:
        raise DamagedStoreError(node, "the manifest does not know it")
    proofs = proofs_of(path, node, manifest)
    if proofs is not None and set(proofs) != set(keys):
        raise DamagedStoreError(list_key(node), "it does not list what the node should hold")


def _finding(error: DamagedStoreError) -> Finding:
    return Finding(node=error.node, problem=error.problem)
