"""How far cohorts lie apart in each encoder's features, from what `embedcache shift` left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embedcache.reporting.evidence import EncoderMap, Evidence
from embedcache.results.record import CohortRecord
from embedcache.results.shift_file import Agreement, CohortAuroc, EncoderShift

#: Images drawn on a map: more would cover each other, and weigh 8 bytes each.
DRAWN = 1_500
#: Side of a map, and what is left free around it, in units of its drawing.
SIDE, FREE = 232.0, 4.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Cloud:
    """One cohort's images on a map.

    Attributes:
        cohort: its name.
        path: a dot for each image, as the commands of an SVG path.
        drawn: how many.
        images: of the cohort on the map.
    """

    cohort: str
    path: str
    drawn: int
    images: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ShiftMap:
    """Images of all cohorts on the two main axes of one encoder's features.

    Attributes:
        encoder: its reference.
        explained: shares of the variance along both axes.
        clouds: one for each cohort, in the order of the record.
    """

    encoder: str
    explained: tuple[float, ...]
    clouds: tuple[Cloud, ...]


def apart(evidence: Evidence) -> tuple[tuple[EncoderShift, tuple[CohortAuroc, ...]], ...]:
    """How well each encoder's features tell two cohorts apart, least first."""
    listed = [(one, one.cohorts) for one in evidence.shift if one.cohorts]
    return tuple(sorted(listed, key=lambda item: (_auroc(item[1][0]), item[0].encoder)))


def agreements(evidence: Evidence) -> tuple[Agreement, ...]:
    """Pairs of encoders over all images, most alike first."""
    whole = [one for one in evidence.agreement if not one.cohort]
    return tuple(sorted(whole, key=lambda one: (-_cka(one), one.encoder, one.other)))


def maps(evidence: Evidence) -> tuple[ShiftMap, ...]:
    """Draw each encoder's map, in the order of their names."""
    ordered = sorted(evidence.maps, key=lambda one: one.shift.encoder)
    return tuple(
        ShiftMap(
            encoder=one.shift.encoder,
            explained=one.shift.explained,
            clouds=tuple(_clouds(one, evidence.record.cohorts)),
        )
        for one in ordered
    )


def _clouds(one: EncoderMap, cohorts: Sequence[CohortRecord]) -> Iterator[Cloud]:
    x, y = _placed(one.points.x), _placed(-one.points.y)
    # Images lie in order of digest, so that every so-manieth is as good as any; cohorts keep their
    # share.
    step = max(1, -(-len(x) // DRAWN))
    for cohort in cohorts:
        own = np.flatnonzero(one.points.cohort == cohort.name)
        kept = own[::step]
        dots = (f"M{x[i]:g} {y[i]:g}h0" for i in kept)
        yield Cloud(cohort=cohort.name, path="".join(dots), drawn=len(kept), images=len(own))


def _placed(value: np.ndarray) -> np.ndarray:
    low, high = value.min(initial=0.0), value.max(initial=0.0)
    width = high - low if high > low else 1.0
    return np.asarray(np.round(FREE + SIDE * (value - low) / width, 1))


def _auroc(pair: CohortAuroc) -> float:
    return float("inf") if pair.auroc is None else pair.auroc


def _cka(one: Agreement) -> float:
    return one.cka if one.cka_debiased is None else one.cka_debiased
