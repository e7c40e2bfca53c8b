"""Anyone's table: CSV or Parquet, in our words or its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from embedcache.cohorts.cohort_file import Options
from embedcache.cohorts.readers.table import read
from embedcache.cohorts.reference import read_cohort
from embedcache.cohorts.text_table import read_table
from embedcache.errors import (
    ColumnMissingError,
    EmptyCellsError,
    EmptyCohortError,
    PathMissingError,
    SchemaError,
    TableUnreadableError,
)

Made = Callable[[str], Path]


@pytest.fixture
def planes(made: Made) -> Path:
    return made("table") / "planes.csv"


def test_our_words_are_read_unasked(planes: Path) -> None:
    cohort = read(planes)
    assert cohort.classes == ("brain", "femur")
    assert cohort.label.tolist() == [0, 1, 0]
    assert cohort.patient.tolist() == ["007", "007", "8"]
    assert cohort.strata["site"].tolist() == ["north", "north", "not given"]
    assert all(image.read().data for image in cohort.images)


def test_other_words_stand_in_a_cohort_file(planes: Path) -> None:
    planes.write_text(
        "file;hospital;number;plane;scanner\n"
        "a.png;A/1;2;brain;X\nb.png;A;1/2;femur;Y\nc.png;A;3;brain;Y\n"
    )
    file = planes.with_name("study.toml")
    file.write_text(
        'kind = "table"\nplace = "planes.csv"\nimages = "pictures"\npatients = "all"\n'
        '[columns]\nimage = "file"\nlabel = "plane"\nmachine = "scanner"\n'
        'patient = ["hospital", "number"]\n'
    )
    cohort = read_cohort(str(file))
    assert (cohort.name, cohort.namespace, cohort.reader) == ("study", "all", "table")
    # "A/1" with "2" is another patient than "A" with "1/2".
    assert len(set(cohort.patient)) == 3
    assert cohort.strata["machine"].tolist() == ["X", "Y", "Y"]
    assert all(image.read().data for image in cohort.images)


def test_a_patient_may_stand_in_the_name_or_be_each_image(planes: Path) -> None:
    named = read(planes, Options(patterns={"patient": r"/([a-z])\."}))
    assert named.patient.tolist() == ["a", "b", "c"]
    each = read(planes, Options(patient="each image"))
    assert len(set(each.patient)) == 3


def test_paths_may_be_absolute_lack_a_suffix_or_come_from_windows(planes: Path) -> None:
    folder = planes.parent
    planes.write_text(
        f"image,label,patient\n{folder}/pictures/a.png,x,1\npictures/b,x,2\npictures\\c.png,y,3\n"
    )
    assert [image.path.name for image in read(planes).images] == ["a.png", "b.png", "c.png"]
    assert all(image.read().data for image in read(planes).images)


def test_quotes_tabs_and_commas_in_cells_are_read(planes: Path) -> None:
    planes.write_text('image\tlabel\tpatient\npictures/a.png\t"brain, 3rd"\t"O""Neil"\n')
    cohort = read(planes)
    assert (cohort.classes, cohort.patient.tolist()) == (("brain, 3rd",), ['O"Neil'])


def test_parquet_gives_the_same_text_as_csv(planes: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "image": ["pictures/a.png", "pictures/b.png", "pictures/c.png"],
        "label": [1, 2, 1],
        "patient": [7.0, 7.0, 8.5],
        "site": ["north", None, "south"],
    }
    pq.write_table(pa.table(columns), planes.with_suffix(".parquet"))
    cohort = read(planes.with_suffix(".parquet"))
    assert cohort.classes == ("1", "2")
    assert cohort.patient.tolist() == ["7", "7", "8.5"]
    assert cohort.strata["site"].tolist() == ["north", "not given", "south"]


def test_a_missing_patient_in_parquet_is_named(planes: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {"image": ["pictures/a.png"] * 2, "label": ["x", "y"], "patient": [1.0, None]}
    pq.write_table(pa.table(columns), planes.with_suffix(".parquet"))
    with pytest.raises(EmptyCellsError, match=r"no patient \(rows 2"):
        read(planes.with_suffix(".parquet"))


BAD = [
    ("image,label\na,b\n", ColumnMissingError, "no column 'patient'.*columns.patient"),
    ("name,label,patient\na,b,c\n", ColumnMissingError, "no column 'image'"),
    ("image,label,patient\n", EmptyCohortError, "no rows"),
    ("image,label,patient\npictures/a.png,,1\n", EmptyCellsError, "no label"),
    ("image,label,patient\n,x,1\n", EmptyCellsError, "no image"),
    ("image,label,patient\npictures/a.png,x\n", TableUnreadableError, "2 cells in line 2"),
    ("image,label,patient\nelsewhere/a.png,x,1\n", EmptyCohortError, "elsewhere/a.png"),
    ("image,label,label,patient\na,b,c,d\n", TableUnreadableError, "two columns 'label'"),
]


@pytest.mark.parametrize(("text", "error", "message"), BAD)
def test_a_broken_table_says_what_is_wrong(
    planes: Path, text: str, error: type[Exception], message: str
) -> None:
    planes.write_text(text)
    with pytest.raises(error, match=message):
        read(planes)


def test_files_that_are_no_tables_are_errors(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError):
        read_table(tmp_path / "nowhere.csv")
    for name, content, message in (
        ("a.parquet", b"PAR1", "no Parquet"),
        ("a.xlsx", b"PK", "spreadsheet"),
        ("a.csv", "größe".encode("utf-16"), "UTF-8"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TableUnreadableError, match=message):
            read_table(tmp_path / name)


TWICE = [
    Options(columns={"patient": "site"}, patterns={"patient": "(.)"}),
    Options(columns={"patient": "site"}, patient="each image"),
    Options(patterns={"patient": "(.)"}, patient="each image"),
]


@pytest.mark.parametrize("options", TWICE)
def test_a_patient_given_in_two_ways_is_an_error(planes: Path, options: Options) -> None:
    with pytest.raises(SchemaError, match="given twice"):
        read(planes, options)


def test_options_that_a_table_cannot_heed_are_errors(planes: Path) -> None:
    with pytest.raises(SchemaError, match=r"patterns\.image"):
        read(planes, Options(patterns={"image": "png"}))
    with pytest.raises(SchemaError, match="not one character"):
        read(planes, Options(delimiter=";;"))


def test_a_parquet_column_that_python_has_no_values_for_is_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = pa.array(["a", "b"])
    strange = {
        "a nanosecond": pa.array([1, 2], pa.timestamp("ns")),
        "no such year": pa.array([1 << 60] * 2, pa.date64()),
        "no such place": pa.array([1, 2], pa.timestamp("us", "Mars/Olympus")),
    }
    for name, column in strange.items():
        pq.write_table(pa.table({"image": words, name: column}), tmp_path / "t.parquet")
        with pytest.raises(TableUnreadableError, match=f"column '{name}'"):
            read_table(tmp_path / "t.parquet")


def test_parquet_text_that_is_no_text_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ends = pa.array([0, 1, 2], pa.int32()).buffers()[1]
    broken = pa.Array.from_buffers(pa.string(), 2, [None, ends, pa.py_buffer(b"\xff\xfe")])
    pq.write_table(pa.table({"image": broken}), tmp_path / "t.parquet")
    with pytest.raises(TableUnreadableError, match="no Parquet file"):
        read_table(tmp_path / "t.parquet")


def test_a_word_without_a_column_is_refused(planes: Path) -> None:
    with pytest.raises(SchemaError, match=r"columns\.image names no column"):
        read(planes, Options(columns={"image": ()}))
