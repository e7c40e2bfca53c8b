"""A class for each sub-folder, a patient by pattern; nothing is guessed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from embedcache.cohorts.cohort_file import Options
from embedcache.cohorts.readers.folder import read
from embedcache.errors import (
    EmptyCohortError,
    PathMissingError,
    PatientsUnknownError,
    PatternUnmatchedError,
    SchemaError,
    StrayFilesError,
)

Made = Callable[[str], Path]
PATIENT = r"(P\d+)_"


def patterns(**more: str) -> Options:
    return Options(patterns={"patient": PATIENT, **more})


def test_a_class_is_a_folder_and_a_patient_a_group(made: Made) -> None:
    cohort = read(made("folder"), patterns())
    assert cohort.classes == ("brain", "plane 3")
    assert cohort.label.tolist() == [0, 0, 1, 1]
    assert cohort.patient.tolist() == ["P1", "P2", "P1", "P3"]
    assert all(image.read().data for image in cohort.images)


def test_digits_of_a_class_do_not_pass_for_a_patient(made: Made) -> None:
    cohort = read(made("folder"), Options(patterns={"patient": r"(\d+)"}))
    assert cohort.patient.tolist() == ["1", "2", "1", "3"]


def test_several_groups_make_one_key_and_other_words_are_strata(made: Made) -> None:
    options = Options(patterns={"patient": r"(P)(\d)_", "view": r"_(\w)\."})
    cohort = read(made("folder"), options)
    assert cohort.patient.tolist() == ["P/1", "P/2", "P/1", "P/3"]
    assert cohort.strata["view"].tolist() == ["a", "a", "b", "a"]


def test_patients_are_never_guessed(made: Made) -> None:
    place = made("folder")
    with pytest.raises(
        PatientsUnknownError, match=r"patterns\.patient = .* patient = 'each image'"
    ):
        read(place)
    each = read(place, Options(patient="each image"))
    assert len(set(each.patient)) == 4
    with pytest.raises(SchemaError, match="given twice"):
        read(place, Options(patient="each image", patterns={"patient": PATIENT}))


def test_a_flat_folder_takes_its_classes_by_pattern(made: Made) -> None:
    place = made("folder") / "brain"
    cohort = read(place, patterns(label=r"_([a-z])\."))
    assert cohort.classes == ("a",)
    with pytest.raises(StrayFilesError, match=r"2 files .* lie in no class folder"):
        read(place, patterns())


def test_files_that_are_no_images_are_named_unless_told(made: Made) -> None:
    place = made("folder")
    (place / "brain" / "P9_z.dcm").write_bytes(b"DICM")
    with pytest.raises(StrayFilesError, match=r"brain/P9_z\.dcm"):
        read(place, patterns())
    assert len(read(place, patterns(image=r"\.(png|jpg)$"))) == 3


def test_a_linked_class_folder_counts_and_a_circle_ends(made: Made, tmp_path: Path) -> None:
    place = made("folder")
    (place / "brain").rename(tmp_path / "elsewhere")
    try:
        (place / "brain").symlink_to(tmp_path / "elsewhere")
        (place / "plane 3" / "up").symlink_to(place)
    except OSError as error:
        pytest.skip(f"this system makes no links: {error}")
    assert len(read(place, patterns())) == 4


BAD = [
    ({"patient": r"(Q\d+)_"}, PatternUnmatchedError, r"does not match 4 images \(P1_a\.png"),
    ({"patient": r"(P1)_"}, PatternUnmatchedError, r"does not match 2 images"),
    ({"patient": r"P\d+_"}, SchemaError, "without a group"),
    ({"patient": r"(P\d+_"}, SchemaError, "no regular expression"),
    ({"patient": PATIENT, "image": "("}, SchemaError, "no regular expression"),
    ({"patient": PATIENT, "image": "gif$"}, EmptyCohortError, "holds no images"),
    ({"patient": PATIENT, "row": "(.)"}, SchemaError, "no name for a stratum"),
]


@pytest.mark.parametrize(("given", "error", "message"), BAD)
def test_a_pattern_that_does_not_work_is_an_error(
    made: Made, given: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read(made("folder"), Options(patterns=given))


def test_no_folder_and_no_images_are_errors(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError):
        read(tmp_path / "nowhere", patterns())
    with pytest.raises(EmptyCohortError):
        read(tmp_path, patterns())
