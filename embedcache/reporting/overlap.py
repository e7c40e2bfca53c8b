"""Whether an encoder had seen the images that it is judged on, as far as anyone says.

What is not known is said as often as what is: no list of training sets is no "no".
"""

from __future__ import annotations

from collections.abc import Iterable

from embedcache.contract import NO_WEIGHTS
from embedcache.results.record import CohortRecord, Maker

_SAID = {
    "yes": "TRAINED ON {}",
    "selection": "checkpoint chosen on {}",
    "not listed": "{} is not among its listed training sets",
    "unknown": "not known of {}, which is no “no”",
}
#: Answers that stand beside the numbers themselves.
_MARKED = {"yes": "TRAINED ON {}", "selection": "CHECKPOINT CHOSEN ON {}"}


def overlap_of(maker: Maker, cohorts: Iterable[CohortRecord]) -> tuple[str, ...]:
    """Say of each cohort whether an encoder's weights had seen its images, with the source."""
    if maker.contract is None:
        return ("not recorded",)
    if maker.contract.weights == NO_WEIGHTS or maker.contract.random_weights:
        return ("nobody trained it",)
    return tuple(_line(maker, cohort) for cohort in cohorts if not cohort.synthetic)


def seen_before(maker: Maker, cohorts: Iterable[CohortRecord | None]) -> tuple[str, ...]:
    """Marks of the cohorts that an encoder's weights had seen."""
    return tuple(
        _MARKED[one.answer].format(cohort.name)
        for cohort in cohorts
        if cohort is not None
        for one in maker.overlap
        if one.cohort == cohort.reader and one.answer in _MARKED
    )


def _line(maker: Maker, cohort: CohortRecord) -> str:
    for one in maker.overlap:
        if one.cohort == cohort.reader:
            return f"{_SAID[one.answer].format(cohort.name)} ({one.source}, {one.checked})"
    return f"{_SAID['unknown'].format(cohort.name)} (nobody looked)"
