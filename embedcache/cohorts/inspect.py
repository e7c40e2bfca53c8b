"""Look at cohorts before anything is computed: counts, and what would make results wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.cohort import NOT_GIVEN, Cohort
from embedcache.cohorts.inspection import (
    ClassCount,
    CohortInspection,
    Copies,
    Inspection,
    NearPair,
    Overlap,
    SplitLeak,
    TwoLabels,
)
from embedcache.cohorts.near_duplicates import SIDE, NearDuplicate, blank, near_duplicates
from embedcache.errors import CohortTwiceError, ImageUnreadableError
from embedcache.images.decode import Header, decode, header
from embedcache.images.source import Source
from embedcache.images.thumbnail import thumbnail
from embedcache.progress import Progress, Silent


def inspect(cohorts: Sequence[Cohort], progress: Progress | None = None) -> Inspection:
    """Read every image once and compare all with all.

    Args:
        cohorts: looked at one by one and against each other; their names differ.
        progress: who watches.

    Raises:
        CohortTwiceError: if two cohorts have one name.
    """
    for name, count in Counter(cohort.name for cohort in cohorts).items():
        if count > 1:
            raise CohortTwiceError(name)
    progress = progress or Silent()
    looks = _look_at_all(cohorts, progress)
    seen = [_Seen.of(cohort, part) for cohort, part in zip(cohorts, looks, strict=True)]
    picture = {digest: known for one in seen for digest, known in one.picture.items()}
    pairs = _compare(picture, progress)
    people = _people(seen)
    apart = [pair for pair in pairs if people[pair.first].isdisjoint(people[pair.second])]
    return Inspection(
        cohorts=tuple(_inspect_one(one, picture, apart) for one in seen),
        shared=tuple(_overlaps(seen)),
        near_pairs=_placed(apart, seen),
        near_within_patients=len(pairs) - len(apart),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Picture:
    """A readable image: what its header says, and its (32, 32) uint8 thumbnail."""

    header: Header
    thumbnail: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Look:
    """What a row's image gave: a reason if unreadable, a picture if first of its digest."""

    digest: str = ""
    reason: str = ""
    picture: _Picture | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Seen:
    """A cohort with what was seen of it: rows by digest (readable ones) and by reason."""

    cohort: Cohort
    rows: dict[str, list[int]]
    unreadable: dict[str, list[int]]
    picture: dict[str, _Picture]

    @classmethod
    def of(cls, cohort: Cohort, looks: Sequence[_Look]) -> _Seen:
        rows: dict[str, list[int]] = {}
        unreadable: dict[str, list[int]] = {}
        for row, look in enumerate(looks):
            place = unreadable if look.reason else rows
            place.setdefault(look.reason or look.digest, []).append(row)
        picture = {look.digest: look.picture for look in looks if look.picture is not None}
        return cls(cohort=cohort, rows=rows, unreadable=unreadable, picture=picture)

    def values(self, column: NDArray[np.str_], digest: str) -> set[str]:
        """Give the values that a column has on the rows of an image, empty cells apart."""
        return {str(column[row]) for row in self.rows[digest]} - {NOT_GIVEN}


def _look_at_all(cohorts: Sequence[Cohort], progress: Progress) -> list[list[_Look]]:
    """Read and decode in threads; an image is decoded once, however many rows list it."""
    sources = [source for cohort in cohorts for source in cohort.images]
    decoded_by: dict[str, int] = {}
    pool = ThreadPoolExecutor(thread_name_prefix="inspect")
    looks = []
    try:
        with progress.stage("reading", len(sources), "images") as stage:
            for look in pool.map(_look, sources, range(len(sources)), [decoded_by] * len(sources)):
                looks.append(look)
                stage.advance()
    finally:
        pool.shutdown(cancel_futures=True)
    # A row whose copy could not be decoded shares its reason.
    failed = {look.digest: look.reason for look in looks if look.digest and look.reason}
    looks = [
        _Look(digest=look.digest, reason=failed[look.digest]) if look.digest in failed else look
        for look in looks
    ]
    end = np.cumsum([len(cohort) for cohort in cohorts])
    return [looks[e - len(cohort) : e] for e, cohort in zip(end.tolist(), cohorts, strict=True)]


def _look(source: Source, number: int, decoded_by: dict[str, int]) -> _Look:
    digest = ""
    try:
        raw = source.read()
        digest = raw.digest.hex()
        if decoded_by.setdefault(digest, number) != number:
            return _Look(digest=digest)
        picture = _Picture(header=header(raw), thumbnail=thumbnail(decode(raw), SIDE))
    except ImageUnreadableError as error:
        return _Look(digest=digest, reason=error.reason)
    return _Look(digest=digest, picture=picture)


def _compare(picture: dict[str, _Picture], progress: Progress) -> tuple[NearDuplicate, ...]:
    digests = sorted(picture)
    if not digests:
        return ()
    return near_duplicates(digests, np.stack([picture[d].thumbnail for d in digests]), progress)


def _people(seen: Sequence[_Seen]) -> dict[str, set[tuple[str, str]]]:
    """Give the patients of each image; a name means the same patient within a namespace."""
    people: dict[str, set[tuple[str, str]]] = {}
    for one in seen:
        for digest in one.rows:
            patients = one.values(one.cohort.patient, digest)
            named = {(one.cohort.namespace, patient) for patient in patients}
            people.setdefault(digest, set()).update(named)
    return people


