"""metrics.csv and comparisons.csv are read strictly, and lose no digit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedcache.errors import PathMissingError, SchemaError
from embedcache.results.layout import ResultsFolder
from embedcache.results.rows_file import (
    read_comparisons,
    read_metrics,
    write_comparisons,
    write_metrics,
)
from embedcache.results.tables import ComparisonRow, MetricRow

#: The columns that ARCHITECTURE promises.
METRIC_COLUMNS = (
    "arm,encoder,cohort,estimand,class_rule,level,train_patients,metric,class,stratum,value,low,"
    "high,method,images,clusters,df,low_train,high_train,pct_low,pct_high,n_undefined,note"
)
COMPARISON_COLUMNS = (
    "kind,arm,other_arm,encoder,other,cohort,estimand,class_rule,level,metric,value,low,high,"
    "method,clusters,df,p,p_max_t,p_holm,p_nadeau_bengio,family,rank_low,rank_high,may_be_best,"
    "p_best,note"
)
text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=12)
number = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@given(
    name=text,
    value=number,
    low=number,
    undefined=st.none() | st.integers(-(1 << 63), (1 << 63) - 1),
    note=text,
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_metric_rows_read_as_they_were_written(
    tmp_path: Path,
    name: str,
    value: float | None,
    low: float | None,
    undefined: int | None,
    note: str,
) -> None:
    row = MetricRow(
        arm="knn",
        encoder=name,
        cohort="spain",
        estimand="oof",
        class_rule="as-is",
        metric="f1",
        class_='brain, "trans-thalamic"',
        value=value,
        low=low,
        images=3,
        clusters=2,
        n_undefined=undefined,
        note=note,
    )
    write_metrics(ResultsFolder(tmp_path), [row, row])
    assert read_metrics(ResultsFolder(tmp_path)) == (row, row)


@pytest.mark.parametrize("may_be_best", [True, False, None])
def test_comparison_rows_read_as_they_were_written(
    tmp_path: Path, may_be_best: bool | None
) -> None:
    row = ComparisonRow(
        kind="pair",
        arm="knn",
        other_arm="knn",
        encoder="a",
        other="b",
        cohort="africa",
        estimand="external-folds",
        class_rule="restricted",
        metric="macro-f1",
        value=0.1 + 0.2,
        clusters=112,
        p=1 / 10_001,
        rank_low=1,
        may_be_best=may_be_best,
    )
    write_comparisons(ResultsFolder(tmp_path), [row])
    assert read_comparisons(ResultsFolder(tmp_path)) == (row,)


def test_the_columns_are_the_promised_ones(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    write_metrics(folder, [])
    write_comparisons(folder, [])
    assert folder.metrics_file.read_text() == METRIC_COLUMNS + "\n"
    assert folder.comparisons_file.read_text() == COMPARISON_COLUMNS + "\n"


ROW = "knn,a,spain,oof,as-is,image,0,f1,,,0.5,,,cluster-jackknife,3,2,,,,,,,"


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (ROW.replace("0.5", "0,5"), "line 2: the top level has 24 cells, not 23"),
        (ROW.replace("0.5", "half"), "line 2: value is 'half'"),
        (ROW.replace("image,0", "image,"), "line 2: train_patients is ''"),
        (ROW.replace("oof", "in-domain"), "line 2: estimand is 'in-domain'"),
    ],
)
def test_a_cell_that_does_not_fit_is_named(tmp_path: Path, broken: str, says: str) -> None:
    folder = ResultsFolder(tmp_path)
    folder.metrics_file.write_text(f"{METRIC_COLUMNS}\n{broken}\n")
    with pytest.raises(SchemaError, match=says):
        read_metrics(folder)


def test_another_header_is_refused(tmp_path: Path) -> None:
    folder = ResultsFolder(tmp_path)
    folder.metrics_file.write_text(METRIC_COLUMNS.replace("low,", "lower,", 1) + "\n")
    with pytest.raises(SchemaError, match="the header"):
        read_metrics(folder)


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError):
        read_metrics(ResultsFolder(tmp_path))


def test_nan_never_reaches_a_table(tmp_path: Path) -> None:
    row = MetricRow(
        arm="knn",
        encoder="a",
        cohort="spain",
        estimand="oof",
        class_rule="as-is",
        metric="f1",
        value=float("nan"),
        images=1,
        clusters=1,
    )
    with pytest.raises(ValueError, match="None"):
        write_metrics(ResultsFolder(tmp_path), [row])
