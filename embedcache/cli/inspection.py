"""The screen of `cohorts inspect`: first what is wrong, in sentences, then the counts."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence

import typer

from embedcache.cli.show import print_table
from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.inspection import CohortInspection, Inspection, SplitLeak
from embedcache.images.source import ImageFile

#: Lines of a table; what is beyond is counted, and stands in full in the JSON.
MOST = 20


def print_inspection(found: Inspection, cohorts: Sequence[Cohort], *, linked: bool) -> None:
    """Print sentences and tables on stdout.

    Args:
        found: what `inspect` gave.
        cohorts: what it was given, in its order: they name the files behind rows, on a terminal.
        linked: whether the near-duplicates are written to a file anyway.
    """
    sentences = list(findings(found, linked=linked))
    typer.echo("\nWhat to know before you go on" if sentences else "\nNothing wrong was found.")
    for sentence in sentences:
        typer.echo(f"  * {sentence}")
    typer.echo()
    for one, cohort in zip(found.cohorts, cohorts, strict=True):
        _print_cohort(one, cohort)
    _print_near_pairs(found, cohorts)


def findings(found: Inspection, *, linked: bool) -> Iterator[str]:
    """Say what is wrong, a sentence each: cohort by cohort, the gravest first; then between them.

    Args:
        found: what `inspect` gave.
        linked: whether the near-duplicates are written to a file anyway.
    """
    mend = "the file of links makes" if linked else "--links FILE and `probe --links FILE` make"
    for one in found.cohorts:
        yield from (f"{one.name}: {sentence}" for sentence in _cohort_findings(one))
        near = sum(pair.cohorts == (one.name, one.name) for pair in found.near_pairs)
        if near:
            lie = _counted(near, "pair of near-duplicates lies", "pairs of near-duplicates lie")
            yield f"{one.name}: {lie} under two patients; {mend} each pair one patient cluster."
    for shared in found.shared:
        both = " and ".join(shared.cohorts)
        if shared.images:
            yield f"{both}: {_images(shared.images)} lie in both: no external test of each other."
        if shared.patients:
            yield f"{both}: {_patients(shared.patients)} stand in both, by name and namespace."
    for (first, second), count in _near_between(found).items():
        pairs = _counted(count, "pair of near-duplicates spans", "pairs of near-duplicates span")
        yield f"{first} and {second}: {pairs} both; {mend} each pair one patient cluster."


def _cohort_findings(one: CohortInspection) -> Iterator[str]:
    """What is wrong in a cohort but for its near-duplicates."""
    if one.synthetic:
        yield "synthetic: its pictures were drawn, so no result says anything about patients."
    unreadable = sum(len(rows) for rows in one.unreadable.values())
    if unreadable:
        rows = _counted(unreadable, "row has an image", "rows have an image")
        yield f"{rows} that cannot be used, of {one.rows:,}; its reasons stand below."
    if one.two_labels:
        images = _counted(len(one.two_labels), "image is", "images are")
        yield f"{images} listed under two labels, and will be left out of training and testing."
    across = one.across_patients
    if across.groups and across.rows == 2 * across.groups:
        pairs = _counted(across.groups, "pair", "pairs")
        lie = "lies" if across.groups == 1 else "lie"
        yield f"{pairs} of byte-identical images {lie} under two patients: {_ONE_CLUSTER}."
    elif across.groups:
        rows = f"{_images(across.groups)} (on {across.rows:,} rows)"
        yield f"{rows} lie under several patients: {_ONE_CLUSTER}."
    if one.split is not None:
        yield from _split_findings(one.split)
    within = one.within_patients
    if within.groups:
        images = _counted(within.groups, "image is", "images are")
        yield f"{images} listed again for one patient ({within.rows:,} rows); each counts once."
    if one.blank:
        yield f"{_counted(one.blank, 'image shows', 'images show')} one flat tone and nothing else."


_ONE_CLUSTER = "these patients will be one patient cluster"


def _split_findings(split: SplitLeak) -> Iterator[str]:
    leaks = [
        text
        for count, text in (
            (split.patients, _patients(split.patients)),
            (split.images, _images(split.images)),
            (
                split.near_duplicates,
                _counted(
                    split.near_duplicates, "pair of near-duplicates", "pairs of near-duplicates"
                ),
            ),
        )
        if count
    ]
    if leaks:
        yield f"the publisher's split leaks: {' and '.join(leaks)} lie on both sides of it."


def _near_between(found: Inspection) -> dict[tuple[str, str], int]:
    order = [one.name for one in found.cohorts]
    count: dict[tuple[str, str], int] = {}
    for near in found.near_pairs:
        if near.cohorts[0] != near.cohorts[1]:
            first, second = sorted(near.cohorts, key=order.index)
            count[first, second] = count.get((first, second), 0) + 1
    return count


def _print_cohort(one: CohortInspection, cohort: Cohort) -> None:
    typer.echo(
        f"{one.name} ({one.reader}): {one.rows:,} rows, {one.images:,} distinct images, "
        f"{one.patients:,} patients; rows per patient: median {one.rows_per_patient_median:g}, "
        f"most {one.rows_per_patient_max:,}"
    )
    counts = [(c.name, f"{c.rows:,}", f"{c.images:,}", f"{c.patients:,}") for c in one.classes]
    print_table(f"{one.name}: classes", ("class", ">rows", ">images", ">patients"), counts)
    if one.strata:
        rows = [row for name in one.strata for row in _stratum_rows(one, name)]
        columns = ("stratum", "value", ">rows", ">patients with several")
        print_table(f"{one.name}: strata", columns, rows)
    kinds = {"size": one.sizes, "mode": one.modes, "format": one.formats}
    files = [(kind, *row) for kind, values in kinds.items() for row in _most(values)]
    print_table(f"{one.name}: files", ("what", "value", ">images"), files)
    _print_unusable(one, cohort)


def _stratum_rows(one: CohortInspection, name: str) -> Iterator[tuple[str, str, str, str]]:
    several = f"{one.several_values[name]:,}" if name in one.several_values else ""
    for number, (value, count) in enumerate(_most(one.strata[name])):
        yield name, value, count, "" if number else several


def _most(values: Mapping[str, int]) -> list[tuple[str, str]]:
    """Give the most frequent values; the others in one line."""
    listed = [(value, f"{count:,}") for value, count in values.items()]
    if len(listed) <= MOST:
        return listed
    rest = sum(list(values.values())[MOST:])
    return [*listed[:MOST], (f"{len(listed) - MOST:,} more values", f"{rest:,}")]


def _print_unusable(one: CohortInspection, cohort: Cohort) -> None:
    if one.unreadable:
        reasons = [
            (reason, f"{len(rows):,}", _named(cohort, rows))
            for reason, rows in one.unreadable.items()
        ]
        print_table(f"{one.name}: unreadable", ("reason", ">rows", "which"), reasons)
    if one.two_labels:
        listed = [
            (two.digest[:12], ", ".join(two.labels), _named(cohort, two.rows))
            for two in one.two_labels[:MOST]
        ]
        columns = ("digest", "labels", "which")
        print_table(f"{one.name}: one image, two labels", columns, listed)
        _say_beyond(len(one.two_labels))


def _print_near_pairs(found: Inspection, cohorts: Sequence[Cohort]) -> None:
    if found.near_within_patients:
        pairs = _counted(found.near_within_patients, "pair", "pairs")
        typer.echo(f"{pairs} of near-duplicates lie within one patient, who is one cluster anyway.")
    if not found.near_pairs:
        return
    by_name = {cohort.name: cohort for cohort in cohorts}
    # Those within a cohort first: between cohorts a whole folder may be a copy of another.
    alike = sorted(
        found.near_pairs, key=lambda near: (near.cohorts[0] != near.cohorts[1], -near.pair.score)
    )
    order, rows = list(by_name), []
    for near in alike[:MOST]:
        images = zip(near.cohorts, near.rows, near.labels, strict=True)
        one, other = sorted(images, key=lambda image: (order.index(image[0]), image[1]))
        sides = [f"{name}: {_named(by_name[name], [row])}" for name, row, _ in (one, other)]
        label = one[2] if one[2] == other[2] else f"{one[2]} / {other[2]}"
        rows.append((f"{near.pair.score:.3f}", *sides, label))
    columns = (">alike", "first", "second", "label")
    print_table("Near-duplicates of two patients or cohorts", columns, rows)
    _say_beyond(len(alike))


def _say_beyond(count: int) -> None:
    if count > MOST:
        typer.echo(f"and {count - MOST:,} more (--json lists all)")


def _named(cohort: Cohort, rows: Sequence[int]) -> str:
    """Name rows: by file to the owner at a terminal, by number where the text may be passed on."""
    names = [
        source.path.name
        if sys.stdout.isatty() and isinstance(source := cohort.images[row], ImageFile)
        else f"row {row}"
        for row in rows[:5]
    ]
    more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
    return ", ".join(names) + more


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _images(count: int) -> str:
    return _counted(count, "byte-identical image", "byte-identical images")


def _patients(count: int) -> str:
    return _counted(count, "patient", "patients")