def _placed(pairs: Sequence[NearDuplicate], seen: Sequence[_Seen]) -> tuple[NearPair, ...]:
    """Say where the images of each pair lie: at their first occurrence."""
    home: dict[str, tuple[str, int, str]] = {}
    for one in reversed(seen):
        for digest, rows in one.rows.items():
            label = one.cohort.classes[one.cohort.label[rows[0]]]
            home[digest] = (one.cohort.name, rows[0], label)
    return tuple(_near_pair(pair, home[pair.first], home[pair.second]) for pair in pairs)


def _near_pair(
    pair: NearDuplicate, first: tuple[str, int, str], second: tuple[str, int, str]
) -> NearPair:
    (cohort, row, label), (other_cohort, other_row, other_label) = first, second
    return NearPair(
        pair=pair,
        cohorts=(cohort, other_cohort),
        rows=(row, other_row),
        labels=(label, other_label),
    )


def _overlaps(seen: Sequence[_Seen]) -> Iterator[Overlap]:
    for one, other in combinations(seen, 2):
        images = len(one.rows.keys() & other.rows.keys())
        same = one.cohort.namespace == other.cohort.namespace
        patients = len(np.intersect1d(one.cohort.patient, other.cohort.patient)) if same else 0
        if images or patients:
            names = (one.cohort.name, other.cohort.name)
            yield Overlap(cohorts=names, images=images, patients=patients)


def _inspect_one(
    seen: _Seen, picture: dict[str, _Picture], apart: Sequence[NearDuplicate]
) -> CohortInspection:
    cohort = seen.cohort
    headers = [picture[digest].header for digest in seen.rows]
    _, per_patient = np.unique(cohort.patient, return_counts=True)
    copied = [digest for digest, rows in seen.rows.items() if len(rows) > 1]
    alone = [digest for digest in copied if len(seen.values(cohort.patient, digest)) == 1]
    across = [digest for digest in copied if digest not in set(alone)]
    return CohortInspection(
        name=cohort.name,
        reader=cohort.reader,
        synthetic=cohort.synthetic,
        rows=len(cohort),
        images=len(seen.rows),
        patients=len(per_patient),
        rows_per_patient_median=float(np.median(per_patient)),
        rows_per_patient_max=int(per_patient.max()),
        classes=_class_counts(seen),
        strata={name: _counted(column.tolist()) for name, column in cohort.strata.items()},
        several_values={
            name: _patients_on_several(cohort.patient, column)
            for name, column in cohort.strata.items()
            if name != "split"
        },
        sizes=_counted([f"{one.width} x {one.height}" for one in headers]),
        modes=_counted([one.mode for one in headers]),
        formats=_counted([one.format for one in headers]),
        within_patients=_copies(seen, alone),
        across_patients=_copies(seen, across),
        two_labels=_two_labels(seen, copied),
        blank=_blanks(seen, picture),
        unreadable={reason: tuple(rows) for reason, rows in sorted(seen.unreadable.items())},
        split=_split_leak(seen, copied, apart),
    )


def _counted(values: Sequence[str]) -> dict[str, int]:
    """Count values, the most frequent first, ties by name."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _class_counts(seen: _Seen) -> tuple[ClassCount, ...]:
    cohort = seen.cohort
    images: Counter[int] = Counter()
    for rows in seen.rows.values():
        images.update(set(cohort.label[rows].tolist()))
    return tuple(
        ClassCount(
            name=name,
            rows=int(np.sum(cohort.label == code)),
            images=images[code],
            patients=len(np.unique(cohort.patient[cohort.label == code])),
        )
        for code, name in enumerate(cohort.classes)
    )


def _patients_on_several(patient: NDArray[np.str_], column: NDArray[np.str_]) -> int:
    pairs = set(zip(patient.tolist(), column.tolist(), strict=True))
    values = Counter(name for name, value in pairs if value != NOT_GIVEN)
    return sum(count > 1 for count in values.values())


def _copies(seen: _Seen, digests: Sequence[str]) -> Copies:
    return Copies(groups=len(digests), rows=sum(len(seen.rows[digest]) for digest in digests))


def _two_labels(seen: _Seen, copied: Sequence[str]) -> tuple[TwoLabels, ...]:
    found = []
    for digest in sorted(copied):
        rows = seen.rows[digest]
        codes = np.unique(seen.cohort.label[rows]).tolist()
        if len(codes) > 1:
            labels = tuple(seen.cohort.classes[code] for code in codes)
            found.append(TwoLabels(digest=digest, labels=labels, rows=tuple(rows)))
    return tuple(found)


def _blanks(seen: _Seen, picture: dict[str, _Picture]) -> int:
    if not seen.rows:
        return 0
    return int(blank(np.stack([picture[digest].thumbnail for digest in seen.rows])).sum())


def _split_leak(
    seen: _Seen, copied: Sequence[str], apart: Sequence[NearDuplicate]
) -> SplitLeak | None:
    column = seen.cohort.strata.get("split")
    if column is None:
        return None
    near = [pair for pair in apart if pair.first in seen.rows and pair.second in seen.rows]
    sides = [seen.values(column, pair.first) | seen.values(column, pair.second) for pair in near]
    return SplitLeak(
        patients=_patients_on_several(seen.cohort.patient, column),
        images=sum(len(seen.values(column, digest)) > 1 for digest in copied),
        near_duplicates=sum(len(found) > 1 for found in sides),
    )
