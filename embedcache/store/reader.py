"""Reading a feature store: a row counts only if `done` says so and its checksum holds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.store.feature_set import FeatureSet
from embedcache.store.image_table import ImageTable
from embedcache.store.stored_cohort import StoredCohort

if TYPE_CHECKING:
    import dask.array


def open_store(path: Path) -> FeatureStore:
    """Open a feature store for reading, sealed or not.

    Raises:
        PathMissingError: if there is nothing at the path.
        NotAStoreError: if it is no feature store.
        NewerFormatError: if a newer embedcache wrote it.
        DamagedStoreError: if its own description does not hold together.
    """
    raise NotImplementedError


class FeatureStore:
    """Images, cohorts and features of one store; reads on demand, writes nothing."""

    path: Path

    @property
    def images(self) -> ImageTable:
        """The image table."""
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.images)

    def cohorts(self) -> tuple[str, ...]:
        """Names of the cohorts, sorted."""
        raise NotImplementedError

    def cohort(self, name: str) -> StoredCohort:
        """One cohort.

        Raises:
            UnknownNameError: if the store has none of that name.
            DamagedStoreError: if it does not match its manifest, or was left half written.
        """
        raise NotImplementedError

    def feature_sets(self) -> tuple[FeatureSet, ...]:
        """All feature sets, by name, then id."""
        raise NotImplementedError

    def select(self, reference: str) -> FeatureSet:
        """The feature set called `NAME` or `NAME#ID`.

        Raises:
            UnknownNameError: if there is none.
            AmbiguousNameError: if several ids share the name; lists them.
        """
        raise NotImplementedError

    def done(self, feature_id: str) -> NDArray[np.bool_]:
        """Which images have a vector, (n,) bool."""
        raise NotImplementedError

    def features(self, feature_id: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of rows of the image table, in the order asked: (k, dim) float32.

        Raises:
            RowsMissingError: if a row is not done; names the rows.
            DamagedRowsError: if a vector is gone, not finite or fails its checksum; likewise.
        """
        raise NotImplementedError

    def failed(self, feature_id: str) -> dict[int, str]:
        """Reason by row, of all rows that some run could not encode and none has done since."""
        raise NotImplementedError

    def content_digest(self, feature_id: str) -> str:
        """Sha256 over done rows in digest order (image digest, then vector bytes), 64 hex digits.

        Raises:
            DamagedRowsError: if a vector is gone or fails its checksum.
        """
        raise NotImplementedError

    def to_numpy(self, feature_id: str) -> NDArray[np.float32]:
        """Vectors of all done rows, ascending (`np.flatnonzero(done)`), (k, dim) float32."""
        raise NotImplementedError

    def to_dask(self, feature_id: str) -> dask.array.Array:
        """The same, read and checked chunk by chunk when computed."""
        raise NotImplementedError

    def sealed(self) -> bool:
        """Whether the manifest covers all of the store."""
        raise NotImplementedError
