"""FETAL_PLANES_DB: 12,400 fetal ultrasound planes of 1,792 patients, Barcelona."""

from __future__ import annotations

from pathlib import Path

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.cohort_file import NO_OPTIONS, Options
from embedcache.cohorts.places import find_images, find_table
from embedcache.cohorts.reader import Reader
from embedcache.cohorts.text_table import read_columns, split_names
from embedcache.errors import PathMissingError

TABLE = "FETAL_PLANES_DB_data.csv"
COLUMNS = ("Image_name", "Plane", "Patient_num", "US_Machine", "Operator", "Train")
PLANES = (
    "Fetal abdomen",
    "Fetal brain",
    "Fetal femur",
    "Fetal thorax",
    "Maternal cervix",
    "Other",
)


def read(place: Path, options: Options = NO_OPTIONS) -> Cohort:
    """Read the official download, unchanged; a part of its rows and images is fine.

    The class list is the six planes, or what stands in the column that a cohort file names in
    place of `Plane` (`columns.Plane = "Brain_plane"`), sorted.

    Raises:
        PathMissingError: if the table or the folder `Images` is not there.
        ColumnMissingError: if the table is not the official one.
        UnknownLabelError: if a plane is none of the six.
        EmptyCohortError: if there are no rows, or not one of their images.
    """
    file = find_table(place, TABLE)
    # The published header ends in 'Train ' and every row in a space; read_columns strips both.
    table = read_columns(file, names=COLUMNS, columns=options.columns)
    folder = file.parent / "Images"
    if not folder.is_dir():
        raise PathMissingError("the folder of images", folder)
    return Cohort.from_columns(
        classes=sorted(set(table["Plane"])) if "Plane" in options.columns else PLANES,
        images=find_images(folder, table["Image_name"], TABLE),
        label=table["Plane"],
        patient=table["Patient_num"],
        strata={
            "machine": table["US_Machine"],
            "operator": table["Operator"],
            "split": split_names(table["Train"], file),
        },
        where=TABLE,
    )


READER = Reader(
    kind="fetal-planes-db",
    read=read,
    citation="doi:10.5281/zenodo.3904280",
    licence="CC-BY-4.0",
    heeds=("columns",),
)
