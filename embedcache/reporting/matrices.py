"""Encoders by strata, encoders by classes, true by predicted class; small groups are held back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from embedcache.reporting.evidence import PRIMARY, Confusion, Evidence, Rows, Who, who
from embedcache.results.record import CohortRecord, Maker
from embedcache.results.tables import MetricRow

#: A site, a stratum or a class with fewer is not shown: aggregates only.
LEAST_PATIENTS, LEAST_IMAGES = 10, 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One value of a matrix; `row` is None where there is none or too few may see it."""

    row: MetricRow | None
    suppressed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One stratum value or class of a matrix, with the counts behind it."""

    name: str
    cohort: str
    images: int
    clusters: int
    suppressed: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Matrix:
    """Encoders by strata, or encoders by classes.

    Attributes:
        title: of the strata (`site`) or the metric.
        columns: c of them.
        rows: encoder and arm with c cells.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Maker, tuple[Cell, ...]], ...]

    @property
    def suppressed(self) -> int:
        """How many columns are too small to show."""
        return sum(column.suppressed for column in self.columns)


@dataclass(frozen=True, kw_only=True, slots=True)
class ConfusionTable:
    """Who was taken for what, ready to show.

    Attributes:
        maker: encoder and arm.
        cohort: whose images.
        predicted: names of the columns.
        rows: each true class with its counts and their shares of the row; both empty where the
            class is too small to show.
    """

    maker: Maker
    cohort: str
    predicted: tuple[str, ...]
    rows: tuple[tuple[Column, tuple[tuple[int, float], ...]], ...]


def too_few(images: int, clusters: int) -> bool:
    """Whether a site, a stratum or a class is too small to be shown.

    Patient clusters are counted: never more than the patients, so that the rule errs on their side.
    """
    return images < LEAST_IMAGES or clusters < LEAST_PATIENTS


def stratum_matrices(evidence: Evidence, rows: Rows) -> tuple[Matrix, ...]:
    """Make one matrix for each stratum name, sites first; columns of all cohorts side by side."""
    names = {key[5].partition("=")[0] for key in rows if key[5]}
    ranked = sorted(names, key=lambda name: (name != "site", name))
    return tuple(_stratum_matrix(evidence, rows, name) for name in ranked)


def _stratum_matrix(evidence: Evidence, rows: Rows, name: str) -> Matrix:
    order = {cohort.name: place for place, cohort in enumerate(evidence.record.cohorts)}
    largest: dict[tuple[str, str], MetricRow] = {}
    for (*_, cohort, metric, class_, stratum), row in rows.items():
        if metric == PRIMARY and class_ == "" and stratum.partition("=")[0] == name and stratum:
            largest.setdefault((cohort, stratum), row)
    columns = tuple(
        Column(
            name=stratum.partition("=")[2],
            cohort=cohort,
            images=row.images,
            clusters=row.clusters,
            suppressed=too_few(row.images, row.clusters),
        )
        for (cohort, stratum), row in sorted(
            largest.items(), key=lambda item: (order[item[0][0]], item[0][1])
        )
    )
    cells = [
        (maker, tuple(_stratum_cell(rows, who(maker), name, column) for column in columns))
        for maker in evidence.makers
    ]
    return Matrix(title=name, columns=columns, rows=tuple(cells))


def _stratum_cell(rows: Rows, name: Who, stratum: str, column: Column) -> Cell:
    if column.suppressed:
        return Cell(row=None, suppressed=True)
    key = (*name, column.cohort, PRIMARY, "", f"{stratum}={column.name}")
    return Cell(row=rows.get(key))


def class_matrices(evidence: Evidence, rows: Rows, cohort: CohortRecord) -> tuple[Matrix, ...]:
    """Make one matrix for each per-class metric of a cohort, F1 first."""
    metrics = {key[3] for key in rows if key[2] == cohort.name and key[4] and not key[5]}
    columns = class_columns(evidence, cohort)
    ranked = sorted(metrics, key=lambda metric: (metric != "f1", metric))
    return tuple(
        Matrix(
            title=metric,
            columns=columns,
            rows=tuple(
                (maker, tuple(_class_cell(rows, who(maker), metric, column) for column in columns))
                for maker in evidence.makers
            ),
        )
        for metric in ranked
    )


def class_columns(evidence: Evidence, cohort: CohortRecord) -> tuple[Column, ...]:
    """List the classes that occur in a cohort with their images and patients."""
    found = next((item for item in evidence.confusions if item.cohort == cohort.name), None)
    if found is None:
        return ()
    counted = zip(
        evidence.record.classes, found.images.tolist(), found.clusters.tolist(), strict=True
    )
    return tuple(
        Column(
            name=class_,
            cohort=cohort.name,
            images=images,
            clusters=clusters,
            suppressed=too_few(images, clusters),
        )
        for class_, images, clusters in counted
        if images > 0
    )


def _class_cell(rows: Rows, name: Who, metric: str, column: Column) -> Cell:
    if column.suppressed:
        return Cell(row=None, suppressed=True)
    return Cell(row=rows.get((*name, column.cohort, metric, column.name, "")))


def confusion_tables(evidence: Evidence, name: Who) -> tuple[ConfusionTable, ...]:
    """Make one table for each cohort that an encoder was tested on, training cohort first."""
    maker = next(maker for maker in evidence.makers if who(maker) == name)
    found = {c.cohort: c for c in evidence.confusions if (c.arm, c.encoder) == name}
    cohorts = [cohort for cohort in evidence.record.cohorts if cohort.name in found]
    return tuple(
        _confusion_table(evidence, maker, cohort, found[cohort.name]) for cohort in cohorts
    )


def _confusion_table(
    evidence: Evidence, maker: Maker, cohort: CohortRecord, found: Confusion
) -> ConfusionTable:
    classes = evidence.record.classes
    shown = [k for k in range(len(classes)) if found.images[k] > 0 or found.counts[:, k].any()]
    columns = class_columns(evidence, cohort)
    return ConfusionTable(
        maker=maker,
        cohort=cohort.name,
        predicted=tuple(classes[k] for k in shown),
        rows=tuple(
            (column, () if column.suppressed else tuple(_shares(found, classes, column, shown)))
            for column in columns
        ),
    )


def _shares(
    found: Confusion, classes: tuple[str, ...], column: Column, shown: list[int]
) -> Iterator[tuple[int, float]]:
    counts = found.counts[classes.index(column.name)]
    total = int(counts.sum())
    for k in shown:
        yield int(counts[k]), int(counts[k]) / total
