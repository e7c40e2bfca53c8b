"""The interval of few-patient curves against a naive double loop, and its two sources."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedcache.evaluation.draws import cluster_weights
from embedcache.evaluation.efficiency import METHOD, curve_of, efficiency_rows, resampled_means
from embedcache.metrics.accuracy import METRIC as ACCURACY
from embedcache.metrics.macro_f1 import METRIC as MACRO_F1
from embedcache.metrics.patient_weighted_macro_f1 import METRIC as PATIENT_WEIGHTED
from embedcache.results.efficiency_file import FewPredictions, read_few, write_few
from embedcache.results.record import Maker


def part(repeat: int, predicted: np.ndarray, *, cluster, label, fold=None) -> FewPredictions:
    n = predicted.shape[1]
    image = np.zeros((n, 32), np.uint8)
    image[:, 0] = np.arange(n)
    return FewPredictions(
        maker=Maker(encoder="e", arm="linear-probe"),
        repeat=repeat,
        cohort="home",
        classes=("a", "b"),
        image=image,
        label=np.asarray(label, np.int16),
        cluster=np.asarray(cluster, np.int64),
        site=np.array([""] * n),
        fold=np.zeros(n, np.int8) if fold is None else fold,
        patients=tuple(range(1, len(predicted) + 1)),
        predicted=predicted.astype(np.int16),
    )


def draws(repeats: int = 4, patients: int = 20, seed: int = 0) -> list[FewPredictions]:
    rng = np.random.default_rng(seed)
    cluster = np.repeat(np.arange(patients), 2)
    label = rng.integers(0, 2, 2 * patients)
    parts = []
    for repeat in range(repeats):
        wrong = rng.random((2, 2 * patients)) < np.array([[0.4], [0.2]])
        parts.append(part(repeat, np.where(wrong, 1 - label, label), cluster=cluster, label=label))
    return parts


def test_a_curve_counts_what_every_draw_says_of_every_cluster() -> None:
    from sklearn.metrics import f1_score

    parts = draws()
    curve = curve_of(parts)
    assert curve.counts.shape == (2, 20, 4, 2, 2)
    for size in (0, 1):
        for repeat in range(4):
            total = curve.counts[size, :, repeat].sum(axis=0)
            expected = f1_score(parts[0].label, parts[repeat].predicted[size], average="macro")
            assert MACRO_F1.from_confusion(total) == pytest.approx(expected, abs=1e-12)


def test_resamples_are_a_naive_loop_s() -> None:
    """Each resample: clusters by their weights, draws by a multinomial of their own stream."""
    curve = curve_of(draws())
    found = resampled_means([ACCURACY, PATIENT_WEIGHTED], curve.counts, curve.site, resamples=30)
    (weight,) = cluster_weights(curve.site, seed=0, draws=30)
    share = np.random.default_rng((0, 4)).multinomial(4, [0.25] * 4, 30)
    for k in range(30):
        for size in (0, 1):
            accuracy = []
            for repeat in np.repeat(np.arange(4), share[k]):
                counts = curve.counts[size, :, repeat]
                total = (weight[k][:, None, None] * counts).sum(axis=0)
                accuracy.append(np.trace(total) / total.sum())
            assert found[k, size, 0] == pytest.approx(np.mean(accuracy), abs=1e-12)
    # Two images a patient: weighing patients alike weighs images alike.
    assert np.isfinite(found[..., 1]).any()


def test_both_sources_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    cluster, label = np.arange(60), np.tile([0, 1], 30)
    # Draws that agree on who is wrong: only clusters vary. Clusters all alike: only draws vary.
    wrong = rng.random(60) < 0.3
    same = [
        part(r, np.where(wrong, 1 - label, label)[None], cluster=cluster, label=label)
        for r in range(5)
    ]
    rates = [0.1, 0.2, 0.3, 0.4, 0.5]
    other = [
        part(
            r,
            np.where(rng.permutation(60) < 60 * rate, 1 - label, label)[None],
            cluster=cluster,
            label=label,
        )
        for r, rate in enumerate(rates)
    ]
    for parts, expected in ((same, np.sqrt(0.3 * 0.7 / 60)), (other, np.std(rates) / np.sqrt(5))):
        curve = curve_of(parts)
        spread = resampled_means([ACCURACY], curve.counts, curve.site).std()
        assert 0.8 * expected < spread < 1.5 * expected


def test_rows_come_back_from_disk_and_a_missing_draw_leaves_the_encoder_out(
    tmp_path: Path, record_of
) -> None:
    folder, record = record_of(tmp_path, repeats=4)
    for one in draws():
        write_few(
            folder.path / "efficiency" / "linear-probe" / "e" / f"{one.repeat}.parquet", [one]
        )
    rows, incomplete = efficiency_rows(folder, record, [MACRO_F1, ACCURACY])
    assert incomplete == ()
    assert [(row.train_patients, row.metric) for row in rows] == [
        (1, "macro-f1"),
        (1, "accuracy"),
        (2, "macro-f1"),
        (2, "accuracy"),
    ]
    assert all(row.low < row.value < row.high and row.method == METHOD for row in rows)
    assert {(row.estimand, row.images, row.clusters) for row in rows} == {("oof", 40, 20)}
    (folder.path / "efficiency" / "linear-probe" / "e" / "2.parquet").unlink()
    rows, (left_out,) = efficiency_rows(folder, record, [MACRO_F1])
    assert rows == []
    assert "draw 2 of few patients" in str(left_out)


def test_a_row_of_predictions_survives_the_disk(tmp_path: Path) -> None:
    (one, *_) = draws()
    write_few(tmp_path / "x.parquet", [one])
    (back,) = read_few(tmp_path / "x.parquet")
    for field in ("image", "label", "cluster", "site", "fold", "predicted"):
        assert np.array_equal(getattr(back, field), getattr(one, field))
    assert (back.patients, back.repeat, back.maker) == (one.patients, one.repeat, one.maker)


@pytest.fixture
def record_of():
    """A results folder whose protocol asks for so many draws."""
    from embedcache.protocol.protocol import Efficiency, Protocol
    from embedcache.provenance import provenance
    from embedcache.results.layout import ResultsFolder
    from embedcache.results.record import CohortRecord, Record

    def make(path: Path, repeats: int):
        protocol = Protocol(train="home", efficiency=Efficiency(patients=(1, 2), repeats=repeats))
        cohort = CohortRecord(
            name="home",
            reader="folder",
            citation="",
            licence="",
            synthetic=False,
            rows=40,
            images=40,
            patients=20,
            clusters=20,
            strata=(),
            left_out={},
        )
        record = Record(
            protocol=protocol,
            classes=("a", "b"),
            folds_sha256="",
            cohorts=(cohort,),
            provenance=provenance(),
        )
        return ResultsFolder(path), record

    return make
