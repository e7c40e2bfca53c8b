"""Maternal-fetal planes from five African countries: 450 images of 127 patients.

Patients are numbered anew at each site, so site and number together are a patient. 47 pairs of
images are byte-identical under two numbers, as published; patient clusters join them.
"""

from __future__ import annotations

from pathlib import Path

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.cohort_file import NO_OPTIONS, Options
from embedcache.cohorts.places import find_images, find_table
from embedcache.cohorts.reader import Reader
from embedcache.cohorts.text_table import joined, read_columns, split_names

TABLE = "African_planes_database.csv"
COLUMNS = ("Patient_num", "Plane", "Train", "Center", "Filename")
PLANES = ("Fetal abdomen", "Fetal brain", "Fetal femur", "Fetal thorax")


def read(place: Path, options: Options = NO_OPTIONS) -> Cohort:
    """Read the official download, unchanged; a part of its rows and sites is fine.

    Strata: `site` and `split`. The publisher does not say which value of `Train` is the training
    part; 1 is read as `train`, as in FETAL_PLANES_DB by the same group.

    Raises:
        PathMissingError: if the table is not there.
        ColumnMissingError: if the table is not the official one.
        UnknownLabelError: if a plane is none of the four.
        EmptyCohortError: if there are no rows, or not one of their images.
    """
    file = find_table(place, TABLE)
    table = read_columns(file, names=COLUMNS, columns=options.columns)
    paths = [
        f"{site}/{name}" for site, name in zip(table["Center"], table["Filename"], strict=True)
    ]
    return Cohort.from_columns(
        classes=sorted(set(table["Plane"])) if "Plane" in options.columns else PLANES,
        images=find_images(file.parent, paths, TABLE),
        label=table["Plane"],
        patient=joined([table["Center"], table["Patient_num"]]),
        strata={"site": table["Center"], "split": split_names(table["Train"], file)},
        where=TABLE,
    )


READER = Reader(
    kind="african-planes",
    read=read,
    citation="doi:10.5281/zenodo.7540448",
    licence="CC-BY-4.0",
    heeds=("columns",),
)
