"""Writing a feature store: images, cohorts, then features under a lease."""

from __future__ import annotations

import glob
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Contract
from embedcache.durable import PARTIAL, sync_folder
from embedcache.errors import (
    CohortDiffersError,
    DamagedStoreError,
    StoreAccessError,
    UnfinishedCohortError,
)
from embedcache.provenance import Fingerprint, Overlap
from embedcache.store.feature_set import FeatureAttributes
from embedcache.store.image_table import (
    append,
    empty_table,
    read_table,
    table_keys,
    write_table,
)
from embedcache.store.layout import (
    COHORTS,
    DOCUMENT,
    FIXED,
    IMAGES,
    MANIFEST,
    MOST_BATCH,
    MOST_DIM,
    cohort_node,
)
from embedcache.store.lease import FeatureLease
from embedcache.store.locks import lock_folder, table_lock
from embedcache.store.manifest import (
    close_node,
    drop_node,
    empty_manifest,
    manifest_document,
    open_node,
    read_manifest,
)
from embedcache.store.objects import clear_begun, object_size, reason_of, write_object
from embedcache.store.reader import check_format, open_store
from embedcache.store.soundness import close_left_open
from embedcache.store.stored_cohort import StoredCohort, check_cohort, read_cohort, write_cohort


def create_or_open_for_writing(path: Path) -> StoreWriter:
    """Make an empty store, or open one and mend what killed writers left of the image table.

    Raises:
        NotAStoreError: if the path holds something else.
        NewerFormatError: if a newer embedcache wrote it.
        DamagedStoreError: if the image table is damaged.
        StoreBusyError: if another writer holds the table's lock too long.
        StoreAccessError: if the system refuses to write there.
    """
    path = path.resolve()  # a stage lies beside the store itself, not beside a link to it
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        check_format(path)
    writer = StoreWriter(path)
    with table_lock(path):
        _clear_stages(path)
        if not (path / DOCUMENT).is_file():
            _create(path)
        for node in (MANIFEST, IMAGES):  # written under this lock alone
            clear_begun(path, node)
        _mend_table(path)
    return writer


