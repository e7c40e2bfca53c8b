"""`embedcache store add-labels`: new labels for a cohort, features as they are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from embedcache.cli.arguments import Json, Store, split_commas

if TYPE_CHECKING:
    from embedcache.progress import Progress

Cohort = Annotated[str, typer.Option("--cohort", help="Name of the cohort in the store.")]
Labels = Annotated[
    str,
    typer.Option(
        "--labels",
        help="A CSV with the columns digest and label, or a cohort, KIND:PLACE or FILE.toml, "
        "whose images are hashed to find their labels.",
    ),
]
Classes = Annotated[
    list[str] | None,
    typer.Option("--classes", metavar="a,b,c", help="The new class list; as it is if not given."),
]


def add_labels(
    store: Store, cohort: Cohort, labels: Labels, classes: Classes = None, json: Json = False
) -> None:
    """Replace the labels of a cohort in a store; rows that are not named keep theirs.

    Example: embedcache store add-labels store.zarr --cohort spain --labels second-reading.csv
    """
    from embedcache.cli.show import print_json, progress_bars
    from embedcache.store.labels import add_labels as replace_labels
    from embedcache.store.labels import read_labels

    given = split_commas(classes or []) or None
    if _is_table(labels):
        file = Path(labels).expanduser()
        where, label_of = file.name, read_labels(file)
    else:
        with progress_bars() as progress:
            where, label_of, theirs = _of_cohort(labels, progress)
        given = given or theirs
    made = replace_labels(store, cohort, label_of, where=where, classes=given)
    if json:
        print_json(made)
        return
    typer.echo(
        f"{made.cohort}: {made.changed:,} rows have another label, {made.same:,} the same one, "
        f"{made.kept:,} were not named; classes {', '.join(made.classes)}"
    )


def _is_table(given: str) -> bool:
    """Whether it is a CSV and not a cohort that lies in one, such as `table:planes.csv`."""
    from embedcache import registry

    kind = given.partition("=")[2] or given
    return given.lower().endswith(".csv") and kind.partition(":")[0] not in registry.names(
        "cohorts"
    )


def _of_cohort(given: str, progress: Progress) -> tuple[str, dict[str, str], tuple[str, ...]]:
    """Name, label by digest and class list of a cohort, from its images."""
    from embedcache.cohorts.reference import read_cohort
    from embedcache.cohorts.survey import survey
    from embedcache.executor import cores
    from embedcache.store.labels import labels_by_digest

    found = survey(read_cohort(given), cores(), progress)
    cohort = found.cohort
    pairs = (
        (bytes(digest).hex(), cohort.classes[code] if code >= 0 else "")
        for digest, code, readable in zip(found.digest, cohort.label, found.readable, strict=True)
        if readable
    )
    return cohort.name, labels_by_digest(pairs, cohort.name), cohort.classes
