"""Prove a whole store from its manifest, without images or models.

Two looks, because each sees what the other cannot: every object against its size and sha256, which
notices chunks that were swapped; and every node against what it means, which notices a manifest
that was made to fit. Both replaced together can only be noticed from outside, by content digests.
Chunks are read once for both looks, and hashed beside the reading (decision 0097).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from embedcache.durable import PARTIAL
from embedcache.errors import DamagedStoreError
from embedcache.executor import cores
from embedcache.progress import Progress, Silent
from embedcache.store.layout import DOCUMENT, FEATURES, FIXED, MANIFEST
from embedcache.store.manifest import (
    Manifest,
    list_key,
    manifest_document,
    proofs_of,
    read_manifest,
)
from embedcache.store.meaning import Finding, Look, check_meaning, finding_of
from embedcache.store.objects import (
    Proof,
    Proofs,
    Root,
    files_below,
    object_size,
    proof_on_disk,
    read_object,
)
from embedcache.store.reader import check_format
from embedcache.store.witness import Witness

#: Threads that hash (hashing lets others run): faster than disks, and each may hold a gigabyte.
WORKERS = 4


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
                findings=(finding_of(error),), unsealed=(), content={}, objects=0, size=0
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
    lists = _lists(path, manifest, findings)
    expected = _expected(manifest, lists)
    every_key = sorted({*keys, *expected})
    workers = min(cores(), WORKERS)
    idle = max(workers - sum(node.startswith(f"{FEATURES}/") for node in lists), 0)
    with (
        progress.stage("verify", len(keys), "objects") as stage,
        ThreadPoolExecutor(workers) as pool,
    ):
        root = Witness(path, pool, idle=idle, on_chunk=stage.advance)
        look = Look(root=root, manifest=manifest, lists=lists, findings=findings)
        content = check_meaning(look, pool)

        def check(key: str) -> int:
            return _check_object(look, key, expected.get(key))

        for key, bytes_ in zip(every_key, pool.map(check, every_key), strict=True):
            size += bytes_
            stage.advance(int(key in keys and key not in root))
    bad = {f.node.split("/")[1] for f in findings if f.node.startswith(f"{FEATURES}/")}
    return Verification(
        findings=tuple(sorted(set(findings), key=lambda finding: (finding.node, finding.problem))),
        unsealed=(*manifest.open, *_strangers_begun(begun, manifest)),
        content={one: digest for one, digest in content.items() if one not in bad},
        objects=len(keys),
        size=size,
    )


def _strangers_begun(begun: frozenset[str], manifest: Manifest) -> list[str]:
    """Unfinished files outside the open nodes: those show as open already."""
    return sorted(_printable(key) for key in begun if not _in_open_node(key, manifest))


def _lists(path: Root, manifest: Manifest, findings: list[Finding]) -> dict[str, Proofs]:
    """What the objects of each sealed node must be, by node."""
    lists: dict[str, Proofs] = {}
    for node in manifest.nodes:
        try:
            lists[node] = proofs_of(path, node, manifest) or {}
        except DamagedStoreError as error:
            findings.append(finding_of(error))
    return lists


def _expected(manifest: Manifest, lists: dict[str, Proofs]) -> dict[str, Proof]:
    """Every object that the manifest vouches for: not the open nodes' lists, which may be new."""
    in_flux = {list_key(node) for node in manifest.open}
    vouched = {key: proof for key, proof in manifest.objects.items() if key not in in_flux}
    return vouched | {key: proof for proofs in lists.values() for key, proof in proofs.items()}


def _check_object(look: Look, key: str, proof: Proof | None) -> int:
    """Compare one object with its proof; returns its bytes."""
    try:
        size = object_size(look.root, key)
        problem = _problem(look, key, size, proof)
    except DamagedStoreError as error:
        size, problem = None, error.problem
    if problem:
        look.findings.append(Finding(node=_printable(key), problem=problem))
    return size or 0


def _problem(look: Look, key: str, size: int | None, proof: Proof | None) -> str:
    """What is wrong with an object, in a phrase; empty for what is as it should be."""
    if size is None:
        return "it is missing"
    if key == f"{MANIFEST}/{DOCUMENT}":
        as_written = read_object(look.root, key) == manifest_document(look.manifest)
        return "" if as_written else "it is not written as we write it"
    if proof is None:
        return "" if _in_open_node(key, look.manifest) else "the manifest does not know it"
    # The size first: a stranger's terabyte need not be read to know it.
    if size != proof.size or proof_on_disk(look.root, key) != proof:
        return "it is not what the manifest says"
    if key in FIXED and read_object(look.root, key) != FIXED[key]:
        return "it is not written as we write it"
    return ""


def _printable(key: str) -> str:
    """A key for a terminal: strangers' names may hold what terminals obey."""
    return key if key.isprintable() else ascii(key)[1:-1]


def _in_open_node(key: str, manifest: Manifest) -> bool:
    return any(key.startswith((f"{node}/", f"{MANIFEST}/{node}/")) for node in manifest.open)
