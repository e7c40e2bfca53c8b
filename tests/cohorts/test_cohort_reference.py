"""Cohorts as they are written on the command line and in cohort files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache.cohorts.reference import CohortRef, parse_cohort, read_cohort
from embedcache.errors import (
    BadInputError,
    PathMissingError,
    ReferenceSyntaxError,
    SchemaError,
    UnknownNameError,
)


@dataclass(frozen=True)
class Expect:
    id: str
    given: str
    then: CohortRef


READS_AS = [
    Expect("a kind is the name", "table:p.csv", CohortRef("table", "table", "p.csv")),
    Expect("a name", "spain=table:p.csv", CohortRef("spain", "table", "p.csv")),
    Expect(
        "a file's stem is the name",
        "d/my.study.toml",
        CohortRef("my.study", None, "d/my.study.toml"),
    ),
    Expect("a named file", "a=b.toml", CohortRef("a", None, "b.toml")),
    Expect("a file with '='", "x=a=b.TOML", CohortRef("x", None, "a=b.TOML")),
    Expect("a place with '='", "table:/d/a=b.csv", CohortRef("table", "table", "/d/a=b.csv")),
    Expect("a place with ':'", "folder:a:b", CohortRef("folder", "folder", "a:b")),
    Expect("a path with '='", "./a=b/c.toml", CohortRef("c", None, "./a=b/c.toml")),
    Expect("a Windows place", r"n=table:C:\d\p.csv", CohortRef("n", "table", r"C:\d\p.csv")),
    Expect("a Windows file", r"C:\d\p.toml", CohortRef("p", None, r"C:\d\p.toml")),
    Expect("a named Windows file", r"n=C:\d\p.toml", CohortRef("n", None, r"C:\d\p.toml")),
    Expect("a TOML place of a kind", "folder:x.toml", CohortRef("folder", "folder", "x.toml")),
]


@pytest.mark.parametrize("case", READS_AS, ids=lambda case: case.id)
def test_a_cohort_reference_reads_as(case: Expect) -> None:
    assert parse_cohort(case.given) == case.then


NO_REFERENCES = [
    "", " ", "spain", "table:", "n=", "n=table:", "=table:p", "my name=table:p", ".n=table:p",
    "__n=table:p", "a/b=table:p", "my cohort (1).toml", "päd=table:p", "p.csv",
    "n" * 65 + "=table:p",
]  # fmt: skip


@pytest.mark.parametrize("reference", NO_REFERENCES)
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(ReferenceSyntaxError, match=r"\[NAME=\]KIND:PLACE or \[NAME=\]FILE\.toml"):
        parse_cohort(reference)


@given(st.text(max_size=30))
def test_any_text_is_a_reference_or_an_error(text: str) -> None:
    try:
        name = parse_cohort(text).name
    except BadInputError:
        return
    assert "/" not in name
    assert not name.startswith(".")


def test_an_unknown_kind_lists_the_kinds() -> None:
    with pytest.raises(UnknownNameError, match=r"no kind of cohort 'foldr'; .*folder"):
        read_cohort("foldr:x")


def written(folder: Path, text: str) -> str:
    (folder / "c.toml").write_text(text, "utf-8")
    return str(folder / "c.toml")


def test_a_cohort_file_says_all_a_line_cannot(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        'kind = "synthetic"\nplace = "abroad"\nseed = 3\nsize = 20\npatients = "mine"\n'
        'leave_out = ["Fetal femur"]\nclasses = ["trunk", "Fetal brain"]\n'
        'merges.trunk = ["Fetal abdomen", "Fetal thorax"]\n',
    )
    cohort = read_cohort(f"far={file}")
    assert (cohort.name, cohort.namespace) == ("far", "mine")
    assert cohort.classes == ("trunk", "Fetal brain")
    # 20 images in turn over four planes, five of them femurs.
    assert len(cohort) == 15
    assert cohort.label.tolist().count(1) == 5
    assert cohort.synthetic


def test_a_place_is_relative_to_its_file_and_a_tilde_is_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "h"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "h"))
    for place, looked_in in (
        ("here.csv", tmp_path / "here.csv"),
        ("~/x.csv", tmp_path / "h/x.csv"),
    ):
        file = written(tmp_path, f'kind = "table"\nplace = "{place}"\n')
        with pytest.raises(PathMissingError) as caught:
            read_cohort(file)
        assert caught.value.path == looked_in
    for reference in ("table:~/y.csv", "~/y.toml"):
        with pytest.raises(PathMissingError) as caught:
            read_cohort(reference)
        assert caught.value.path.parent == tmp_path / "h"


BAD = [
    ('kind = "synthetic"\n', "place is missing"),
    ('kind = "synthetic"\nplace = "home"\nplaces = 1\n', "places is unknown"),
    ('kind = "synthetic"\nplace = "home"\nsize = "10"\n', "size is '10', not a whole number"),
    (
        'kind = "synthetic"\nplace = "home"\ndelimiter = ";"\n',
        "delimiter is nothing that synthetic",
    ),
    ('kind = "folder"\nplace = "."\nseed = 0\n', r"seed is nothing .* heeds patterns, patient"),
    ('kind = "folder"\nplace = "."\npatient = "st-mary"\n', "not one of 'each image'"),
    ('kind = "table"\nplace = "."\ncolumns.patient = 3\n', r"columns\.patient is 3"),
    ("kind = table", "not valid TOML"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_a_wrong_cohort_file_names_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=f"c.toml.*{message}|{message}"):
        read_cohort(written(tmp_path, text))
