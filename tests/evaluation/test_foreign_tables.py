"""Anyone's table is read as it was meant, or refused with the row and the mend."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedcache import registry
from embedcache.errors import (
    BadCellsError,
    BadInputError,
    DifferentImagesError,
    EmptyTableError,
    MixedFoldsError,
    NotATableError,
    PathMissingError,
    PredictionsFileError,
    ProtocolDiffersError,
    TableClassError,
    TableColumnError,
    TableOverwritesError,
)
from embedcache.evaluation.evaluate import evaluate
from embedcache.evaluation.foreign import evaluate_table
from embedcache.metrics.metric import CountMetric
from embedcache.progress import Silent
from embedcache.results.layout import ResultsFolder, read_record
from embedcache.results.predictions_file import read_predictions, write_predictions
from embedcache.results.tables import MetricRow
from embedcache.testing.hostile_store import is_sentence

METRICS = [registry.load("metrics", name) for name in registry.names("metrics")]
Rows = list[dict[str, Any]]
Simulate = Callable[..., Rows]
Write = Callable[..., Path]


def values(rows: tuple[MetricRow, ...]) -> list[tuple[object, ...]]:
    return [(r.encoder, r.metric, r.class_, r.stratum, r.value, r.low, r.high) for r in rows]


@pytest.fixture
def expected(simulate: Simulate, write_table: Write, tmp_path: Path) -> list[tuple[object, ...]]:
    return values(evaluate_table(write_table(simulate()), tmp_path / "expected"))


def test_a_spreadsheet_with_semicolons_and_decimal_commas_is_understood(
    simulate: Simulate, write_table: Write, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    table = [
        {key: str(cell).replace(".", ",") if "prob" in key else cell for key, cell in row.items()}
        for row in simulate()
    ]
    file = write_table(table, delimiter=";")
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes() + b"\r\n")
    assert values(evaluate_table(file, tmp_path / "results")) == expected


def test_parquet_is_read_as_csv_is(
    simulate: Simulate, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(simulate()), tmp_path / "table.parquet")
    assert values(evaluate_table(tmp_path / "table.parquet", tmp_path / "results")) == expected


def test_a_folder_of_tables_is_one_table_and_files_name_their_encoders(
    simulate: Simulate, write_table: Write, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    (tmp_path / "tables").mkdir()
    for encoder in ("a", "b"):
        own = [row for row in simulate() if row.pop("encoder") == encoder]
        write_table(own, name=f"tables/{encoder}.csv")
    assert values(evaluate_table(tmp_path / "tables", tmp_path / "results")) == expected


def test_predicted_alone_gives_the_count_metrics(
    simulate: Simulate, write_table: Write, tmp_path: Path, expected: list[tuple[object, ...]]
) -> None:
    table = []
    for row in simulate():
        scores = {key: row.pop(key) for key in list(row) if key.startswith("probability:")}
        table.append(row | {"predicted": max(scores, key=scores.__getitem__).split(":")[1]})
    rows = values(evaluate_table(write_table(table), tmp_path / "results"))
    scores = {m.name for m in METRICS if not isinstance(m, CountMetric)}
    assert {row[1] for row in expected} > scores
    assert rows == [row for row in expected if row[1] not in scores]


def test_patients_keep_their_leading_zeros(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [
        row | {"patient": "007" if row["patient"] == "p0" else row["patient"]} for row in simulate()
    ]
    table = [row | {"patient": "7" if row["patient"] == "p1" else row["patient"]} for row in table]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    assert rows[0].clusters == 15


def test_a_cluster_column_is_what_is_resampled(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [row | {"cluster": f"family {int(row['patient'][1:]) % 10}"} for row in simulate()]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    assert rows[0].clusters == 10


def test_neither_image_names_nor_patients_are_written(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [row | {"patient": f"Erika Mustermann {row['patient']}"} for row in simulate()]
    evaluate_table(write_table(table), tmp_path / "results")
    files = [file for file in (tmp_path / "results").rglob("*") if file.is_file()]
    assert len(files) == 5  # protocol, metrics, reliability, two encoders
    for file in files:
        content = file.read_bytes()
        assert b"Mustermann" not in content
        assert b"spain-1" not in content
    digests = {
        bytes(d)
        for part in read_predictions(ResultsFolder(tmp_path / "results"))
        for d in part.image
    }
    assert hashlib.sha256(b"spain-1.png").digest() in digests


def test_a_second_run_finds_its_results_and_another_table_is_refused(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    first = evaluate_table(write_table(simulate()), out)
    before = sorted(out.rglob("*.parquet"))
    assert evaluate_table(write_table(simulate()), out) == first
    assert sorted(out.rglob("*.parquet")) == before
    changed = simulate()
    changed[0] |= {"probability:brain": 0.0, "probability:femur": 1.0, "probability:thorax": 0.0}
    with pytest.raises(TableOverwritesError, match=r"a \(imported\)"):
        evaluate_table(write_table(changed), out)
    with pytest.raises(ProtocolDiffersError):
        evaluate_table(write_table(simulate(cohort="africa", encoders=("c",))), out)


def test_a_further_encoder_on_the_same_images_joins_the_folder(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    evaluate_table(write_table(simulate()), tmp_path / "results")
    more = [row | {"encoder": "c"} for row in simulate() if row["encoder"] == "a"]
    rows = evaluate_table(write_table(more), tmp_path / "results")
    assert {row.encoder for row in rows} == {"a", "b", "c"}


def test_one_patient_gives_points_without_intervals(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [row | {"patient": "p", "stratum:site": "x"} for row in simulate(folds=(None,))]
    rows = evaluate_table(write_table(table), tmp_path / "results")
    assert {row.method for row in rows} == {"not estimable", "point"}
    images = [row for row in rows if not row.class_ and row.level == "image"]
    bounded = [row for row in images if row.method != "point"]
    assert all("one patient cluster only" in row.note for row in bounded)
    assert all(row.value is not None for row in bounded)
    assert all((row.low, row.pct_low) == (None, None) for row in rows)


def test_columns_that_are_not_used_are_named(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    lines: list[str] = []

    class Notes(Silent):
        def note(self, line: str) -> None:
            lines.append(line)

    table = [row | {"probabilty:other": 0.1, "age": 30} for row in simulate()]
    evaluate_table(write_table(table), tmp_path / "results", Notes())
    assert lines == ["predictions.csv: not used: probabilty:other, age"]


def test_the_cohort_is_counted_in_the_record(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    evaluate_table(write_table(simulate()), tmp_path / "results")
    record = read_record(ResultsFolder(tmp_path / "results"))
    (cohort,) = record.cohorts
    assert (cohort.name, cohort.images, cohort.patients, cohort.clusters) == ("spain", 45, 15, 15)
    assert record.classes == ("brain", "femur", "thorax")
    assert record.protocol is None


@dataclasses.dataclass(frozen=True)
class Refused:
    id: str
    spoil: Callable[[Rows], object]
    error: type[BadInputError]
    says: str


def drop(column: str) -> Callable[[Rows], object]:
    return lambda rows: [row.pop(column) for row in rows]


def put(at: int, **cells: object) -> Callable[[Rows], object]:
    return lambda rows: rows[at].update({key.replace("__", ":"): v for key, v in cells.items()})


REFUSED = [
    Refused(
        "no image column", drop("image"), TableColumnError, "no column 'image' .it has patient"
    ),
    Refused("no label column", drop("label"), TableColumnError, "no column 'label'"),
    Refused("no patient column", drop("patient"), TableColumnError, "no column 'patient'"),
    Refused(
        "neither probabilities nor predicted",
        lambda rows: [r.pop(k) for r in rows for k in list(r) if k.startswith("prob")],
        TableColumnError,
        "no column 'predicted'",
    ),
    Refused(
        "probabilities that do not sum to one",
        lambda rows: [r.update({"probability:brain": 1.5}) for r in rows[3:6]],
        BadCellsError,
        "3 rows do not sum to one .* the first is row 5",
    ),
    Refused(
        "a NaN",
        put(1, probability__femur="nan"),
        BadCellsError,
        "1 row hold no finite number.*row 3",
    ),
    Refused("an empty cell", put(0, probability__femur=""), BadCellsError, "row 2"),
    Refused(
        "a negative probability",
        put(0, probability__brain=-0.5, probability__femur=1.5, probability__thorax=0.0),
        BadCellsError,
        "'probability:brain': 1 row are negative",
    ),
    Refused(
        "an unknown label",
        put(7, label="cervix"),
        TableClassError,
        "1 rows say cervix, but the probability columns are of brain, femur, thorax",
    ),
    Refused("an empty label", put(7, label=""), BadCellsError, "'label': 1 row are empty.*row 9"),
    Refused("an empty patient", put(7, patient=" "), BadCellsError, "'patient': 1 row are empty"),
    Refused(
        "a row twice",
        lambda rows: rows.append(dict(rows[0])),
        BadCellsError,
        "repeat image.*row 92",
    ),
    Refused(
        "one image under two labels",
        lambda rows: rows[45].update(label="femur" if rows[45]["label"] == "brain" else "brain"),
        BadCellsError,
        "'label': 1 row differ from the image's first row",
    ),
    Refused(
        "an image that one encoder lacks",
        lambda rows: rows.pop(),
        DifferentImagesError,
        r"a \(imported\) and b \(imported\) .* spain: 1 images only the first",
    ),
    Refused(
        "another patient for one encoder",
        lambda rows: rows[45].update(fold=rows[45]["fold"], **{"stratum:site": "elsewhere"}),
        BadCellsError,
        "'stratum:site': 1 row differ",
    ),
    Refused("a fold that is no number", put(0, fold="first"), BadCellsError, "'fold': 1 row"),
    Refused("a fold and a half", put(0, fold=1.5), BadCellsError, "whole number from 0 to 127"),
    Refused("some rows without fold", put(0, fold=""), MixedFoldsError, "neither one a row"),
    Refused(
        "an image in two of five folds",
        lambda rows: rows.append(rows[0] | {"fold": 4 - rows[0]["fold"] // 2}),
        MixedFoldsError,
        "tell cohorts apart in a column 'cohort'",
    ),
    Refused(
        "a prediction that is not the most probable",
        lambda rows: [r.update(predicted="brain") for r in rows],
        BadCellsError,
        "'predicted': .* rows are not the most probable class",
    ),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.id)
def test_a_table_is_refused_with(
    case: Refused, simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    rows = simulate()
    case.spoil(rows)
    with pytest.raises(case.error, match=case.says):
        evaluate_table(write_table(rows), tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_what_is_no_table_is_refused(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    with pytest.raises(PathMissingError):
        evaluate_table(tmp_path / "nowhere.csv", tmp_path / "results")
    with pytest.raises(EmptyTableError):
        evaluate_table(tmp_path, tmp_path / "results")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("image,patient,label\n")
    for name in ("empty.csv", "header.csv"):
        with pytest.raises(EmptyTableError, match="no rows"):
            evaluate_table(tmp_path / name, tmp_path / "results")
    (tmp_path / "latin.csv").write_bytes("image\nübersicht\n".encode("latin-1"))
    with pytest.raises(NotATableError, match="CSV UTF-8"):
        evaluate_table(tmp_path / "latin.csv", tmp_path / "results")
    (tmp_path / "ragged.csv").write_text("image,patient\na,b\nc\n")
    with pytest.raises(NotATableError, match="1 cells in row 3, but 2 columns"):
        evaluate_table(tmp_path / "ragged.csv", tmp_path / "results")
    (tmp_path / "twice.csv").write_text("image,image\na,b\n")
    with pytest.raises(NotATableError, match="two columns 'image'"):
        evaluate_table(tmp_path / "twice.csv", tmp_path / "results")
    (tmp_path / "fake.parquet").write_bytes(b"PAR1")
    with pytest.raises(NotATableError, match="no Parquet file"):
        evaluate_table(tmp_path / "fake.parquet", tmp_path / "results")
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    with pytest.raises(NotATableError, match=r"none of \.csv"):
        evaluate_table(tmp_path / "table.xlsx", tmp_path / "results")


def test_a_unit_of_a_results_folder_is_no_foreign_table(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    evaluate_table(write_table(simulate()), tmp_path / "results")
    unit = next((tmp_path / "results").rglob("*.parquet"))
    with pytest.raises(NotATableError, match="belongs to a results folder"):
        evaluate_table(unit, tmp_path / "other")


def test_rounded_probabilities_are_kept_as_given(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    table = [
        {key: round(cell, 3) if "prob" in key else cell for key, cell in row.items()}
        for row in simulate()
    ]
    evaluate_table(write_table(table), tmp_path / "results")
    (first, _) = read_predictions(ResultsFolder(tmp_path / "results"))
    assert first.probability is not None
    given = {round(row["probability:brain"], 3) for row in table if row["encoder"] == "a"}
    assert set(first.probability[:, 0].tolist()) == given
    assert np.abs(first.probability.sum(axis=1) - 1).max() > 1e-6


def test_a_table_of_other_bytes_or_types_is_refused_in_a_line(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "cell.csv").write_text("image\n" + "x" * 200_000)
    dates = pa.array([1, 2], pa.timestamp("ns"))
    pq.write_table(pa.table({"image": ["a", "b"], "when": dates}), tmp_path / "dates.parquet")
    whole = (tmp_path / "dates.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:-20] + whole[-8:])
    for name in ("cell.csv", "dates.parquet", "cut.parquet"):
        with pytest.raises(NotATableError) as caught:
            evaluate_table(tmp_path / name, tmp_path / "results")
        assert is_sentence(str(caught.value))
        assert not (tmp_path / "results").exists()


def test_predictions_of_a_cohort_that_the_folder_does_not_know_are_refused(
    simulate: Simulate, write_table: Write, tmp_path: Path
) -> None:
    evaluate_table(write_table(simulate()), tmp_path / "results")
    folder = ResultsFolder(tmp_path / "results")
    for part in read_predictions(folder):
        strange = dataclasses.replace(part, cohort="elsewhere")
        write_predictions(folder.predictions_of("knn", "e") / "unit.parquet", (strange,))
    with pytest.raises(PredictionsFileError, match=r"'elsewhere', which protocol\.json does not"):
        evaluate(folder.path)
