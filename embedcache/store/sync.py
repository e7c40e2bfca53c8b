"""Send a store to a place, or fetch one: what the other side's manifest lacks, and nothing else.

The order keeps every reader right. Chunks arrive first, then documents, then the lists of nodes,
and the manifest last, on the condition that nobody changed it meanwhile. A reader compares all with
the manifest that it began with, so it sees the old store, the new one, or a typed error. Only the
rows at the end of a store change in place; whatever came before stays as the old manifest says.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from embedcache.errors import PlaceTakenError, PublishedMeanwhileError, UnknownNameError
from embedcache.progress import Progress, Silent
from embedcache.store.bucket import Bucket
from embedcache.store.change import LISTS, Change, change_to, compare, rank
from embedcache.store.elsewhere import PARALLEL, StoreElsewhere, all_proofs, open_elsewhere, pinned
from embedcache.store.folder import Folder
from embedcache.store.incoming import IncomingFolder
from embedcache.store.layout import COHORTS, DOCUMENT, MANIFEST, cohort_node
from embedcache.store.objects import MOST_DOCUMENT, Proof
from embedcache.store.places import target_at, transport_to
from embedcache.store.reader import check_format

_ROOT = f"{MANIFEST}/{DOCUMENT}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Transfer:
    """What a push or pull sends, or has sent.

    Attributes:
        nodes: parts of the store that the other side lacks, or has less of.
        ahead: parts that the other side has more of; they stay as they are.
        objects: how many objects are sent; those that had arrived before are not.
        size: their bytes.
        total: bytes of the whole store.
    """

    nodes: tuple[str, ...]
    ahead: tuple[str, ...]
    objects: int
    size: int
    total: int


def push(
    store: Path,
    place: str,
    *,
    replace: Collection[str] = (),
    repair: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Transfer:
    """Send to a place what its manifest lacks of a store; a rerun goes on where it stopped.

    Args:
        store: a sealed store.
        place: a path, `file://…` or `s3://…`.
        replace: cohorts to send although the other side's is no earlier state of them.
        repair: compare every object, not only what the other side's manifest lacks.
        dry_run: only say what would be sent.
        progress: told of bytes.

    Raises:
        UnsealedElsewhereError: if either side's manifest does not cover its whole store.
        DivergedError: if the other side has what this store lacks.
        PlaceTakenError, PlaceUnusableError: if nothing can be sent there.
        PublishedMeanwhileError: if another command published there first.
        TransferFailedError: if the other side fails.
        ElsewhereDamagedError: if an object here is not what the manifest says.
    """
    check_format(store)
    source = open_elsewhere(Folder(store))
    asked = _Asked(replace=frozenset(replace), repair=repair, dry_run=dry_run)
    return _send("push", source, target_at(place), asked, progress or Silent())


def pull(
    place: str,
    store: Path,
    *,
    replace: Collection[str] = (),
    repair: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Transfer:
    """Fetch what a folder's store lacks of the one at a place: the mirror image of `push`.

    Args:
        place: a path, packed file, `file://…`, `s3://…` or `https://…`.
        store: a folder that holds an earlier state of that store, or nothing.
        replace: cohorts to fetch although the one here is no earlier state of them.
        repair: compare every object.
        dry_run: only say what would be fetched.
        progress: told of bytes.

    Raises:
        As `push`.
    """
    source = open_elsewhere(transport_to(place))
    check_format(source)
    asked = _Asked(replace=frozenset(replace), repair=repair, dry_run=dry_run)
    return _send("pull", source, IncomingFolder(store), asked, progress or Silent())


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """The flags that both verbs share."""

    replace: frozenset[str]
    repair: bool
    dry_run: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan:
    """A change, what of it must be sent, and the state that it changes.

    Attributes:
        change: None: nothing changes.
        sent: objects to send, by key.
        transfer: the same, for people.
        before: the store that is there, or None.
        tag: the server's tag of its manifest.
    """

    change: Change | None
    sent: dict[str, Proof]
    transfer: Transfer
    before: StoreElsewhere | None
    tag: str | None


def _send(
    verb: str,
    source: StoreElsewhere,
    target: Bucket | IncomingFolder,
    asked: _Asked,
    progress: Progress,
) -> Transfer:
    in_turn = isinstance(target, IncomingFolder) and not asked.dry_run
    with target.opened() if in_turn else nullcontext():  # type: ignore[union-attr]  # a folder, then
        plan = _plan(source, target, asked)
        if asked.dry_run or plan.change is None:
            return plan.transfer
        with progress.stage(verb, plan.transfer.size, "bytes") as stage:
            for step, keys in _steps(plan):
                if isinstance(target, Bucket):
                    _check_alone(target, plan)
                    target.delete(plan.change.removed if step == LISTS else ())
                for key in _side_by_side(source, target, keys):
                    stage.advance(plan.sent[key].size)
        _publish(target, plan)
        return plan.transfer


def _plan(source: StoreElsewhere, target: Bucket | IncomingFolder, asked: _Asked) -> _Plan:
    for name in sorted(asked.replace):
        if cohort_node(name) not in source.manifest.nodes:
            raise UnknownNameError("cohort", name, source.children(COHORTS))
    before, tag = _current(target)
    nodes, ahead = compare(source, before, replace=asked.replace, repair=asked.repair)
    if asked.repair:
        nodes = tuple(node for node in source.manifest.nodes if node not in ahead)
    change = change_to(source, before, nodes, whole=asked.repair)
    if before is None:
        strangers = target.strangers((*change.moved, _ROOT))
        if strangers:
            raise PlaceTakenError(target.name, strangers)
    there = target.holds(change.moved, source.read) if change.moved else frozenset()
    sent = {key: proof for key, proof in change.moved.items() if key not in there}
    same = before is not None and before.document == change.document.encode() and not sent
    # Lists that both sides have are read here, where a folder has them.
    listed = before if before and same and isinstance(target, IncomingFolder) else source
    transfer = Transfer(
        nodes=() if same else nodes,
        ahead=ahead,
        objects=len(sent),
        size=sum(proof.size for proof in sent.values()),
        total=sum(proof.size for proof in all_proofs(listed).values()),
    )
    return _Plan(
        change=None if same else change, sent=sent, transfer=transfer, before=before, tag=tag
    )


def _current(target: Bucket | IncomingFolder) -> tuple[StoreElsewhere | None, str | None]:
    """The store at a target, and the server's tag of its manifest."""
    if isinstance(target, IncomingFolder):
        return target.current(), None
    found = target.get_with_tag(_ROOT, MOST_DOCUMENT)
    if found is None:
        return None, None
    store = pinned(target, found[0])
    check_format(store)
    return store, found[1]


