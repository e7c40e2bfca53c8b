"""What `inspect` finds: counts and what is wrong, free of patient and file names.

Images are named by digest, rows by their number in the cohort, so an inspection may be shared;
whoever holds the cohort finds the file behind a row.
"""

from __future__ import annotations

from dataclasses import dataclass

from embedcache.cohorts.near_duplicates import NearDuplicate


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassCount:
    """How often a class occurs.

    Attributes:
        name: of the class.
        rows: of the cohort with this label, unreadable ones too.
        images: distinct readable images with this label.
        patients: with at least one row of this label.
    """

    name: str
    rows: int
    images: int
    patients: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Copies:
    """Byte-identical images: one digest on several rows.

    Attributes:
        groups: digests that occur more than once.
        rows: on which they lie.
    """

    groups: int
    rows: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TwoLabels:
    """One image under two labels: it is left out of training and testing.

    Attributes:
        digest: of the image, 64 hex digits.
        labels: the classes it is listed under.
        rows: where, numbers of rows in the cohort.
    """

    digest: str
    labels: tuple[str, ...]
    rows: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitLeak:
    """What lies on more than one side of the publisher's split.

    Attributes:
        patients: with rows on more than one side.
        images: byte-identical images on more than one side.
        near_duplicates: pairs whose images lie on different sides, of two patients.
    """

    patients: int
    images: int
    near_duplicates: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortInspection:
    """One cohort.

    Attributes:
        name: of the cohort.
        reader: kind of its reader.
        synthetic: whether the pictures were drawn and not taken.
        rows: of the publisher's table.
        images: distinct readable images.
        patients: as the cohort names them, before identical images join any.
        rows_per_patient_median: over patients.
        rows_per_patient_max: over patients.
        classes: counts of each class, in the order of the class list.
        strata: rows of each value, by stratum.
        several_values: patients with more than one value of a stratum (two machines, two sites),
            by stratum; not of `split`.
        sizes: distinct images by `width x height` as stored in the file, the most frequent first.
        modes: distinct images by pixel mode as stored in the file.
        formats: distinct images by file format.
        within_patients: identical images under one patient only.
        across_patients: identical images under several patients.
        two_labels: identical images under several labels.
        blank: distinct images that show nothing, so that they have no near-duplicates.
        unreadable: rows whose image cannot be used, by reason.
        split: what leaks across the publisher's split; None if the cohort has none.
    """

    name: str
    reader: str
    synthetic: bool
    rows: int
    images: int
    patients: int
    rows_per_patient_median: float
    rows_per_patient_max: int
    classes: tuple[ClassCount, ...]
    strata: dict[str, dict[str, int]]
    several_values: dict[str, int]
    sizes: dict[str, int]
    modes: dict[str, int]
    formats: dict[str, int]
    within_patients: Copies
    across_patients: Copies
    two_labels: tuple[TwoLabels, ...]
    blank: int
    unreadable: dict[str, tuple[int, ...]]
    split: SplitLeak | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """What two cohorts share.

    Attributes:
        cohorts: their names.
        images: distinct byte-identical images that both hold.
        patients: that both name, if their patients share a namespace; else 0.
    """

    cohorts: tuple[str, str]
    images: int
    patients: int


@dataclass(frozen=True, kw_only=True, slots=True)
class NearPair:
    """A near-duplicate between two patients or two cohorts.

    Attributes:
        pair: the two digests and how alike they are.
        cohorts: where `pair.first` and `pair.second` lie (first occurrence).
        rows: their rows there.
        labels: their classes there.
    """

    pair: NearDuplicate
    cohorts: tuple[str, str]
    rows: tuple[int, int]
    labels: tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspection:
    """All that was looked at together.

    Attributes:
        cohorts: one by one, as given.
        shared: what cohorts have in common; two that share nothing are left out.
        near_pairs: near-duplicates between patients or cohorts: links for the protocol.
        near_within_patients: pairs of near-duplicates under one patient, who is one cluster anyway.
    """

    cohorts: tuple[CohortInspection, ...]
    shared: tuple[Overlap, ...]
    near_pairs: tuple[NearPair, ...]
    near_within_patients: int
