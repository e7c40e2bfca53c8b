"""Which rows of a feature set are sound, and signing what a killed writer left.

The manifest must never vouch for damage: what nobody vouches for is read and checked first.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import sync_folder
from embedcache.errors import (
    DamagedRowsError,
    DamagedStoreError,
    StoreAccessError,
    StoreBusyError,
)
from embedcache.store.chunks import Objects
from embedcache.store.feature_set import (
    FeatureAttributes,
    read_done,
    read_feature_set,
    set_keys,
    write_arrays,
)
from embedcache.store.image_table import read_rows
from embedcache.store.layout import DOCUMENT, FEATURES, IMAGES, done_array
from embedcache.store.locks import hold, table_lock
from embedcache.store.manifest import close_node, drop_node, read_manifest, read_settled
from embedcache.store.objects import Proofs, clear_begun, object_size, reason_of, remove_object
from embedcache.store.vectors import Vectors


def close_left_open(path: Path, node: str) -> None:
    """Bring a feature set that a killed writer left open into the manifest.

    Does nothing where a writer is still at it.

    Raises:
        DamagedRowsError: if its vectors are damaged.
    """
    name = f"features-{node.removeprefix(f'{FEATURES}/')}"
    with ExitStack() as stack:
        try:
            stack.enter_context(hold(path, name, node, 0))
        except StoreBusyError:
            return
        clear_begun(path, node)
        close_leased(path, node)


def close_leased(path: Path, node: str) -> None:
    """The same, by the holder of the feature set's lease."""
    feature_id = node.removeprefix(f"{FEATURES}/")
    exists = object_size(path, f"{node}/{DOCUMENT}") is not None
    if exists:
        check_sound(path, feature_id)
    with table_lock(path):
        if node not in read_manifest(path).open:
            return
        if not exists:  # killed before its own document, or while it was removed
            remove_feature_set(path, node)
            return
        one = read_feature_set(path, feature_id, image_rows(path), None)
        written = write_arrays(path, one.contract, one.rows)
        close_node(path, node, set_keys(path, one.contract, one.rows), written, {})


def remove_feature_set(path: Path, node: str) -> None:
    """Delete a feature set that is open in the manifest; by the holder of lease and table's lock.

    Its own document goes first: a kill leaves what `close_leased` removes.
    """
    remove_object(path, f"{node}/{DOCUMENT}")
    try:
        if (path / node).is_dir():
            shutil.rmtree(path / node)
            sync_folder((path / node).parent)
    except OSError as error:
        raise StoreAccessError("delete", node, reason_of(error)) from error
    drop_node(path, node)


def check_sound(path: Path, feature_id: str) -> None:
    """What no manifest vouches for must hold by its checksums before it is signed."""
    images = image_rows(path)
    one = read_feature_set(path, feature_id, images, None)
    done = read_done(path, feature_id, images, None)
    lost = Vectors(path, one.contract, one.rows, name=one.name).damaged(done)
    if len(lost):
        raise DamagedRowsError(one.name, tuple(lost.tolist()), "gone, or a checksum fails")


def sound_rows(
    path: Path, about: FeatureAttributes, images: int, proofs: Proofs | None
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Rows done with a sound vector, (n',) bool, and rows that were done and are lost."""
    done, doubtful = _done_where_sound(path, about.contract.feature_id, images, proofs)
    vectors = Vectors(path, about.contract, len(done), name=about.name, proofs=proofs)
    lost = vectors.damaged(done)
    # Where `done` is damaged nothing counts; what has a sound vector there was done.
    were = np.setdiff1d(np.flatnonzero(doubtful), vectors.damaged(doubtful))
    done[lost] = False
    return done, np.union1d(lost, were)


def _done_where_sound(
    path: Path, feature_id: str, images: int, proofs: Proofs | None
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """`done` with damaged chunks as not done, and the rows of these, both (n',) bool."""
    try:
        done = read_done(path, feature_id, images, proofs)
        return done, np.zeros_like(done)
    except DamagedStoreError:
        layout = done_array(feature_id, images)
    done, doubtful = np.zeros(images, np.bool_), np.zeros(images, np.bool_)
    objects = Objects(path, proofs=proofs)
    for chunk in range(layout.chunks):
        part = slice(chunk * layout.chunk_rows, (chunk + 1) * layout.chunk_rows)
        try:
            done[part] = objects.read(layout, part.start, part.stop)
        except DamagedStoreError:
            doubtful[part] = True
        if proofs and layout.key(chunk) in proofs and not done[part].any():
            doubtful[part] = True  # a chunk is written when it holds something: it is gone
    return done, doubtful


def image_rows(path: Path) -> int:
    """Images in the table."""
    return read_settled(path, IMAGES, lambda proofs: read_rows(path, proofs))
