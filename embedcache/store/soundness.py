"""Which rows of a feature set are sound, and signing what a killed writer left.

The manifest must never vouch for damage: what nobody vouches for is read and checked first.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import clear_partial
from embedcache.errors import DamagedRowsError, DamagedStoreError, StoreBusyError
from embedcache.store.feature_set import (
    FeatureAttributes,
    read_done,
    read_feature_set,
    set_keys,
    write_arrays,
)
from embedcache.store.image_table import read_rows
from embedcache.store.layout import DOCUMENT, FEATURES, IMAGES
from embedcache.store.locks import hold, table_lock
from embedcache.store.manifest import close_node, drop_node, read_manifest, read_settled
from embedcache.store.objects import Proofs, object_size
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
        clear_partial(path / node)
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
        if not exists:  # killed before its own document: nothing was put there yet
            drop_node(path, node)
            return
        one = read_feature_set(path, feature_id, image_rows(path), None)
        written = write_arrays(path, one.contract, one.rows)
        close_node(path, node, set_keys(path, one.contract, one.rows), written, {})


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
    """Rows done with a sound vector, (n',) bool, and rows that were done and lost theirs."""
    feature_id = about.contract.feature_id
    try:
        done = read_done(path, feature_id, images, proofs)
        vectors = Vectors(path, about.contract, len(done), name=about.name, proofs=proofs)
        lost = vectors.damaged(done)
        done[lost] = False
    except DamagedStoreError:
        # Without `done` nothing counts; what has a sound vector was most likely done.
        done = np.zeros(0, np.bool_)
        every = np.ones(images, np.bool_)
        unsound = Vectors(path, about.contract, images, name=about.name).damaged(every)
        lost = np.setdiff1d(np.arange(images), unsound)
    return done, lost


def image_rows(path: Path) -> int:
    """Images in the table."""
    return read_settled(path, IMAGES, lambda proofs: read_rows(path, proofs))