class StoreWriter:
    """Adds to a store. Every call is durable, and in the manifest, when it returns."""

    def __init__(self, path: Path) -> None:
        """Use `create_or_open_for_writing`."""
        self.path = path

    def add_images(
        self,
        digest: NDArray[np.uint8],
        size: NDArray[np.int32],
        formats: Sequence[str],
        modes: Sequence[str],
    ) -> NDArray[np.int64]:
        """Rows of images, appended where they are new. Call it once for many: each call syncs.

        Args:
            digest: (k, 32) uint8; repeats are fine and share a row.
            size: width and height, (k, 2) int32.
            formats: k names such as `PNG`.
            modes: k names such as `RGB`.

        Returns:
            (k,) int64 rows of the image table.
        """
        with table_lock(self.path):
            _mend_table(self.path)
            table = open_store(self.path).images
            longer, rows = append(table, digest, size, formats, modes)
            if len(longer) > len(table):
                known = open_node(self.path, IMAGES)
                written = write_table(self.path, longer, since=len(table))
                close_node(self.path, IMAGES, table_keys(len(longer)), written, known)
        return rows

    def put_cohort(self, cohort: StoredCohort) -> None:
        """Write a cohort, or replace the labels, patients and strata of the one of that name.

        A cohort is plainly another one if less than half of its images are in the new one.

        Raises:
            CohortDiffersError: if the store's cohort of that name is plainly another one.
            UnusableNameError: if its name, or a stratum's, cannot be a node of the store.
            StratumTooFineError, StratumValueTooLongError: if a stratum names no groups.
        """
        with table_lock(self.path):
            check_cohort(cohort, open_store(self.path).cohorts())
            stored = self._stored(cohort.name)
            if stored is not None:
                if stored.same_as(cohort):
                    return
                _check_related(stored, cohort)
            self._replace(cohort)

    def lease(
        self,
        contract: Contract,
        *,
        name: str,
        licence: str,
        citation: str,
        batch: int,
        fingerprint: Fingerprint | None = None,
        overlap: tuple[Overlap, ...] = (),
    ) -> FeatureLease:
        """Become the one writer of a feature set; use it as a context manager.

        What the first run said of name, licence, citation, batch, fingerprint and overlap is kept.

        Raises:
            StoreBusyError: on entering, if another process writes this feature set.
        """
        assert 1 <= contract.dim <= MOST_DIM, "readers refuse other vectors"
        assert 1 <= batch <= MOST_BATCH, "readers refuse other batches"
        about = FeatureAttributes(
            contract=contract,
            name=name,
            licence=licence,
            citation=citation,
            batch=batch,
            fingerprint=fingerprint,
            overlap=overlap,
        )
        return FeatureLease(self.path, about)

    def seal(self) -> None:
        """Bring into the manifest what killed writers left out; call it last.

        What another process is writing at the moment stays open: that process closes it.

        Raises:
            DamagedRowsError: if what they left is damaged; the store then stays unsealed.
        """
        for node in read_manifest(self.path).open:
            if node.startswith(f"{COHORTS}/"):
                with table_lock(self.path):
                    self._close_cohort(node)
            elif node != IMAGES:
                close_left_open(self.path, node)
        with table_lock(self.path):
            _mend_table(self.path)

    def _stored(self, name: str) -> StoredCohort | None:
        store = open_store(self.path)
        try:
            return store.cohort(name) if name in store.cohorts() else None
        except (UnfinishedCohortError, DamagedStoreError):
            return None  # no one can read it: what replaces it is better

    def _replace(self, cohort: StoredCohort) -> None:
        node = cohort_node(cohort.name)
        stage = lock_folder(self.path) / f"cohort.{secrets.token_hex(4)}{PARTIAL}"
        try:
            stage.mkdir()
            written = write_cohort(stage, cohort)
            open_node(self.path, node)
            target = self.path / node
            if target.exists():
                target.rename(stage / "replaced")
            (stage / node).rename(target)
            sync_folder(target.parent)
            close_node(self.path, node, written, written, {})
            shutil.rmtree(stage)
        except OSError as error:
            raise StoreAccessError("write", node, reason_of(error)) from error

    def _close_cohort(self, node: str) -> None:
        if node not in read_manifest(self.path).open:
            return
        if object_size(self.path, f"{node}/{DOCUMENT}") is None:
            drop_node(self.path, node)
            return
        # A cohort is renamed into place whole: what lies there is the old one or the new one.
        name = node.removeprefix(f"{COHORTS}/")
        cohort = read_cohort(self.path, name, len(open_store(self.path).images), None)
        self._replace(cohort)


def _clear_stages(path: Path) -> None:
    """Remove what killed writers were preparing; needs the table's lock."""
    # Only names as we make them: a folder beside the store may be anybody's.
    begun = f".{'[0-9a-f]' * 8}{PARTIAL}"
    stages = (
        *path.parent.glob(f"{glob.escape(path.name)}{begun}"),
        *lock_folder(path).glob(f"cohort{begun}"),
    )
    try:
        for stage in stages:
            shutil.rmtree(stage)
    except OSError as error:
        raise StoreAccessError("delete", "an unfinished folder", reason_of(error)) from error


def _create(path: Path) -> None:
    """Make an empty store beside its place, then rename it there: a kill leaves none or all."""
    stage = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        for key, data in FIXED.items():
            write_object(stage, key, data)
        write_object(stage, f"{MANIFEST}/{DOCUMENT}", manifest_document(empty_manifest()))
        written = write_table(stage, empty_table(), since=0)
        close_node(stage, IMAGES, table_keys(0), written, {})
        if path.is_dir():
            path.rmdir()
        stage.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        raise StoreAccessError("create", path.name, reason_of(error)) from error


def _mend_table(path: Path) -> None:
    """Finish what a writer of the image table left when it was killed; needs the table's lock."""
    if IMAGES not in read_manifest(path).open:
        return
    table = read_table(path, None)
    written = write_table(path, table, since=max(len(table) - 1, 0))
    close_node(path, IMAGES, table_keys(len(table)), written, {})


def _check_related(stored: StoredCohort, cohort: StoredCohort) -> None:
    mine = np.unique(stored.row[stored.row >= 0])
    shared = int(np.isin(mine, cohort.row).sum())
    if 2 * shared < len(mine):
        raise CohortDiffersError(cohort.name, len(mine), shared, stored.reader, cohort.reader)
