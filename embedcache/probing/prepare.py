"""From a store and a protocol to what every probe reads: judged images, folds, encoders.

All encoders are judged on the same images, so what one of them failed on is left out for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedcache.contract import shortest_references
from embedcache.errors import IncompleteFeaturesError, NoFeaturesError
from embedcache.probing.near_duplicates import (
    NearDuplicate,
    find_near_duplicates,
    near_duplicate_note,
)
from embedcache.probing.stored_rows import readable_rows
from embedcache.protocol.classes import check_merges
from embedcache.protocol.folds import Folds
from embedcache.protocol.judged import Judged, Rows
from embedcache.protocol.judging import judge_cohorts
from embedcache.protocol.protocol import Protocol
from embedcache.results.record import Record, record_of
from embedcache.store.feature_set import FeatureSet
from embedcache.store.reader import FeatureStore


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prepared:
    """What every unit of one probing reads.

    Attributes:
        record: the content of protocol.json.
        folds: of the training cohort, in the order of its images.
        train: the training cohort's judged images.
        external: each external cohort's, in the protocol's order.
        encoders: feature sets by the encoder's reference, `NAME`, or `NAME#ID` where the store
            has several of that name.
        near_duplicates: pairs of images under different patients that look alike.
        notes: what a person should know, one sentence each.
    """

    record: Record
    folds: Folds
    train: Judged
    external: tuple[Judged, ...]
    encoders: dict[str, FeatureSet]
    near_duplicates: tuple[NearDuplicate, ...]
    notes: tuple[str, ...]


def prepare(
    store: FeatureStore, protocol: Protocol, encoders: Sequence[str], earlier: Sequence[str] = ()
) -> Prepared:
    """Settle images, classes, folds and encoders.

    Args:
        store: with features of all cohorts named.
        protocol: how models are judged.
        encoders: references; none: every encoder that has seen all images.
        earlier: references whose failures count too, because their predictions are to stand
            beside the new ones.

    Raises:
        UnknownNameError: if the store lacks a cohort or an encoder.
        AmbiguousNameError: if a reference fits several feature sets.
        NoFeaturesError: if the store has no features at all.
        IncompleteFeaturesError: if an encoder asked for, or every encoder, lacks images.
        MergeUnknownError: as `check_merges`.
        BadInputError: as `judge_cohorts`.
    """
    names = (protocol.train, *protocol.external)
    digest = store.images.digest
    stored = [store.cohort(name) for name in names]
    check_merges(protocol.merges, {cohort.name: cohort.classes for cohort in stored})
    cohorts = [readable_rows(cohort, digest, protocol.merges) for cohort in stored]
    chosen, notes = _choose_encoders(store, cohorts, encoders)
    counted = {**chosen, **{name: store.select(name) for name in earlier}}
    failed = {name: store.failed(features.id) for name, features in counted.items()}
    judging = judge_cohorts(protocol, cohorts, failed)
    alike = find_near_duplicates(store, (judging.train, *judging.external))
    notes += judging.notes
    if alike:
        notes.append(near_duplicate_note(alike))
    return Prepared(
        record=record_of(protocol, judging),
        folds=judging.folds,
        train=judging.train,
        external=judging.external,
        encoders=chosen,
        near_duplicates=alike,
        notes=tuple(notes),
    )


def references(store: FeatureStore) -> dict[str, FeatureSet]:
    """Name every feature set: `NAME`, or `NAME#ID` where several share the name."""
    sets = store.feature_sets()
    return dict(zip(shortest_references([(one.name, one.id) for one in sets]), sets, strict=True))


def _choose_encoders(
    store: FeatureStore, cohorts: Sequence[Rows], asked: Sequence[str]
) -> tuple[dict[str, FeatureSet], list[str]]:
    named = references(store)
    if not named:
        raise NoFeaturesError(str(store.path))
    by_id = {features.id: name for name, features in named.items()}
    wanted = [by_id[store.select(reference).id] for reference in asked] or list(named)
    missing = {name: _missing(store, named[name], cohorts) for name in wanted}
    complete = {name: named[name] for name in wanted if not missing[name]}
    first = next((name for name in wanted if missing[name]), None)
    if first is not None and (asked or not complete):
        cohort_names = tuple(rows.about.name for rows in cohorts)
        raise IncompleteFeaturesError(first, missing[first], cohort_names)
    notes = [
        f"{name} is left out: it has no features yet of {count:,} images (extract finishes it)"
        for name, count in missing.items()
        if count
    ]
    return complete, notes


def _missing(store: FeatureStore, features: FeatureSet, cohorts: Sequence[Rows]) -> int:
    """Count the images that an encoder has neither done nor failed on."""
    needed = np.unique(np.concatenate([rows.row for rows in cohorts]))
    settled = store.done(features.id).copy()
    settled[list(store.failed(features.id))] = True
    return int((~settled[needed]).sum())
