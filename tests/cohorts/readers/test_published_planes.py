"""The two published cohorts: fakes in their layouts, and the real tables where they are at hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedcache.cohorts.cohort_file import Options
from embedcache.cohorts.readers import african_planes, fetal_planes_db
from embedcache.cohorts.reference import read_cohort
from embedcache.cohorts.text_table import read_columns
from embedcache.errors import (
    AmbiguousFileError,
    ColumnMissingError,
    EmptyCellsError,
    EmptyCohortError,
    ImageUnreadableError,
    PathMissingError,
    SchemaError,
    TableUnreadableError,
    UnknownLabelError,
)

Made = Callable[[str], Path]
SPAIN, AFRICA = "fetal_planes_db", "african_planes"
TABLE = fetal_planes_db.TABLE


def rewrite(table: Path, old: bytes, new: bytes) -> None:
    content = table.read_bytes()
    assert old in content
    table.write_bytes(content.replace(old, new))


def test_the_spanish_layout_reads_unchanged(made: Made) -> None:
    cohort = fetal_planes_db.read(made(SPAIN))
    assert [cohort.classes[code] for code in cohort.label] == [
        "Fetal abdomen", "Fetal brain", "Fetal brain", "Other", "Maternal cervix"
    ]  # fmt: skip
    assert cohort.patient.tolist() == ["1", "1", "2", "3", "4"]
    assert cohort.strata["split"].tolist() == ["train", "train", "test", "test", "train"]
    assert cohort.strata["machine"].tolist()[2] == "Aloka"
    assert cohort.strata["operator"].tolist()[2] == "Op. 3"
    assert all(image.read().data.startswith(b"\x89PNG") for image in cohort.images)


def test_a_site_and_a_number_are_a_patient_in_africa(made: Made) -> None:
    cohort = african_planes.read(made(AFRICA))
    assert cohort.patient.tolist() == ["Algeria/1", "Algeria/1", "Egypt/1", "Egypt/2"]
    assert cohort.strata["site"].tolist() == ["Algeria", "Algeria", "Egypt", "Egypt"]
    assert cohort.strata["split"].tolist() == ["test", "test", "train", "train"]
    assert all(image.read().data for image in cohort.images)


@pytest.mark.parametrize("reader", [SPAIN, AFRICA])
def test_an_archive_may_add_a_level(made: Made, tmp_path: Path, reader: str) -> None:
    made(reader)
    kind = {SPAIN: "fetal-planes-db", AFRICA: "african-planes"}[reader]
    assert len(read_cohort(f"{kind}:{tmp_path}")) == len(read_cohort(f"{kind}:{tmp_path / reader}"))


def test_two_tables_below_a_folder_are_not_guessed_between(made: Made, tmp_path: Path) -> None:
    made(SPAIN).rename(tmp_path / "one")
    made(SPAIN).rename(tmp_path / "two")
    with pytest.raises(AmbiguousFileError, match="one or two"):
        fetal_planes_db.read(tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\n", b"\r\n"),
        (b";", b","),
        (b"Image_name", b"\xef\xbb\xbfImage_name"),
        (b"1_of_1;", b"1_of_1.png;"),
        (b"\n", b"\n\n"),
    ],
    ids=["CRLF", "commas", "byte order mark", "names with a suffix", "blank lines"],
)
def test_a_table_saved_again_reads_alike(made: Made, old: bytes, new: bytes) -> None:
    place = made(SPAIN)
    before = fetal_planes_db.read(place)
    rewrite(place / TABLE, old, new)
    after = fetal_planes_db.read(place)
    assert after.images == before.images
    assert np.array_equal(after.label, before.label)
    assert np.array_equal(after.patient, before.patient)


def test_an_image_is_found_by_its_stem_whatever_its_format(made: Made) -> None:
    place = made(SPAIN)
    first = min((place / "Images").iterdir())
    first.rename(first.with_suffix(".JPG"))
    assert fetal_planes_db.read(place).images[0].read().data


def test_two_images_of_one_stem_are_named(made: Made) -> None:
    place = made(SPAIN)
    first = min((place / "Images").iterdir())
    first.with_suffix(".jpg").write_bytes(first.read_bytes())
    with pytest.raises(AmbiguousFileError, match=r"of_2\.jpg or .*of_2\.png"):
        fetal_planes_db.read(place)


def test_a_row_whose_image_is_missing_keeps_its_place(made: Made) -> None:
    place = made(SPAIN)
    min((place / "Images").iterdir()).unlink()
    cohort = fetal_planes_db.read(place)
    assert len(cohort) == 5
    with pytest.raises(ImageUnreadableError, match="missing"):
        cohort.images[0].read()
    assert cohort.images[1].read().data


def test_a_folder_without_images_or_table_is_an_error(made: Made, tmp_path: Path) -> None:
    place = made(SPAIN)
    for image in (place / "Images").iterdir():
        image.unlink()
    with pytest.raises(EmptyCohortError, match="Patient00001_Plane2_1_of_2"):
        fetal_planes_db.read(place)
    (place / "Images").rmdir()
    with pytest.raises(PathMissingError, match="Images"):
        fetal_planes_db.read(place)
    (place / TABLE).unlink()
    with pytest.raises(PathMissingError, match=TABLE):
        fetal_planes_db.read(place)
    with pytest.raises(PathMissingError, match="nowhere"):
        fetal_planes_db.read(tmp_path / "nowhere")


BROKEN = [
    (b"US_Machine", b"Scanner", ColumnMissingError, r"no column 'US_Machine' \(it has .*Scanner"),
    (b"Fetal abdomen", b"Fetal abdomin", UnknownLabelError, "1 rows are labelled Fetal abdomin"),
    (b";Other;Not", b";;Not", EmptyCellsError, r"1 rows have no label \(rows 4"),
    (b";3;", b"; ;", EmptyCellsError, r"1 rows have no patient \(rows 4"),
    (b";3;", b";nan;", EmptyCellsError, r"1 rows have no patient \(rows 4"),
    (b";1 \n", b";yes \n", TableUnreadableError, "'yes' in its column of the split, row 1"),
    (b"Op. 1;Vol", b"Op. 1;;Vol", TableUnreadableError, "8 cells in line 2 and 7 in its header"),
    (b"Operator", b"Plane", TableUnreadableError, "two columns 'Plane'"),
    (b"Fetal", b"F\xe9tal", TableUnreadableError, "not UTF-8"),
]


@pytest.mark.parametrize(("old", "new", "error", "message"), BROKEN)
def test_a_broken_table_is_an_error_that_names_what_is_wrong(
    made: Made, old: bytes, new: bytes, error: type[Exception], message: str
) -> None:
    place = made(SPAIN)
    rewrite(place / TABLE, old, new)
    with pytest.raises(error, match=message):
        fetal_planes_db.read(place)


def test_a_header_alone_is_no_cohort(made: Made) -> None:
    place = made(SPAIN)
    table = place / TABLE
    table.write_bytes(table.read_bytes().split(b"\n")[0])
    with pytest.raises(EmptyCohortError, match="holds no rows"):
        fetal_planes_db.read(place)
    table.write_bytes(b"")
    with pytest.raises(EmptyCohortError, match="holds no header"):
        fetal_planes_db.read(place)


def test_another_column_may_give_the_classes(made: Made) -> None:
    cohort = fetal_planes_db.read(made(SPAIN), Options(columns={"Plane": "Brain_plane"}))
    assert cohort.classes == ("Not A Brain", "Trans-cerebellum", "Trans-thalamic")
    assert cohort.label.tolist() == [0, 2, 1, 0, 0]


def test_a_column_that_the_reader_does_not_know_is_an_error(made: Made) -> None:
    with pytest.raises(SchemaError, match=r"columns\.label is none of the columns read"):
        fetal_planes_db.read(made(SPAIN), Options(columns={"label": "Plane"}))


def test_a_column_named_wrongly_in_a_cohort_file_says_which_key_to_mend(made: Made) -> None:
    with pytest.raises(ColumnMissingError, match=r"no column 'Brain'.*columns\.Plane = "):
        fetal_planes_db.read(made(SPAIN), Options(columns={"Plane": "Brain"}))


def test_the_full_table_holds_what_its_authors_report(shared_cohorts: Path) -> None:
    # Burgos-Artizzu et al. 2020: 12,400 images, 1,792 patients; counts of table 2.
    table = shared_cohorts / "fetal_planes_db_metadata" / TABLE
    columns = read_columns(table, names=fetal_planes_db.COLUMNS, columns={})
    assert len(set(columns["Patient_num"])) == 1792
    plane = columns["Plane"]
    assert [plane.count(name) for name in fetal_planes_db.PLANES] == [
        711, 3092, 1040, 1718, 1626, 4213
    ]  # fmt: skip
    assert columns["Train"].count("1") == 7129


def test_the_real_spanish_images_are_all_found(shared_cohorts: Path) -> None:
    cohort = read_cohort(f"spain=fetal-planes-db:{shared_cohorts / 'fetal_planes_db_four_planes'}")
    assert (len(cohort), len(set(cohort.patient))) == (888, 437)
    assert set(cohort.strata["split"]) == {"train"}
    assert all(image.path.is_file() for image in cohort.images)


def test_the_real_african_images_are_all_found(shared_cohorts: Path) -> None:
    # Sendra-Balcells et al. 2023: 25 patients a site, 25 images a plane and site, and no thorax
    # from Ghana; 24 pairs of Algeria and 3 of Egypt are byte-identical.
    cohort = read_cohort(f"africa=african-planes:{shared_cohorts / 'african_planes'}")
    assert (len(cohort), len(set(cohort.patient))) == (275, 75)
    assert np.bincount(cohort.label).tolist() == [75, 75, 75, 50]
    digest = {image.read().digest for image in cohort.images}
    assert len(digest) == 275 - 24 - 3
