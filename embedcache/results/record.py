"""protocol.json: what a results folder is about, and all that a report needs beside the numbers."""

from __future__ import annotations

from dataclasses import dataclass

from embedcache.contract import Contract
from embedcache.protocol.judged import Judged
from embedcache.protocol.judging import Judging
from embedcache.protocol.protocol import Protocol
from embedcache.provenance import Overlap, Provenance, provenance

#: Version of the results folder's layout (ARCHITECTURE: results on disk).
FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CohortRecord:
    """One cohort as it was judged.

    Attributes:
        name: of the cohort.
        reader: kind of its reader; empty for a foreign prediction table.
        citation: how to cite it.
        licence: its licence.
        synthetic: whether its pictures were drawn.
        rows: rows of the cohort's own table.
        images: distinct images judged.
        patients: distinct patients (pseudonyms) of these images.
        clusters: patient clusters of these images.
        strata: names of its strata.
        left_out: rows not judged, by reason (`listed twice`, `two labels`, `class not judged`,
            `unreadable: the file is empty`, `also a training image`, …).
        sha256: of the judged images' digests, labels and clusters, in digest order; empty for a
            foreign prediction table.
    """

    name: str
    reader: str
    citation: str
    licence: str
    synthetic: bool
    rows: int
    images: int
    patients: int
    clusters: int
    strata: tuple[str, ...]
    left_out: dict[str, int]
    sha256: str = ""


def _cohort_record(judged: Judged) -> CohortRecord:
    """Tell of a cohort's judged images."""
    about = judged.about
    return CohortRecord(
        name=about.name,
        reader=about.reader,
        citation=about.citation,
        licence=about.licence,
        synthetic=about.synthetic,
        rows=about.rows,
        images=len(judged.image),
        patients=judged.patients,
        clusters=int(judged.cluster.max()) + 1,
        strata=tuple(sorted(judged.strata)),
        left_out=judged.left_out,
        sha256=judged.sha256,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """The content of protocol.json.

    Attributes:
        protocol: how models are judged; None for a foreign prediction table.
        classes: what every prediction in the folder indexes.
        folds_sha256: of the folds (all but strata); empty where there are none.
        cohorts: training cohort first, then the external ones in the protocol's order.
        provenance: of the process that made the folder.
        format_version: of the folder's layout.
    """

    protocol: Protocol | None
    classes: tuple[str, ...]
    folds_sha256: str
    cohorts: tuple[CohortRecord, ...]
    provenance: Provenance
    format_version: int = FORMAT_VERSION


def record_of(protocol: Protocol, judging: Judging) -> Record:
    """Tell of what was judged: the same for every arm, which is how arms share a folder."""
    return Record(
        protocol=protocol,
        classes=judging.classes,
        folds_sha256=judging.folds.sha256,
        cohorts=tuple(_cohort_record(judged) for judged in (judging.train, *judging.external)),
        provenance=provenance(),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Maker:
    """What made the predictions of one file; lies in the Parquet file's own metadata.

    Attributes:
        encoder: reference without weights, `#ID` where two feature ids of a store share it.
        arm: how the predictions were made.
        feature_id: of the features read; empty for a foreign table.
        contract: of the encoder; None for a foreign table.
        licence: of the encoder's weights.
        citation: of the encoder.
        overlap: of what the encoder's weights were trained on with cohorts, as far as known.
        extraction: where the features were computed; None for a foreign table.
        settings: the estimator's own, such as the chosen C.
    """

    encoder: str
    arm: str
    feature_id: str = ""
    contract: Contract | None = None
    licence: str = ""
    citation: str = ""
    overlap: tuple[Overlap, ...] = ()
    extraction: Provenance | None = None
    settings: dict[str, float] | None = None
