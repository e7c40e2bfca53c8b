"""What is known of the cohorts that weights have seen, for encoders whose sources say nothing."""

from __future__ import annotations

from embedcache.provenance import Overlap

#: When the sources that the families name were read.
CHECKED = "2026-11-24"


def not_listed(source: str) -> tuple[Overlap, ...]:
    """A published list of training sets that names neither of the two public cohorts."""
    return (
        Overlap(cohort="fetal-planes-db", answer="not listed", source=source, checked=CHECKED),
        Overlap(cohort="african-planes", answer="not listed", source=source, checked=CHECKED),
    )


def unknown(source: str) -> tuple[Overlap, ...]:
    """No list of training images: neither cohort can be ruled out, which is no "no"."""
    return (
        Overlap(cohort="fetal-planes-db", answer="unknown", source=source, checked=CHECKED),
        Overlap(cohort="african-planes", answer="unknown", source=source, checked=CHECKED),
    )
