"""A results folder keeps one protocol, and says what it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from embedcache.errors import (
    NewerResultsError,
    NoResultsError,
    PathMissingError,
    ProtocolDiffersError,
    SchemaError,
)
from embedcache.protocol.protocol import Protocol, Tuning
from embedcache.provenance import Provenance
from embedcache.results.layout import (
    ResultsFolder,
    folder_name,
    open_results,
    read_record,
    write_record,
)
from embedcache.results.record import CohortRecord, Record

SPAIN = CohortRecord(
    name="spain",
    reader="fetal-planes-db",
    citation="doi:10.5281/zenodo.3904280",
    licence="CC-BY-4.0",
    synthetic=False,
    rows=12,
    images=10,
    patients=4,
    clusters=3,
    strata=("machine", "operator"),
    left_out={"two labels": 2},
)
RECORD = Record(
    protocol=Protocol(train="spain", external=("africa",), classes=("brain", "femur")),
    classes=("brain", "femur"),
    folds_sha256="ab" * 32,
    cohorts=(SPAIN,),
    provenance=Provenance(
        when="2026-01-01T00:00:00+00:00", python="3.11.7", packages={}, system="Linux x86_64"
    ),
)


def test_a_record_reads_as_it_was_written(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path / "results")
    write_record(folder, RECORD)
    assert read_record(open_results(folder.path)) == RECORD


def test_a_foreign_record_without_protocol_reads_as_it_was_written(tmp_path: Path) -> None:
    record = dataclasses.replace(RECORD, protocol=None, folds_sha256="")
    write_record(ResultsFolder(tmp_path), record)
    assert read_record(ResultsFolder(tmp_path)) == record


def test_the_same_protocol_on_another_day_keeps_the_first_record(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    write_record(folder, RECORD)
    before = folder.protocol_file.read_bytes()
    later = dataclasses.replace(RECORD.provenance, when="2027-01-01T00:00:00+00:00")
    write_record(folder, dataclasses.replace(RECORD, provenance=later))
    assert folder.protocol_file.read_bytes() == before


@pytest.mark.parametrize(
    ("changed", "field", "kept", "asked"),
    [
        ({"protocol": Protocol(train="italy")}, "protocol.train", '"spain"', '"italy"'),
        (
            {"protocol": dataclasses.replace(RECORD.protocol or Protocol(train=""), seed=1)},
            "protocol.seed",
            "0",
            "1",
        ),
        (
            {
                "protocol": dataclasses.replace(
                    RECORD.protocol or Protocol(train=""), tuning=Tuning(inner_folds=2)
                )
            },
            "protocol.tuning.inner_folds",
            "3",
            "2",
        ),
        ({"classes": ("brain", "thorax")}, "classes[1]", '"femur"', '"thorax"'),
        ({"folds_sha256": "cd" * 32}, "folds_sha256", None, None),
        ({"cohorts": (dataclasses.replace(SPAIN, images=9),)}, "cohorts[0].images", "10", "9"),
        ({"protocol": None}, "protocol", None, "null"),
    ],
)
def test_another_protocol_is_refused_and_the_first_difference_named(
    tmp_path: Path, changed: dict[str, object], field: str, kept: str | None, asked: str | None
) -> None:
    folder = ResultsFolder(tmp_path)
    write_record(folder, RECORD)
    with pytest.raises(ProtocolDiffersError) as caught:
        write_record(folder, dataclasses.replace(RECORD, **changed))  # type: ignore[arg-type]  # fields by name
    assert caught.value.field == field
    assert kept is None or caught.value.kept == kept
    assert asked is None or caught.value.asked == asked
    assert read_record(folder) == RECORD


def test_a_long_difference_is_counted_not_printed(tmp_path: Path) -> None:
    links = tuple((f"{i:064x}", f"{i + 1:064x}") for i in range(500))
    folder = ResultsFolder(tmp_path)
    write_record(folder, RECORD)
    protocol = dataclasses.replace(RECORD.protocol or Protocol(train=""), links=links)
    with pytest.raises(ProtocolDiffersError) as caught:
        write_record(folder, dataclasses.replace(RECORD, protocol=protocol))
    assert "protocol.links = [], not 500 entries" in str(caught.value)


def test_a_newer_format_is_refused_with_the_mend(tmp_path: Path) -> None:
    (tmp_path / "protocol.json").write_text('{"format_version": 2, "something": "new"}')
    with pytest.raises(NewerResultsError, match="pip install --upgrade embedcache-bench"):
        open_results(tmp_path)


def test_no_folder_no_results_and_damaged_results_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError):
        open_results(tmp_path / "nowhere")
    with pytest.raises(NoResultsError):
        open_results(tmp_path)
    (tmp_path / "protocol.json").write_text('{"format_version": 1, ')
    with pytest.raises(SchemaError, match="not valid JSON"):
        open_results(tmp_path)
    (tmp_path / "protocol.json").write_text(json.dumps({"format_version": 1}))
    with pytest.raises(SchemaError, match="protocol is missing"):
        open_results(tmp_path)


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("usfm", "usfm"),
        ("timm:vit_tiny/16", "timm-vit_tiny-16"),
        ("usfm@cls#0123abcd", "usfm@cls#0123abcd"),
        ("../../etc", "-.-..-etc"),
        ("a\\b", "a-b"),
        ("modèle 2", "modèle-2"),
    ],
)
def test_an_encoder_reference_becomes_one_folder(reference: str, name: str) -> None:
    assert folder_name(reference) == name
    assert ResultsFolder(Path("r")).predictions_of("linear-probe", reference).parts == (
        "r",
        "predictions",
        "linear-probe",
        name,
    )