def _steps(plan: _Plan) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The objects to send, in steps that must follow each other."""
    known = plan.before.manifest.objects if plan.before else ()
    for step, keys in groupby(plan.sent, key=lambda key: rank(key, known)):
        yield step, tuple(keys)


def _side_by_side(
    source: StoreElsewhere, target: Bucket | IncomingFolder, keys: tuple[str, ...]
) -> Iterator[str]:
    """Send objects, several at once; the first that fails stops those that have not begun."""

    def send(key: str) -> str:
        target.put(key, source.read(key))
        return key

    pool = ThreadPoolExecutor(PARALLEL)
    try:
        for future in as_completed([pool.submit(send, key) for key in keys]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check_alone(target: Bucket, plan: _Plan) -> None:
    """Stop as soon as somebody else has published, before more of theirs is overwritten.

    Raises:
        PublishedMeanwhileError: if somebody has.
    """
    found = target.get_with_tag(_ROOT, MOST_DOCUMENT)
    if (found and found[1]) != plan.tag:
        raise PublishedMeanwhileError(target.name)


def _publish(target: Bucket | IncomingFolder, plan: _Plan) -> None:
    assert plan.change is not None, "there is something to publish"
    if isinstance(target, IncomingFolder):
        target.publish(plan.change, plan.before)
        return
    target.replace(_ROOT, plan.change.document.encode(), plan.tag)
