"""Writing a feature store: images, cohorts, then features under a lease."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Contract
from embedcache.store.lease import FeatureLease
from embedcache.store.stored_cohort import StoredCohort


def create_or_open_for_writing(path: Path) -> StoreWriter:
    """Make an empty store, or open one and clear what killed writers left.

    Raises:
        NotAStoreError: if the path holds something else.
        NewerFormatError: if a newer embedcache wrote it.
        DamagedStoreError: if the image table is damaged.
        StoreBusyError: if another writer holds the table's lock too long.
    """
    raise NotImplementedError


class StoreWriter:
    """Adds to a store. Every call is durable when it returns."""

    path: Path

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
        raise NotImplementedError

    def put_cohort(self, cohort: StoredCohort) -> None:
        """Write a cohort, or replace the labels, patients and strata of the one of that name.

        Raises:
            CohortDiffersError: if the store's cohort of that name is plainly another one.
            UnusableNameError: if its name, or a stratum's, cannot be a node of the store.
        """
        raise NotImplementedError

    def lease(
        self,
        contract: Contract,
        *,
        name: str,
        licence: str,
        citation: str,
        batch: int,
        fingerprint: str | None = None,
    ) -> FeatureLease:
        """Become the one writer of a feature set; use it as a context manager.

        What the first run said of name, licence, citation, batch and fingerprint is kept.

        Raises:
            StoreBusyError: on entering, if another process writes this feature set.
        """
        raise NotImplementedError

    def seal(self) -> None:
        """Bring into the manifest what killed writers left out; call it last.

        Raises:
            DamagedRowsError: if what they left is damaged; the store then stays unsealed.
        """
        raise NotImplementedError
