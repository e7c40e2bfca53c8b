"""What a store holds, at a glance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from embedcache.errors import UnfinishedCohortError
from embedcache.provenance import Overlap
from embedcache.store.feature_set import FeatureSet
from embedcache.store.layout import feature_node
from embedcache.store.manifest import read_manifest
from embedcache.store.objects import Root, files_below, object_size
from embedcache.store.reader import FeatureStore


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortListing:
    """One cohort of a store.

    Attributes:
        name: of the cohort.
        rows: entries of its table.
        images: distinct images that could be read.
        patients: distinct pseudonyms.
        classes: how many rows each class has.
        strata: how many rows each value has, by stratum.
        unreadable: images that could not be read, by reason.
        reader: kind of its reader.
        licence: of the images.
        citation: of the images.
        synthetic: whether the pictures were drawn.
        key_id: of the key behind its pseudonyms.
    """

    name: str
    rows: int
    images: int
    patients: int
    classes: dict[str, int]
    strata: dict[str, dict[str, int]]
    unreadable: dict[str, int]
    reader: str
    licence: str
    citation: str
    synthetic: bool
    key_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureListing:
    """One feature set of a store.

    Attributes:
        name: the encoder's reference without weights.
        id: feature id.
        dim: length of a vector.
        done: rows with a vector.
        failed: rows that could not be encoded, by reason.
        random_weights: nobody trained this encoder.
        weights: as the contract says.
        precision: of the arithmetic.
        licence: of the weights.
        citation: of the encoder.
        overlap: of what the weights were trained on with cohorts.
        size: bytes on disk.
    """

    name: str
    id: str
    dim: int
    done: int
    failed: dict[str, int]
    random_weights: bool
    weights: str
    precision: str
    licence: str
    citation: str
    overlap: tuple[Overlap, ...]
    size: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreListing:
    """A store at a glance.

    Attributes:
        images: length of the image table.
        cohorts: by name.
        unfinished: cohorts that a writer is replacing, or died replacing.
        features: by name, then id.
        unsealed: nodes that the manifest does not cover.
    """

    images: int
    cohorts: tuple[CohortListing, ...]
    unfinished: tuple[str, ...]
    features: tuple[FeatureListing, ...]
    unsealed: tuple[str, ...]


def list_store(store: FeatureStore) -> StoreListing:
    """Look at everything but vectors.

    Raises:
        DamagedStoreError: if a part is not what was written.
    """
    cohorts, unfinished = [], []
    for name in store.cohorts():
        try:
            cohorts.append(_cohort(store, name))
        except UnfinishedCohortError:
            unfinished.append(name)
    return StoreListing(
        images=len(store),
        cohorts=tuple(cohorts),
        unfinished=tuple(unfinished),
        features=tuple(_features(store, one) for one in store.feature_sets()),
        unsealed=read_manifest(store.path).open,
    )


def _cohort(store: FeatureStore, name: str) -> CohortListing:
    cohort = store.cohort(name)
    labelled = cohort.label[cohort.label >= 0]
    count = np.bincount(labelled, minlength=len(cohort.classes)).tolist()
    return CohortListing(
        name=name,
        rows=len(cohort),
        images=len(np.unique(cohort.row[cohort.row >= 0])),
        patients=len(np.unique(cohort.patient, axis=0)),
        classes=dict(zip(cohort.classes, count, strict=True)),
        strata={
            stratum: _count(value.tolist()) for stratum, value in sorted(cohort.strata.items())
        },
        unreadable=cohort.unreadable,
        reader=cohort.reader,
        licence=cohort.licence,
        citation=cohort.citation,
        synthetic=cohort.synthetic,
        key_id=cohort.key_id,
    )


def _features(store: FeatureStore, one: FeatureSet) -> FeatureListing:
    return FeatureListing(
        name=one.name,
        id=one.id,
        dim=one.contract.dim,
        done=one.done,
        failed=_count(list(store.failed(one.id).values())),
        random_weights=one.contract.random_weights,
        weights=one.contract.weights,
        precision=one.contract.precision,
        licence=one.licence,
        citation=one.citation,
        overlap=one.overlap,
        size=_size(store.path, feature_node(one.id)),
    )


def _count(values: list[str]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}


def _size(root: Root, node: str) -> int:
    return sum(object_size(root, key) or 0 for key in files_below(root, node))
