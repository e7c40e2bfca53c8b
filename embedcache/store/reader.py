"""Reading a feature store: a row counts only if `done` says so and its checksum holds."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import shortest_references
from embedcache.errors import (
    AmbiguousNameError,
    DamagedStoreError,
    NewerFormatError,
    NotAStoreError,
    PackageMissingError,
    PathMissingError,
    RowsMissingError,
    UnfinishedCohortError,
    UnknownNameError,
    UnsealedError,
)
from embedcache.store.documents import read_group
from embedcache.store.feature_set import FeatureSet, failed_rows, read_with_done
from embedcache.store.image_table import ImageTable, read_rows, read_table
from embedcache.store.layout import (
    COHORTS,
    DOCUMENT,
    FEATURES,
    FORMAT,
    FORMAT_VERSION,
    IMAGES,
    VECTOR_ROWS,
    cohort_node,
    feature_node,
)
from embedcache.store.manifest import proofs_of, read_manifest, read_settled
from embedcache.store.objects import Proofs, Root, children
from embedcache.store.stored_cohort import StoredCohort, read_cohort
from embedcache.store.vectors import Vectors, content_digest

if TYPE_CHECKING:
    import dask.array
    import pandas
    import torch


def open_store(path: Root) -> FeatureStore:
    """Open a feature store for reading, sealed or not: a folder, a packed file, or one elsewhere.

    Raises:
        PathMissingError: if there is nothing at the path.
        NotAStoreError: if it is no feature store.
        NewerFormatError: if a newer embedcache wrote it.
        DamagedStoreError: if its own description does not hold together.
    """
    root = root_of(path)
    check_format(root)
    read_manifest(root)
    return FeatureStore(root)


def root_of(path: Root) -> Root:
    """Where a store is read that was named by a path: a file is a packed store."""
    if not isinstance(path, Path) or not path.is_file():
        return path
    from embedcache.store.pack import open_packed  # most stores are folders

    return open_packed(path)


def check_format(path: Root) -> None:
    """Make sure that a path holds a store that this embedcache can read.

    Raises:
        PathMissingError, NotAStoreError, NewerFormatError, DamagedStoreError: as `open_store`.
    """
    if isinstance(path, Path):
        if not path.exists():
            raise PathMissingError("the feature store", path)
        if not (path / DOCUMENT).is_file():
            raise NotAStoreError(path)
    attributes = read_group(path, "")
    version = attributes.get("format_version")
    if attributes.get("format") != FORMAT:
        raise NotAStoreError(path if isinstance(path, Path) else path.name)
    if type(version) is int and version > FORMAT_VERSION:
        raise NewerFormatError(Path(path.name), version, FORMAT_VERSION)
    if attributes != {"format": FORMAT, "format_version": FORMAT_VERSION}:
        raise DamagedStoreError(DOCUMENT, "its attributes are not this format's")


class FeatureStore:
    """Images, cohorts and features of one store; reads on demand, writes nothing.

    Cohorts and the image table are read as they were when first asked for.
    """

    def __init__(self, path: Root) -> None:
        """Use `open_store`, which checks the path."""
        self.path = path

    @property
    def place(self) -> Root:
        """What opens the store from any folder, and in any process."""
        return self.path.absolute() if isinstance(self.path, Path) else self.path

    @cached_property
    def images(self) -> ImageTable:
        """The image table.

        Raises:
            DamagedStoreError: if it is not what was written.
        """
        return read_settled(self.path, IMAGES, lambda proofs: read_table(self.path, proofs))

    def __len__(self) -> int:
        return len(self.images)

    def cohorts(self) -> tuple[str, ...]:
        """Names of the cohorts, sorted."""
        return children(self.path, COHORTS)

    def cohort(self, name: str) -> StoredCohort:
        """One cohort.

        Raises:
            UnknownNameError: if the store has none of that name.
            UnfinishedCohortError: if a writer is replacing it, or died doing so.
            DamagedStoreError: if it is not what the manifest says.
        """
        if name not in self.cohorts():
            raise UnknownNameError("cohort", name, self.cohorts())

        def read(proofs: Proofs | None) -> StoredCohort:
            if proofs is None:
                raise UnfinishedCohortError(name)
            # A cohort may be newer than the table that this store read before.
            images = read_settled(self.path, IMAGES, lambda known: read_rows(self.path, known))
            return read_cohort(self.path, name, images, proofs)

        return read_settled(self.path, cohort_node(name), read)

    def feature_sets(self) -> tuple[FeatureSet, ...]:
        """All feature sets, by name, then id.

        Raises:
            DamagedStoreError: if one is not what was written.
        """
        found = [self._feature_set(feature_id) for feature_id in children(self.path, FEATURES)]
        return tuple(sorted(found, key=lambda one: (one.name, one.id)))

    def select(self, reference: str) -> FeatureSet:
        """The feature set called `NAME` or `NAME#ID`; the first digits of an id will do.

        Raises:
            UnknownNameError: if there is none.
            AmbiguousNameError: if several ids fit; lists them.
        """
        sets = self.feature_sets()
        name, _, feature_id = reference.partition("#")
        fitting = [one for one in sets if one.name == name and one.id.startswith(feature_id)]
        if not fitting:
            raise UnknownNameError("feature set", reference, self._references(sets))
        if len(fitting) > 1:
            raise AmbiguousNameError(name, tuple(one.id for one in fitting))
        return fitting[0]

    def reference(self, feature_id: str) -> str:
        """The shortest name that selects a feature set: with `#ID` where two share the name."""
        sets = self.feature_sets()
        ids = [one.id for one in sets]
        return self._references(sets)[ids.index(feature_id)]

    def done(self, feature_id: str) -> NDArray[np.bool_]:
        """Which images have a vector, (n,) bool."""
        done = np.zeros(len(self.images), np.bool_)
        known = self._look(feature_id)[1][: len(done)]
        done[: len(known)] = known
        return done

    def features(self, feature_id: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Vectors of rows of the image table, in the order asked: (k, dim) float32.

        Raises:
            RowsMissingError: if a row is not done; names the rows.
            DamagedRowsError: if a vector is gone, not finite or fails its checksum; likewise.
        """
        rows = np.asarray(rows, np.int64)
        one, done = self._look(feature_id)
        there = (rows >= 0) & (rows < len(done))
        there[there] = done[rows[there]]
        if not there.all():
            lacking = tuple(np.unique(rows[~there]).tolist())
            raise RowsMissingError(one.name, lacking)
        return self._vectors(one).read(rows).astype(np.float32, copy=False)

    def proved(self, feature_id: str) -> Vectors:
        """Vectors by the manifest's sha256, of stored dtype: for what signs them anew, as merge.

        Raises:
            UnsealedError: if a writer has the feature set open, or died there.
            DamagedStoreError: if its list is not what the manifest says.
        """
        one = self._feature_set(feature_id)
        proofs = proofs_of(self.path, feature_node(feature_id), read_manifest(self.path))
        if proofs is None:
            raise UnsealedError(one.name, self.path.name)
        return Vectors(self.path, one.contract, one.rows, name=one.name, proofs=proofs)

    def failed(self, feature_id: str) -> dict[int, str]:
        """Reason by row, of all rows that some run could not encode and none has done since."""
        one, done = self._look(feature_id)
        return failed_rows(one.runs, done)

    def content_digest(self, feature_id: str) -> str:
        """Sha256 over done rows in digest order (image digest, then vector bytes), 64 hex digits.

        Raises:
            DamagedRowsError: if a vector is gone or fails its checksum.
        """
        rows = np.flatnonzero(self.done(feature_id))
        return content_digest(
            self._vectors(self._feature_set(feature_id)), self.images.digest, rows
        )

    def to_numpy(self, feature_id: str) -> NDArray[np.float32]:
        """Vectors of all done rows, ascending (`np.flatnonzero(done)`), (k, dim) float32."""
        return self.features(feature_id, np.flatnonzero(self.done(feature_id)))

    def to_dask(self, feature_id: str) -> dask.array.Array:
        """The same, read and checked chunk by chunk when computed."""
        from dask import array, delayed  # type: ignore[attr-defined]  # dask exports it lazily

        rows = np.flatnonzero(self.done(feature_id))
        dim = self._feature_set(feature_id).contract.dim
        read = delayed(_read_rows)
        parts = np.split(rows, np.flatnonzero(np.diff(rows // VECTOR_ROWS)) + 1)
        blocks = [
            array.from_delayed(read(self.place, feature_id, p), (len(p), dim), dtype=np.float32)  # type: ignore[no-untyped-call]  # dask is untyped here
            for p in parts
        ]
        return cast("array.Array", array.concatenate(blocks))  # type: ignore[no-untyped-call]  # likewise

    def to_torch(self, feature_id: str) -> torch.Tensor:
        """The same as `to_numpy`, as a tensor on the CPU, (k, dim) float32."""
        import torch

        return torch.from_numpy(self.to_numpy(feature_id))

    def to_pandas(self, feature_id: str) -> pandas.DataFrame:
        """The same, (k, dim) float32; the index is each image's digest in hex.

        Raises:
            PackageMissingError: if pandas is not installed: embedcache does not need it.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise PackageMissingError("to_pandas", "pandas") from error
        rows = np.flatnonzero(self.done(feature_id))
        digest = [bytes(one).hex() for one in self.images.digest[rows]]
        index = pd.Index(digest, name="digest")
        return pd.DataFrame(self.features(feature_id, rows), index=index)

    def sealed(self) -> bool:
        """Whether the manifest covers all of the store."""
        return not read_manifest(self.path).open

    def _feature_set(self, feature_id: str) -> FeatureSet:
        return self._look(feature_id)[0]

    def _look(self, feature_id: str) -> tuple[FeatureSet, NDArray[np.bool_]]:
        """A feature set and which of its rows are done, (n',) bool, as they are now."""

        def read(proofs: Proofs | None) -> tuple[FeatureSet, NDArray[np.bool_]]:
            # The set may span images newer than the table that this store read before.
            images = read_settled(self.path, IMAGES, lambda known: read_rows(self.path, known))
            return read_with_done(self.path, feature_id, images, proofs)

        return read_settled(self.path, feature_node(feature_id), read)

    def _vectors(self, one: FeatureSet) -> Vectors:
        return Vectors(self.path, one.contract, one.rows, name=one.name)

    @staticmethod
    def _references(sets: tuple[FeatureSet, ...]) -> tuple[str, ...]:
        return shortest_references([(one.name, one.id) for one in sets])


def _read_rows(path: Root, feature_id: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    # Opened where it runs: a Dask worker may be another machine that sees the same folder.
    return open_store(path).features(feature_id, rows)
