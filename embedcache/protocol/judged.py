"""Which rows of a cohort are judged, and why the others are not: the same for every arm.

Probes read cohorts from a store, fine-tuning reads them from their files; both bring them here as
`Rows`, so that an image, a class or a patient is in both arms or in none.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import NothingToJudgeError
from embedcache.protocol.classes import merge_classes
from embedcache.protocol.clusters import Links, cluster_images, digest_keys, number_clusters

TWO_LABELS = "two labels"
LISTED_TWICE = "listed twice"
NO_LABEL = "no label"
CLASS_NOT_JUDGED = "class not judged"


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """What a cohort is, beside its images.

    Attributes:
        name: of the cohort.
        reader: kind of its reader.
        citation: how to cite it.
        licence: its licence.
        synthetic: whether its pictures were drawn.
        rows: of its own table, unreadable ones included.
        key_id: whose pseudonyms its patients carry.
        unreadable: rows that have no image, by reason.
    """

    name: str
    reader: str
    citation: str
    licence: str
    synthetic: bool
    rows: int
    key_id: str
    unreadable: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The readable rows of a cohort, and which of them are judged so far.

    Attributes:
        about: whose.
        classes: its class list after the protocol's merges.
        row: where each image is kept, a row of the store's image table for one, (m,) int64.
        image: their digests, (m, 32) uint8.
        label: index into `classes`, (m,) int16.
        patient: equal only for one person, in other cohorts too, (m,) str.
        strata: text value by name, (m,) str.
        reason: why a row is not judged, empty where it is, (m,) object.
    """

    about: About
    classes: tuple[str, ...]
    row: NDArray[np.int64]
    image: NDArray[np.uint8]
    label: NDArray[np.int16]
    patient: NDArray[np.str_]
    strata: dict[str, NDArray[np.str_]]
    reason: NDArray[Any]

    @property
    def judged(self) -> NDArray[np.bool_]:
        """Which rows are judged so far, (m,) bool."""
        return np.asarray(self.reason == "", np.bool_)

    def leave_out(self, which: NDArray[np.bool_], reason: str) -> None:
        """Judge some rows no longer; the first reason given to a row stays."""
        self.reason[which & self.judged] = reason


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Judged:
    """The judged images of a cohort, in order of their digests.

    Attributes:
        about: the cohort.
        row: where each image is kept, (n,) int64.
        image: distinct digests, ascending, (n, 32) uint8.
        label: index into the protocol's class list, (n,) int16.
        cluster: patient cluster within the cohort, numbered by smallest digest, (n,) int64.
        strata: text value by name, (n,) str.
        patients: distinct patients of these images.
        left_out: rows not judged, by reason.
    """

    about: About
    row: NDArray[np.int64]
    image: NDArray[np.uint8]
    label: NDArray[np.int16]
    cluster: NDArray[np.int64]
    strata: dict[str, NDArray[np.str_]]
    patients: int
    left_out: dict[str, int]

    @property
    def name(self) -> str:
        """Name of the cohort."""
        return self.about.name

    @property
    def sha256(self) -> str:
        """Of the images' digests, labels and clusters, 64 hex digits."""
        return _sha256([self.image, self.label, self.cluster])


def listed(
    about: About,
    classes: Sequence[str],
    merges: Mapping[str, Sequence[str]],
    *,
    row: NDArray[np.int64],
    image: NDArray[np.uint8],
    label: NDArray[np.int16],
    patient: Sequence[str],
    strata: Mapping[str, NDArray[np.str_]],
) -> Rows:
    """Bring the readable rows of a cohort, all of them judged so far; arguments as in `Rows`.

    Args:
        about: the cohort.
        classes: its own class list.
        merges: old classes by new one.
        row: where each image is kept, (m,) int64.
        image: digests, (m, 32) uint8.
        label: index into `classes`, -1 where there is none, (m,) int16.
        patient: equal only for one person, m of them.
        strata: text value by name, (m,) str.
    """
    merged, place = merge_classes(tuple(classes), merges)
    return Rows(
        about=about,
        classes=merged,
        row=row,
        image=image,
        label=_merged(label, place),
        patient=np.array(patient, np.str_),
        strata=dict(strata),
        reason=np.full(len(row), "", dtype=object),
    )


