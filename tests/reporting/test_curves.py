"""Curves of tuned models, from their files to the points of a figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedcache.errors import SchemaError
from embedcache.reporting.curves import _figure
from embedcache.results.curves_file import Curve, CurveRow, curve_file, read_curves, write_curve
from embedcache.results.layout import ResultsFolder

LOSSES = [(1.0, 0.8), (0.5, 0.4), (0.25, 0.6)]
ROWS = tuple(
    CurveRow(
        fold=1,
        epoch=epoch,
        step=10 * epoch,
        loss=loss,
        validation_loss=aside,
        macro_f1=0.9,
        rate=1e-4,
        images_per_second=20.5,
        kept=int(epoch == 2),
    )
    for epoch, (loss, aside) in enumerate(LOSSES, start=1)
)


@pytest.fixture
def folder(tmp_path: Path) -> ResultsFolder:
    folder = ResultsFolder(tmp_path)
    write_curve(curve_file(folder, folder.predictions_of("lora", "usfm") / "u.parquet"), ROWS)
    return folder


def test_a_curve_reads_back_as_it_was_written(folder: ResultsFolder) -> None:
    assert read_curves(folder) == (Curve(arm="lora", encoder="usfm", rows=ROWS),)


@pytest.mark.parametrize("damage", ["epoch,step\n1,2\n", "", "two"])
def test_a_curve_that_was_edited_is_named(folder: ResultsFolder, damage: str) -> None:
    file = folder.path / "curves" / "lora" / "usfm" / "u.csv"
    text = file.read_text().replace("10", damage, 1) if damage == "two" else damage
    file.write_text(text)
    with pytest.raises(SchemaError, match=r"u\.csv"):
        read_curves(folder)


def test_losses_become_points_between_nothing_and_the_largest() -> None:
    figure = _figure([Curve(arm="lora", encoder="usfm", rows=ROWS)])
    # The frame is 112 wide from 8; the largest loss is 1, so 0.8 lies a fifth below the top.
    assert figure.lines[0].learnt == "8,8 64,64 120,92"
    assert figure.lines[0].aside == "8,30.4 64,75.2 120,52.8"
    assert figure.lines[0].kept == (64.0, 75.2)
    assert (figure.epochs, figure.most, figure.rows) == (3, 1.0, (ROWS[1],))
