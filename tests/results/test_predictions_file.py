"""Predictions and folds come back from Parquet as they went in."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedcache.contract import Contract, Preprocessing
from embedcache.errors import PredictionsFileError
from embedcache.protocol.folds import Folds
from embedcache.results.folds_file import read_folds, write_folds
from embedcache.results.layout import ResultsFolder
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import read_predictions, read_unit, write_predictions
from embedcache.results.record import Maker
from embedcache.results.units import unit_name

MAKER = Maker(
    encoder="pixels",
    arm="linear-probe",
    feature_id="0123456789abcdef",
    contract=Contract(
        architecture="pixels",
        code="1",
        weights="none",
        preprocessing=Preprocessing(height=16, width=16, mean=(0.5,), std=(0.5,), colour="grey"),
        pooling="flatten",
        dim=256,
    ),
    settings={"C": 0.03},
)


def predictions(n: int, cohort: str, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    probability = random.dirichlet([1.0, 1.0, 1.0], n)
    return Predictions(
        maker=MAKER,
        cohort=cohort,
        classes=("a", "b: c", "ü"),
        image=random.integers(0, 256, (n, 32), np.uint8),
        label=random.integers(0, 3, n, np.int16),
        cluster=random.integers(0, 2**40, n),
        predicted=probability.argmax(axis=1).astype(np.int16),
        probability=probability,
        fold=random.integers(-1, 5, n, np.int8),
        strata={"site": random.choice(["Ghana", "", "Malawi"], n)},
    )


def assert_same(read: Predictions, written: Predictions) -> None:
    for field in dataclasses.fields(Predictions):
        one, other = getattr(read, field.name), getattr(written, field.name)
        if isinstance(other, np.ndarray):
            assert one.dtype.kind == other.dtype.kind
            np.testing.assert_array_equal(one, other, strict=other.dtype.kind != "U")
        elif field.name == "strata":
            assert one.keys() == other.keys()
            for name in other:
                np.testing.assert_array_equal(one[name], other[name])
        else:
            assert one == other


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_unit_of_two_cohorts_reads_as_it_was_written(tmp_path: Path, n: int, seed: int) -> None:
    file = tmp_path / f"{n}-{seed}.parquet"
    home, abroad = predictions(n, "spain", seed), predictions(n + 1, "africa", seed)
    home = dataclasses.replace(home, strata={"machine": np.full(n, "Voluson")})
    write_predictions(file, (home, abroad))
    read = read_unit(file)
    assert [part.cohort for part in read] == ["africa", "spain"]
    assert_same(read[0], abroad)
    assert_same(read[1], home)


def test_predictions_without_probabilities_read_as_they_were_written(tmp_path: Path) -> None:
    part = dataclasses.replace(predictions(5, "spain"), probability=None)
    write_predictions(tmp_path / "unit.parquet", (part,))
    assert_same(read_unit(tmp_path / "unit.parquet")[0], part)


def test_a_unit_is_never_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "unit.parquet"
    write_predictions(file, (predictions(5, "spain"),))
    before = file.read_bytes()
    write_predictions(file, (predictions(6, "africa"),))
    assert file.read_bytes() == before


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_predictions(tmp_path / name, (predictions(50, "spain"),))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_columns_are_those_of_a_prediction_table(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_predictions(tmp_path / "unit.parquet", (predictions(3, "spain"),))
    schema = parquet.read_schema(tmp_path / "unit.parquet")
    expected = {
        "image": "fixed_size_binary[32]",
        "fold": "int8",
        "cluster": "int64",
        "label": "int16",
        "predicted": "int16",
        "probability:a": "double",
        "probability:b: c": "double",
        "probability:ü": "double",
    }
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert expected.items() <= types.items()
    assert set(types) - set(expected) == {"cohort", "stratum:site"}


def test_parts_of_two_encoders_are_no_unit(tmp_path: Path) -> None:
    other = dataclasses.replace(
        predictions(3, "africa"), maker=dataclasses.replace(MAKER, encoder="usfm")
    )
    with pytest.raises(ValueError, match="maker"):
        write_predictions(tmp_path / "unit.parquet", (predictions(3, "spain"), other))


def test_a_cut_file_is_named_with_the_mend(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    file = folder.predictions_of("linear-probe", "pixels") / "unit.parquet"
    write_predictions(file, (predictions(50, "spain"),))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(PredictionsFileError, match="delete it and run the command") as caught:
        read_predictions(folder)
    assert caught.value.path == file


def test_a_partial_file_of_a_killed_writer_is_no_unit(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    file = folder.predictions_of("linear-probe", "pixels") / "unit.parquet"
    write_predictions(file, (predictions(4, "spain"),))
    file.with_name("other.parquet.0123abcd.partial").write_bytes(b"PAR1")
    assert len(read_predictions(folder)) == 1


def test_folds_read_as_they_were_written(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    image = np.unique(random.integers(0, 256, (30, 32), np.uint8), axis=0)
    cluster = np.arange(30) // 3
    folds = Folds(
        image=image,
        label=random.integers(0, 4, 30, np.int16),
        cluster=cluster,
        fold=(cluster[:, None] % np.array([5, 3])).astype(np.int8),
        strata={"site": random.choice(["x", "y"], 30)},
    )
    write_folds(ResultsFolder(tmp_path), folds)
    read = read_folds(ResultsFolder(tmp_path))
    assert read.sha256 == folds.sha256
    assert read.strata["site"].tolist() == folds.strata["site"].tolist()


def test_folds_that_are_gone_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(PredictionsFileError, match=r"folds\.parquet"):
        read_folds(ResultsFolder(tmp_path))


def test_a_unit_is_named_by_all_that_decides_it() -> None:
    # sha256 of the canonical JSON {"fold":3,"x":"00ff"}, by coreutils' sha256sum.
    name = "45ed4d778b6a23a410d6663bfb90bbca03d93970daaaa506fa85351cac26ea1c"
    assert unit_name({"x": "00ff", "fold": 3}) == name
    assert unit_name({"x": "00ff", "fold": 4}) != name
