"""What an exchange format offers; found by entry point (`embedcache.exchange`), ours as well.

A format carries one feature set at a time, with all that a store knows of its images: so that it
can be read back to the bit, and so that whoever reads it elsewhere has labels beside vectors.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import ExchangeUnusableError, SchemaError
from embedcache.schema import canonical_json, from_json, shown
from embedcache.store.copying import MEMORY
from embedcache.store.feature_set import FeatureAttributes, Run
from embedcache.store.image_table import ImageTable
from embedcache.store.layout import MOST_BATCH, MOST_DIM, MOST_VALUE, check_name
from embedcache.store.pseudonyms import OwnerKey
from embedcache.store.stored_cohort import CohortAttributes, StoredCohort

#: What our own formats say of themselves in their description.
FORMAT, VERSION = "embedcache-exchange", 1
#: The description's mend: there is one way to make such a file.
MEND = "take it from a copy, or export it again: embedcache store export"


class Rows(typing.Protocol):
    """Vectors, (k, dim), whether in memory or on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(k, dim)."""

    def __getitem__(self, part: slice) -> NDArray[Any]:
        """Rows of the stored dtype."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FeatureTable:
    """One feature set with its images and cohorts.

    Attributes:
        about: what it says of itself.
        runs: that made it; failures by index into `images`.
        images: n images; the k that have a vector first, in the order of `vectors`.
        vectors: (k, dim) of the stored dtype.
        cohorts: their `row` indexes `images`.
    """

    about: FeatureAttributes
    runs: tuple[Run, ...]
    images: ImageTable
    vectors: Rows
    cohorts: tuple[StoredCohort, ...]

    def parts(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Vectors part by part, each with the index of its first row."""
        most = max(MEMORY // (self.about.contract.dim * 4), 1)
        for start in range(0, self.vectors.shape[0], most):
            yield start, self.vectors[start : start + most]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """What an image's own file tells: digest, width and height in pixels, and names."""

    digest: bytes
    width: int
    height: int
    format: str
    mode: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claims:
    """What the importer has to say where a format does not: it is taken at their word.

    Attributes:
        encoder: name of the encoder; imports of one name count as one encoder's.
        cohort: name of the cohort.
        classes: class list, by the format's class number; empty: the numbers are the names.
        patient: column that names patients.
        namespace: of the patients; pseudonyms are comparable within one.
        images: folder of the images, whose digests the store goes by.
        identify: reads one image.
        key: makes the pseudonyms.
    """

    encoder: str
    cohort: str
    classes: tuple[str, ...]
    patient: str
    namespace: str
    images: Path
    identify: Callable[[Path], ImageFacts]
    key: OwnerKey


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """One format.

    Attributes:
        name: what commands call it.
        export: writes a table to a path where nothing is, whole or not at all; None: read only.
        load: reads what lies at a path; claims are given if and only if `claims`.
        claims: whether the format needs them.
    """

    name: str
    export: Callable[[FeatureTable, Path], None] | None
    load: Callable[[Path, Claims | None], FeatureTable]
    claims: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What a table is, arrays aside; the JSON in our formats.

    Attributes:
        sha256: over the description without it, and over every array: a changed label is found as
            a changed vector is.
    """

    format: str
    version: int
    about: FeatureAttributes
    runs: tuple[Run, ...]
    formats: tuple[str, ...]
    modes: tuple[str, ...]
    cohorts: dict[str, CohortAttributes]
    sha256: str = ""


def describe(table: FeatureTable) -> Description:
    """Describe a table; a stratum's categories are its values, sorted. Reads all vectors."""
    found = Description(
        format=FORMAT,
        version=VERSION,
        about=table.about,
        runs=table.runs,
        formats=table.images.formats,
        modes=table.images.modes,
        cohorts={cohort.name: _attributes(cohort) for cohort in table.cohorts},
    )
    return replace(found, sha256=_sha256(found, table))


def checked_table(table: FeatureTable, about: Description, place: str) -> FeatureTable:
    """Refuse a table that is not as described, or whose parts do not fit each other.

    Raises:
        ExchangeUnusableError: says what does not fit.
    """
    images, contract = table.images, table.about.contract
    names = [cohort.name for cohort in table.cohorts]
    holds = {
        "an image stands there twice": len(np.unique(images.digest, axis=0)) == len(images),
        "a format has no name": _within(images.format, 0, len(images.formats)),
        "a mode has no name": _within(images.mode, 0, len(images.modes)),
        f"its vectors are not ({contract.dim},) long, or more than its images": (
            len(table.vectors.shape) == 2
            and table.vectors.shape[1] == contract.dim
            and table.vectors.shape[0] <= len(images)
        ),
        "a run failed at rows that are not there": all(
            0 <= row < len(images)
            for run in table.runs
            for rows in (*run.failed.values(), *(run.halved or {}).values())
            for row in rows
        ),
        "no run says who made the vectors": bool(table.runs) or not table.vectors.shape[0],
        "a cohort stands there twice": len(set(names)) == len(names),
    }
    for cohort in table.cohorts:
        fits = _within(cohort.row, -1, len(images)) and _within(
            cohort.label, -1, len(cohort.classes)
        )
        holds[f"cohort {cohort.name!r} has rows or labels that are not there"] = fits
    for problem, sound in holds.items():
        if not sound:
            raise ExchangeUnusableError(place, problem, MEND)
    if describe(table) != about:
        raise ExchangeUnusableError(place, "it is not what was exported: it was changed", MEND)
    return table


def _sha256(about: Description, table: FeatureTable) -> str:
    sha = hashlib.sha256(canonical_json(about))
    for _, part in table.parts():
        sha.update(np.ascontiguousarray(part).tobytes())
    for values in table.images.arrays().values():
        sha.update(values.tobytes())
    for cohort in table.cohorts:
        for column in (cohort.row, cohort.label, cohort.patient):
            sha.update(column.tobytes())
        sha.update(canonical_json([cohort.strata[name].tolist() for name in sorted(cohort.strata)]))
    return sha.hexdigest()


def _within(code: NDArray[Any], low: int, high: int) -> bool:
    return not len(code) or bool((code >= low).all() and (code < high).all())


def _attributes(cohort: StoredCohort) -> CohortAttributes:
    categories = {
        name: tuple(map(str, np.unique(value))) for name, value in sorted(cohort.strata.items())
    }
    return CohortAttributes(
        classes=cohort.classes,
        categories=categories,
        reader=cohort.reader,
        citation=cohort.citation,
        licence=cohort.licence,
        synthetic=cohort.synthetic,
        key_id=cohort.key_id,
        unreadable=cohort.unreadable,
    )


def cohort_of(
    name: str,
    about: CohortAttributes,
    arrays: dict[str, NDArray[Any]],
    strata: dict[str, NDArray[np.str_]],
) -> StoredCohort:
    """Put a cohort together again; `arrays` are its `row`, `label` and `patient`."""
    return StoredCohort(
        name=name,
        classes=about.classes,
        row=arrays["row"],
        label=arrays["label"],
        patient=arrays["patient"],
        strata=strata,
        reader=about.reader,
        citation=about.citation,
        licence=about.licence,
        synthetic=about.synthetic,
        key_id=about.key_id,
        unreadable=about.unreadable,
    )


def refuse_claims(claims: Claims | None) -> None:
    """Our own formats say everything themselves."""
    assert claims is None, "a format that takes no claims is given none"


def read_description(text: bytes, place: str) -> Description:
    """Read the JSON of our formats.

    Raises:
        ExchangeUnusableError: if it is none, a newer one, or states what no memory holds.
        UnusableNameError: if a run's, cohort's or stratum's name would lead elsewhere.
    """
    try:
        found = from_json(Description, text, place)
    except SchemaError as error:
        raise ExchangeUnusableError(
            place, "it does not describe itself as ours do", MEND
        ) from error
    if (found.format, found.version) != (FORMAT, VERSION):
        problem = f"it is {shown(found.format)} version {found.version}, not '{FORMAT}' {VERSION}"
        raise ExchangeUnusableError(place, problem, "upgrade: pip install -U embedcache-bench")
    about = found.about
    if not (1 <= about.contract.dim <= MOST_DIM and 1 <= about.batch <= MOST_BATCH):
        raise ExchangeUnusableError(place, "no vector or batch has that size", MEND)
    for run in found.runs:
        check_name("run", run.id)
    for name, cohort in found.cohorts.items():
        check_name("cohort", name)
        for stratum, values in cohort.categories.items():
            check_name("stratum", stratum, ("row", "label", "patient"))
            # Every row takes the longest one's memory.
            if max(map(len, values), default=0) > MOST_VALUE:
                problem = f"the stratum {stratum} has a value of too many characters"
                raise ExchangeUnusableError(place, problem, MEND)
    return found
