"""What turns one state of a store into the next, worked out from two manifests.

Chunks come first, then documents, then the lists of nodes, and the manifest last. Wherever it
stops, rows that a document does not speak of yet are there already, never the other way round.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from embedcache.errors import ElsewhereDamagedError
from embedcache.store.ancestry import Ahead, which_is_ahead
from embedcache.store.elsewhere import StoreElsewhere
from embedcache.store.layout import DOCUMENT, FIXED, IMAGES, MANIFEST, cohort_node
from embedcache.store.manifest import Manifest, empty_manifest, list_key, manifest_document
from embedcache.store.objects import Proof
from embedcache.store.reader import FeatureStore

#: The last step: lists of nodes.
LISTS = 7


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What turns one state of a store into the next.

    Attributes:
        nodes: that change.
        moved: objects that come, in the order in which they may be put in place.
        removed: objects that go.
        document: of the manifest afterwards.
    """

    nodes: tuple[str, ...]
    moved: dict[str, Proof]
    removed: tuple[str, ...]
    document: str


def compare(
    source: StoreElsewhere,
    before: StoreElsewhere | None,
    *,
    replace: Collection[str] = (),
    repair: bool = False,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Nodes that the other side lacks or has less of, and nodes that it has more of.

    Args:
        source: the store that is sent.
        before: the other side; None: nothing.
        replace: cohorts to send whatever the other side has of them.
        repair: what is damaged there is to be replaced.

    Raises:
        DivergedError: if the other side has what the source lacks, and lacks what it has.
        ElsewhereDamagedError: if the other side is damaged, and not by an interrupted push.
    """
    if before is None:
        return source.manifest.nodes, ()
    ours, theirs = FeatureStore(source), FeatureStore(before)
    here, there = source.manifest.objects, before.manifest.objects
    nodes: dict[str, list[str]] = {"ours": [], "theirs": []}
    forced = {cohort_node(name) for name in replace}
    for node in source.manifest.nodes:
        if here[list_key(node)] == there.get(list_key(node)):
            continue
        known = list_key(node) in there and node not in forced
        ahead: Ahead = "ours"
        if known:
            try:
                ahead = which_is_ahead(node, ours, theirs)
            except ElsewhereDamagedError as error:
                # What a push of the same objects had begun to replace, it may replace again.
                if not repair and before.proof(error.node) != source.expected(error.node):
                    raise
        nodes[ahead].append(node)
    return tuple(nodes["ours"]), tuple(nodes["theirs"])


def change_to(
    source: StoreElsewhere,
    before: StoreElsewhere | None,
    nodes: tuple[str, ...],
    *,
    whole: bool,
) -> Change:
    """The change that brings nodes of one store into another.

    Args:
        source: the store that has them.
        before: the other, which keeps all its other nodes; None: nothing.
        nodes: nodes of the source.
        whole: move every object of theirs, though the other's manifest has it already.
    """
    wanted = {**empty_manifest().objects, **_objects(source, nodes)}
    old = {} if before is None else _objects(before, nodes)
    known = {} if before is None else {**before.manifest.objects, **old}
    moved = [key for key, proof in wanted.items() if whole or known.get(key) != proof]
    kept = empty_manifest().objects if before is None else before.manifest.objects
    lists = {list_key(node): source.manifest.objects[list_key(node)] for node in nodes}
    return Change(
        nodes=nodes,
        moved={key: wanted[key] for key in sorted(moved, key=lambda key: (rank(key, known), key))},
        removed=tuple(sorted(old.keys() - wanted.keys())),
        document=manifest_document(Manifest(objects={**kept, **lists})).decode(),
    )


def rank(key: str, known: Collection[str]) -> int:
    """In which of several steps an object is put in place; equal ones may come in any order."""
    *_, parent, name = f"/{key}".rsplit("/", 2)
    if name != DOCUMENT:
        flags = "/done/c/" in key  # a row's vector is there before it counts as done
        return 2 if flags else int(key in known)  # what no reader of the old store looks at first
    if key in FIXED:
        return 0
    if key.startswith(f"{MANIFEST}/"):
        return LISTS
    if key.startswith(f"{IMAGES}/"):
        return 4 if parent == "digest" else 3  # its length commits the rows
    return 6 if parent == "done" else 5


def _objects(store: StoreElsewhere, nodes: tuple[str, ...]) -> dict[str, Proof]:
    """The objects of nodes, their lists among them; of the nodes that the store has."""
    objects: dict[str, Proof] = {}
    for node in nodes:
        if list_key(node) in store.manifest.objects:
            objects[list_key(node)] = store.manifest.objects[list_key(node)]
            # A list that an interrupted push replaced: what it removes is gone before that.
            with suppress(ElsewhereDamagedError):
                objects |= store.node_proofs(node)
    return objects
