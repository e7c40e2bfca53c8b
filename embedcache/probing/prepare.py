"""From a store and a protocol to what every probe reads: judged images, folds, encoders.

All encoders are judged on the same images, so what one of them failed on is left out for all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from embedcache.errors import IncompleteFeaturesError, NoFeaturesError
from embedcache.probing.judged import (
    CLASS_NOT_JUDGED,
    Judged,
    Rows,
    check_any_left,
    judge,
    leave_out_failed,
    leave_out_repeats,
    readable_rows,
)
from embedcache.probing.near_duplicates import (
    NearDuplicate,
    find_near_duplicates,
    near_duplicate_note,
)
from embedcache.protocol.audit import LEAKS, external_leaks
from embedcache.protocol.classes import check_merges, class_list, label_map, present_classes
from embedcache.protocol.clusters import Links
from embedcache.protocol.folds import Folds, check_inner_folds, draw_folds
from embedcache.protocol.protocol import Protocol
from embedcache.provenance import provenance
from embedcache.results.record import Record
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
        TooFewClassesError, ClassUnknownError: as `class_list`.
        MergeUnknownError: as `check_merges`.
        FoldRuleError, LeakError, TooFewToTrainError: as `draw_folds`.
        TooFewPatientsError: as `draw_folds` and `check_inner_folds`.
        NothingToJudgeError: if a cohort has no image left.
    """
    names = (protocol.train, *protocol.external)
    digest = store.images.digest
    stored = [store.cohort(name) for name in names]
    check_merges(protocol.merges, {cohort.name: cohort.classes for cohort in stored})
    cohorts = [readable_rows(cohort, digest, protocol.merges) for cohort in stored]
    chosen, notes = _choose_encoders(store, cohorts, encoders)
    counted = {**chosen, **{name: store.select(name) for name in earlier}}
    failed = {name: store.failed(features.id) for name, features in counted.items()}
    for rows in cohorts:
        leave_out_failed(rows, failed)
        notes += _two_label_note(rows, leave_out_repeats(rows))
        check_any_left(rows)
    classes = _choose_classes(protocol, cohorts)
    notes += _class_notes(protocol, cohorts)
    notes += _drop_leaks(cohorts, protocol.links)
    maps = [label_map(classes, rows.classes) for rows in cohorts]
    train, *external = (
        judge(rows, label_of, protocol.links) for rows, label_of in zip(cohorts, maps, strict=True)
    )
    folds = _draw(train, classes, protocol)
    alike = find_near_duplicates(store, (train, *external))
    if alike:
        notes.append(near_duplicate_note(alike))
    record = Record(
        protocol=protocol,
        classes=classes,
        folds_sha256=folds.sha256,
        cohorts=tuple(judged.record for judged in (train, *external)),
        provenance=provenance(),
    )
    return Prepared(
        record=record,
        folds=folds,
        train=train,
        external=tuple(external),
        encoders=chosen,
        near_duplicates=alike,
        notes=tuple(notes),
    )


def references(store: FeatureStore) -> dict[str, FeatureSet]:
    """Name every feature set: `NAME`, or `NAME#ID` where several share the name."""
    sets = store.feature_sets()
    shared = Counter(features.name for features in sets)
    return {
        features.name if shared[features.name] == 1 else f"{features.name}#{features.id}": features
        for features in sets
    }


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
        cohort_names = tuple(rows.cohort.name for rows in cohorts)
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


def _choose_classes(protocol: Protocol, cohorts: Sequence[Rows]) -> tuple[str, ...]:
    present = {
        rows.cohort.name: present_classes(rows.classes, rows.label[rows.judged]) for rows in cohorts
    }
    external = {name: present[name] for name in protocol.external}
    classes = class_list(protocol.classes, present[protocol.train], external)
    for rows in cohorts:
        judged = label_map(classes, rows.classes)
        rows.leave_out(judged[rows.label] < 0, CLASS_NOT_JUDGED)
    return classes


def _class_notes(protocol: Protocol, cohorts: Sequence[Rows]) -> list[str]:
    """Name the classes that are not judged though a cohort lists or has them."""
    train = cohorts[0]
    notes = []
    absent = [name for k, name in enumerate(train.classes) if not (train.label == k).any()]
    if absent and protocol.classes == "all":
        notes.append(
            f"{train.cohort.name}: no image is labelled {', '.join(absent)}, so {_such(absent)} "
            f"left out of the classes"
        )
    for rows in cohorts:
        left_out = rows.label[rows.reason == CLASS_NOT_JUDGED]
        counts = [
            f"{name} ({int((left_out == k).sum()):,} rows)"
            for k, name in enumerate(rows.classes)
            if (left_out == k).any()
        ]
        if counts:
            notes.append(f"{rows.cohort.name}: classes not judged: {', '.join(counts)}")
    return notes


def _such(names: Sequence[str]) -> str:
    return "it is" if len(names) == 1 else "they are"


def _drop_leaks(cohorts: Sequence[Rows], links: Links) -> list[str]:
    """Leave out external images that models of the training cohort have seen."""
    train, *others = cohorts
    notes = []
    for rows in others:
        leak = external_leaks(
            train.image, train.patient, train.judged, rows.image, rows.patient, links
        )
        for code, reason in enumerate(LEAKS[1:], start=1):
            rows.leave_out(leak == code, reason)
        if rows.cohort.key_id != train.cohort.key_id:
            notes.append(
                f"the patients of {train.cohort.name} and {rows.cohort.name} carry pseudonyms of "
                f"different keys: a patient in both would go unnoticed, a file in both would not"
            )
    return notes


def _draw(train: Judged, classes: tuple[str, ...], protocol: Protocol) -> Folds:
    folds = draw_folds(
        train.image,
        train.label,
        train.cluster,
        train.strata,
        classes=classes,
        folds=protocol.folds,
        seed=protocol.seed,
    )
    inner = protocol.tuning.inner_folds
    check_inner_folds(folds, classes=classes, inner=inner, seed=protocol.seed)
    return folds


def _two_label_note(rows: Rows, digests: tuple[str, ...]) -> list[str]:
    if not digests:
        return []
    shown = ", ".join(digests[:10])
    more = f" and {len(digests) - 10} more" if len(digests) > 10 else ""
    return [f"{rows.cohort.name}: {len(digests)} images with two labels left out: {shown}{more}"]
