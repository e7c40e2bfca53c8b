"""Any CSV or Parquet table with a row for each image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.cohort_file import NO_OPTIONS, Options
from embedcache.cohorts.places import find_images, matched
from embedcache.cohorts.reader import Reader
from embedcache.cohorts.text_table import TextTable, read_table
from embedcache.errors import SchemaError

#: Columns of these names are strata unasked: the words that embedcache itself uses.
STRATA = ("machine", "operator", "site", "split")


def read(place: Path, options: Options = NO_OPTIONS) -> Cohort:
    """Read a table with columns `image`, `label` and `patient`, or those that a cohort file names.

    Image paths start from the table's folder, or from `images`; absolute ones stand. The class
    list is the labels found, sorted. Any further word of `columns` or `patterns` is a stratum, and
    so are columns called machine, operator, site or split.

    Raises:
        PathMissingError: if there is no such table.
        ColumnMissingError: if it lacks a column.
        TableUnreadableError: if it is no table.
        EmptyCellsError: if a row has no image, label or patient.
        PatternUnmatchedError: if a pattern does not fit every row.
        EmptyCohortError: if there are no rows, or not one of their images.
    """
    table = read_table(place, options.delimiter)
    where = place.name
    image = table.column(options.columns.get("image", "image"), "image")
    columns = {word: _column(table, word, image, options) for word in _words(table, options)}
    label = columns.pop("label")
    folder = place.parent if options.images is None else Path(options.images)
    return Cohort.from_columns(
        # An empty label is no class: from_columns names the rows.
        classes=sorted(set(label) - {""}) or ["?"],
        images=find_images(folder, image, where),
        label=label,
        patient=columns.pop("patient"),
        strata=columns,
        where=where,
    )


def _words(table: TextTable, options: Options) -> tuple[str, ...]:
    """`label`, `patient`, and every stratum; a word with a column and a pattern is an error."""
    both = sorted(set(options.columns) & set(options.patterns))
    if options.patient is not None:
        both += sorted({"patient"} & {*options.columns, *options.patterns})
    if both:
        raise SchemaError("the cohort file", both[0], "is given twice, in two ways; keep one")
    if "image" in options.patterns:
        problem = "is heeded where files are looked for; a table names its images"
        raise SchemaError("the cohort file", "patterns.image", problem)
    unasked = (word for word in STRATA if word in table.columns)
    words = dict.fromkeys(("label", "patient", *options.columns, *options.patterns, *unasked))
    return tuple(word for word in words if word != "image")


def _column(table: TextTable, word: str, image: Sequence[str], options: Options) -> tuple[str, ...]:
    if word in options.patterns:
        paths = [path.replace("\\", "/") for path in image]
        return matched(paths, options.patterns[word], word, table.file.name)
    if word == "patient" and options.patient == "each image":
        return tuple(image)
    return table.column(options.columns.get(word, word), word)


READER = Reader(
    kind="table", read=read, heeds=("columns", "patterns", "patient", "images", "delimiter")
)
