"""What whoever receives a store could learn from it: counted, and measured where it can be.

Pseudonyms hide a name, not a person. Vectors of one patient resemble each other, so that who holds
an image of somebody may find that person's others: published work re-identified 26 to 46 % of
patients from foundation-model features (npj Digital Medicine 2025, doi 10.1038/s41746-025-01801-0).
Here it is measured how often an image's nearest neighbour in its cohort is of the same patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.progress import Progress, Silent, Stage
from embedcache.store.copying import blocks
from embedcache.store.feature_set import FeatureSet
from embedcache.store.reader import FeatureStore
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.subset import KEYED

#: Images whose neighbours are looked for, drawn where there are more: a share of 2,000 is known to
#: 2.2 % at worst (two standard errors of a binomial).
MOST_ASKED = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Rows and patients of one class, or of one value of a stratum."""

    rows: int
    patients: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortExposure:
    """What one cohort says.

    Attributes:
        name: of the cohort.
        images: distinct images.
        patients: distinct pseudonyms; how many rows each has is plain to see.
        key_id: of the key behind them: cohorts of one key show which patients they share.
        classes: by name.
        strata: by stratum and value.
        smallest_group: fewest patients in a class, or in a value of a stratum.
        keyed_digests: whether digests are keyed; plain ones confirm to anyone who has an image
            that it is in the store.
    """

    name: str
    images: int
    patients: int
    key_id: str
    classes: dict[str, Group]
    strata: dict[str, dict[str, Group]]
    smallest_group: int
    keyed_digests: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Reidentification:
    """How often vectors lead from an image to another one of its patient.

    Attributes:
        encoder: reference of the feature set.
        cohort: within which neighbours are looked for.
        images: that have a vector and one patient, who has another such image.
        asked: of these, drawn if there are more than `MOST_ASKED`.
        same_patient: share of them whose nearest neighbour (cosine) is of their patient; None:
            nobody has two images.
        by_chance: the share that a neighbour drawn at random would give; None likewise.
    """

    encoder: str
    cohort: str
    images: int
    asked: int
    same_patient: float | None
    by_chance: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """What a store tells a recipient.

    Attributes:
        cohorts: by name.
        shared_patients: cohorts of one key that have pseudonyms in common, and how many.
        reidentification: by encoder and cohort.
    """

    cohorts: tuple[CohortExposure, ...]
    shared_patients: tuple[tuple[str, str, int], ...]
    reidentification: tuple[Reidentification, ...]


def exposure(store: FeatureStore, *, seed: int = 0, progress: Progress | None = None) -> Exposure:
    """Say and measure what a store tells.

    Args:
        store: any store.
        seed: draws the images asked for where there are many.
        progress: what reports the work.

    Raises:
        UnfinishedCohortError, DamagedStoreError, DamagedRowsError: if it cannot be read.
    """
    cohorts = [store.cohort(name) for name in store.cohorts()]
    pairs = [(one, cohort) for one in store.feature_sets() for cohort in cohorts]
    with (progress or Silent()).stage("nearest neighbours", len(pairs), "cohorts") as stage:
        measured = tuple(_measured(store, one, cohort, seed, stage) for one, cohort in pairs)
    return Exposure(
        cohorts=tuple(_exposed(cohort) for cohort in cohorts),
        shared_patients=tuple(_shared(cohorts)),
        reidentification=measured,
    )


def _exposed(cohort: StoredCohort) -> CohortExposure:
    patient = _codes(cohort)
    named = {name: cohort.label == code for code, name in enumerate(cohort.classes)}
    classes = {name: _group(patient, rows) for name, rows in named.items()}
    strata = {
        stratum: {str(one): _group(patient, value == one) for one in np.unique(value)}
        for stratum, value in sorted(cohort.strata.items())
    }
    groups = [*classes.values(), *(one for values in strata.values() for one in values.values())]
    return CohortExposure(
        name=cohort.name,
        images=len(np.unique(cohort.row[cohort.row >= 0])),
        patients=len(np.unique(patient)),
        key_id=cohort.key_id,
        classes=classes,
        strata=strata,
        smallest_group=min((one.patients for one in groups if one.patients), default=0),
        keyed_digests=cohort.reader.endswith(KEYED),
    )


def _group(patient: NDArray[np.int64], rows: NDArray[np.bool_]) -> Group:
    return Group(rows=int(rows.sum()), patients=len(np.unique(patient[rows])))


def _codes(cohort: StoredCohort) -> NDArray[np.int64]:
    """Number of each row's patient, (m,) int64."""
    _, code = np.unique(cohort.patient, axis=0, return_inverse=True)
    return code.reshape(-1).astype(np.int64)


def _shared(cohorts: list[StoredCohort]) -> Iterator[tuple[str, str, int]]:
    for index, one in enumerate(cohorts):
        for other in cohorts[index + 1 :]:
            mine, theirs = ({bytes(p) for p in cohort.patient} for cohort in (one, other))
            if one.key_id == other.key_id and mine & theirs:
                yield one.name, other.name, len(mine & theirs)


def _measured(
    store: FeatureStore, one: FeatureSet, cohort: StoredCohort, seed: int, stage: Stage
) -> Reidentification:
    row, patient = _images_of_one_patient(cohort)
    there = store.done(one.id)[row]
    row, patient = row[there], patient[there]
    count = np.bincount(patient)[patient] if len(patient) else patient
    several = np.flatnonzero(count > 1)
    asked = several
    if len(several) > MOST_ASKED:
        asked = np.random.default_rng(seed).choice(several, MOST_ASKED, replace=False)
    same = chance = None
    if len(asked):
        nearest = _nearest(store, one, row, asked)
        same = float((patient[nearest] == patient[asked]).mean())
        chance = float(((count[asked] - 1) / (len(row) - 1)).mean())
    stage.advance()
    return Reidentification(
        encoder=store.reference(one.id),
        cohort=cohort.name,
        images=len(several),
        asked=len(asked),
        same_patient=same,
        by_chance=chance,
    )


def _images_of_one_patient(
    cohort: StoredCohort,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of readable images, ascending, and the patient of each; of two patients: left out."""
    patient = _codes(cohort)
    readable = cohort.row >= 0
    pairs = np.unique(np.stack([cohort.row[readable], patient[readable]], axis=1), axis=0)
    row, first, times = np.unique(pairs[:, 0], return_index=True, return_counts=True)
    return row[times == 1], pairs[first[times == 1], 1]


def _nearest(
    store: FeatureStore, one: FeatureSet, row: NDArray[np.int64], asked: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Index into `row` of each asked image's nearest neighbour by cosine, (k,) int64."""
    question = _unit(store.features(one.id, row[asked]))
    best = np.full(len(asked), -np.inf, np.float32)
    nearest = np.zeros(len(asked), np.int64)
    for index in blocks(np.arange(len(row), dtype=np.int64), one.contract.dim + len(asked)):
        likeness = question @ _unit(store.features(one.id, row[index])).T
        likeness[asked[:, None] == index] = -np.inf  # not its own neighbour
        place = likeness.argmax(axis=1)
        found = likeness[np.arange(len(asked)), place]
        better = found > best
        best[better], nearest[better] = found[better], index[place[better]]
    return nearest


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    length: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    length[length == 0] = 1
    return vectors / length