def _merged(label: NDArray[np.int16], place: NDArray[np.int16]) -> NDArray[np.int16]:
    """Labels after merging; unlabelled rows stay so."""
    return np.where(label < 0, label, place[label]).astype(np.int16)


def leave_out_failed(rows: Rows, failed: Mapping[str, Mapping[int, str]]) -> None:
    """Leave out what any encoder failed on, for all encoders: pairs need the same images.

    Args:
        rows: of one cohort.
        failed: reason by row of the image table, by encoder.
    """
    for place, row in enumerate(rows.row.tolist()):
        reasons = [reason_of[row] for reason_of in failed.values() if row in reason_of]
        if reasons and rows.reason[place] == "":
            # Without the encoder's name: the count is the same whoever is judged beside it.
            rows.reason[place] = f"failed: {min(reasons)}"


def leave_out_repeats(rows: Rows) -> tuple[str, ...]:
    """Count an image listed twice once, and one with two labels not at all.

    Which of several rows stays depends on its strata, never on the order of rows.

    Returns:
        Digests (first 12 hex digits) of the images with two labels.
    """
    rows.leave_out(rows.label < 0, NO_LABEL)
    keys, image = np.unique(digest_keys(rows.image), return_inverse=True)
    lowest, highest = np.full(len(keys), 2**15 - 1), np.full(len(keys), -1)
    labelled = rows.label >= 0
    np.minimum.at(lowest, image[labelled], rows.label[labelled])
    np.maximum.at(highest, image[labelled], rows.label[labelled])
    rows.leave_out((highest > lowest)[image], TWO_LABELS)
    kept = np.flatnonzero(rows.judged)
    strata = [rows.strata[name][kept] for name in sorted(rows.strata)]
    order = kept[np.lexsort([*strata, image[kept]])]
    repeat = np.zeros(len(image), np.bool_)
    repeat[order[1:]] = image[order[1:]] == image[order[:-1]]
    rows.leave_out(repeat, LISTED_TWICE)
    return tuple(sorted({d.tobytes().hex()[:12] for d in rows.image[rows.reason == TWO_LABELS]}))


def judge(rows: Rows, label_of: NDArray[np.int16], links: Links) -> Judged:
    """Settle which images of a cohort are judged.

    Args:
        rows: with everything left out that is to be.
        label_of: the protocol's class by the cohort's, -1: not judged, (c,) int16.
        links: pairs of hex digests.

    Raises:
        NothingToJudgeError: if no image is left.
    """
    check_any_left(rows)
    # Patients are joined through all readable rows, judged or not: people do not change.
    cluster = cluster_images(rows.image, rows.patient, links)
    order = np.argsort(digest_keys(rows.image), kind="stable")
    order = order[rows.judged[order]]
    image = rows.image[order]
    return Judged(
        about=rows.about,
        row=rows.row[order],
        image=image,
        label=label_of[rows.label[order]],
        cluster=number_clusters(image, cluster[order]),
        strata={name: values[order] for name, values in rows.strata.items()},
        patients=len(np.unique(rows.patient[order])),
        left_out=left_out_of(rows),
    )


def check_any_left(rows: Rows) -> None:
    """Make sure that a cohort has images to judge.

    Raises:
        NothingToJudgeError: if not; it says what became of them.
    """
    if not rows.judged.any():
        raise NothingToJudgeError(cohort=rows.about.name, left_out=left_out_of(rows))


def left_out_of(rows: Rows) -> dict[str, int]:
    """Count the rows of a cohort that are not judged, by reason, unreadable ones included."""
    count = Counter(str(reason) for reason in rows.reason[~rows.judged])
    for reason, number in rows.about.unreadable.items():
        count[f"unreadable: {reason}"] += number
    return dict(sorted(count.items()))


def _sha256(columns: Sequence[NDArray[Any]]) -> str:
    total = hashlib.sha256(b"embedcache judged images 1")
    for column in columns:
        total.update(np.ascontiguousarray(column, column.dtype.newbyteorder("<")).tobytes())
    return total.hexdigest()
