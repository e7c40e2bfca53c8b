"""The manifest: size and sha256 of every object, and which nodes a writer has open.

A node is open from before its first change until its objects stand in the manifest again. A killed
writer leaves it open, so that the store is *unsealed*; all other nodes stay proved meanwhile. Call
what writes here only under the table's lock: writers of different features share the manifest.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from embedcache.errors import DamagedStoreError, SchemaError
from embedcache.schema import from_plain
from embedcache.store.documents import read_group
from embedcache.store.layout import (
    COHORTS,
    DOCUMENT,
    FEATURES,
    FIXED,
    IMAGES,
    MANIFEST,
    group_document,
)
from embedcache.store.objects import (
    Proof,
    Proofs,
    Root,
    proof_of,
    proof_on_disk,
    remove_object,
    write_object,
)

T = TypeVar("T")

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]*"
KEY = re.compile(rf"{_PART}(/{_PART})*")
_LIST = re.compile(rf"{MANIFEST}/({IMAGES}|({COHORTS}|{FEATURES})/{_PART})/{DOCUMENT}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What manifest/zarr.json says.

    Attributes:
        objects: the documents that every store has, and each node's list in manifest/<node>/.
        open: nodes that a writer changes, or left changed.
    """

    objects: dict[str, Proof]
    open: tuple[str, ...] = ()

    @property
    def nodes(self) -> tuple[str, ...]:
        """Nodes with a list, sorted."""
        lists = self.objects.keys() - FIXED.keys()
        return tuple(sorted(key[len(MANIFEST) + 1 : -len(DOCUMENT) - 1] for key in lists))


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeList:
    """What manifest/<node>/zarr.json says: the node's objects, by key in the store."""

    objects: dict[str, Proof]


def empty_manifest() -> Manifest:
    """Of a store without nodes."""
    return Manifest(objects={key: proof_of(data) for key, data in FIXED.items()})


def list_key(node: str) -> str:
    """Where a node's list lies."""
    return f"{MANIFEST}/{node}/{DOCUMENT}"


def manifest_document(manifest: Manifest) -> bytes:
    """The bytes of manifest/zarr.json."""
    return group_document(dataclasses.asdict(manifest))


def read_manifest(root: Root) -> Manifest:
    """Read manifest/zarr.json.

    Raises:
        DamagedStoreError: if it is missing or no manifest.
    """
    manifest = _strictly(Manifest, read_group(root, MANIFEST), MANIFEST)
    keys = (*(key for key in manifest.objects if key not in FIXED), *map(list_key, manifest.open))
    strange = [key for key in keys if not _LIST.fullmatch(key)]
    if strange or not FIXED.keys() <= manifest.objects.keys():
        raise DamagedStoreError(MANIFEST, "it lists what no store has")
    return manifest


def proofs_of(root: Root, node: str, manifest: Manifest) -> Proofs | None:
    """What a node's objects must be; None while it is open.

    Raises:
        DamagedStoreError: if its list is missing or not what the manifest says.
    """
    if node in manifest.open:
        return None
    attributes = read_group(root, f"{MANIFEST}/{node}", manifest.objects)
    objects = _strictly(NodeList, attributes, list_key(node)).objects
    # A list from a stranger must not lead out of the node.
    if not all(key.startswith(f"{node}/") and KEY.fullmatch(key) for key in objects):
        raise DamagedStoreError(list_key(node), "it lists what is no object of this node")
    return objects


def read_settled(root: Root, node: str, read: Callable[[Proofs | None], T]) -> T:
    """Read a node by its proofs; once more whenever a writer changed the manifest meanwhile.

    Raises:
        DamagedStoreError: as `read` raises it while nobody writes.
    """
    while True:
        before = read_manifest(root)
        try:
            return read(proofs_of(root, node, before))
        except DamagedStoreError:
            if read_manifest(root) == before:
                raise


def open_node(root: Path, node: str) -> Proofs:
    """Mark a node as being changed; returns what its objects were, if that is still known.

    Nothing is known of a node that is new or that a dead writer left open.
    """
    manifest = read_manifest(root)
    if node in manifest.open:
        return {}
    known = proofs_of(root, node, manifest) if list_key(node) in manifest.objects else {}
    _write(root, dataclasses.replace(manifest, open=tuple(sorted((*manifest.open, node)))))
    return known or {}


def close_node(root: Path, node: str, keys: Iterable[str], written: Proofs, known: Proofs) -> None:
    """List a node's objects and mark it as complete.

    An object that was neither written now nor known before (a killed writer's) is read from disk:
    the caller has checked it. What is known is never read again, so damage is never signed.
    """
    objects = {key: written.get(key) or known.get(key) or _on_disk(root, key) for key in keys}
    listed = group_document(dataclasses.asdict(NodeList(objects=objects)))
    proof = write_object(root, list_key(node), listed)
    manifest = read_manifest(root)
    _write(
        root,
        Manifest(
            objects={**manifest.objects, list_key(node): proof},
            open=tuple(name for name in manifest.open if name != node),
        ),
    )


def drop_node(root: Path, node: str) -> None:
    """Forget a node that is open and no longer exists; its list first, which no one else knows."""
    remove_object(root, list_key(node))
    manifest = read_manifest(root)
    objects = {key: proof for key, proof in manifest.objects.items() if key != list_key(node)}
    _write(
        root,
        Manifest(objects=objects, open=tuple(name for name in manifest.open if name != node)),
    )


def _on_disk(root: Path, key: str) -> Proof:
    proof = proof_on_disk(root, key)
    if proof is None:
        raise DamagedStoreError(key, "it is missing")
    return proof


def _write(root: Path, manifest: Manifest) -> None:
    write_object(root, f"{MANIFEST}/{DOCUMENT}", manifest_document(manifest))


def _strictly(cls: type[T], attributes: Mapping[str, Any], node: str) -> T:
    try:
        return from_plain(cls, attributes, where=node)
    except SchemaError as error:
        raise DamagedStoreError(node, f"{error.path or 'its content'} {error.problem}") from error
