"""From the readable rows of all cohorts to what every arm is judged on: classes, images, folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedcache.protocol.audit import LEAKS, external_leaks
from embedcache.protocol.classes import class_list, label_map, present_classes
from embedcache.protocol.clusters import Links
from embedcache.protocol.folds import Folds, check_inner_folds, draw_folds
from embedcache.protocol.judged import (
    CLASS_NOT_JUDGED,
    Judged,
    Rows,
    check_any_left,
    judge,
    leave_out_failed,
    leave_out_repeats,
)
from embedcache.protocol.protocol import Protocol


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judging:
    """What every arm of a protocol is judged on.

    Attributes:
        classes: what every prediction indexes.
        folds: of the training cohort, in the order of its images.
        train: the training cohort's judged images.
        external: each external cohort's, in the protocol's order.
        notes: what a person should know, one sentence each.
    """

    classes: tuple[str, ...]
    folds: Folds
    train: Judged
    external: tuple[Judged, ...]
    notes: tuple[str, ...]


def judge_cohorts(
    protocol: Protocol, cohorts: Sequence[Rows], failed: Mapping[str, Mapping[int, str]]
) -> Judging:
    """Settle classes, images and folds; leaves rows out of `cohorts` on the way.

    Args:
        protocol: how models are judged.
        cohorts: the training cohort's rows, then those of each external one.
        failed: reason by `Rows.row` of what an encoder failed on, by encoder.

    Raises:
        TooFewClassesError, ClassUnknownError: as `class_list`.
        FoldRuleError, LeakError, TooFewToTrainError: as `draw_folds`.
        TooFewPatientsError: as `draw_folds` and `check_inner_folds`.
        NothingToJudgeError: if a cohort has no image left.
    """
    notes = []
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
    return Judging(
        classes=classes,
        folds=_draw(train, classes, protocol),
        train=train,
        external=tuple(external),
        notes=tuple(notes),
    )


def _choose_classes(protocol: Protocol, cohorts: Sequence[Rows]) -> tuple[str, ...]:
    present = {
        rows.about.name: present_classes(rows.classes, rows.label[rows.judged]) for rows in cohorts
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
            f"{train.about.name}: no image is labelled {', '.join(absent)}, so {_such(absent)} "
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
            notes.append(f"{rows.about.name}: classes not judged: {', '.join(counts)}")
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
        if rows.about.key_id != train.about.key_id:
            notes.append(
                f"the patients of {train.about.name} and {rows.about.name} carry pseudonyms of "
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
    return [f"{rows.about.name}: {len(digests)} images with two labels left out: {shown}{more}"]
