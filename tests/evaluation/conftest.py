"""Prediction tables as people hand them in."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

Row = dict[str, object]
WriteTable = Callable[..., Path]


@pytest.fixture
def write_table(tmp_path: Path) -> WriteTable:
    """Write rows as a CSV file; the columns are those of the first row."""

    def write(rows: Sequence[Row], name: str = "predictions.csv", delimiter: str = ",") -> Path:
        file = tmp_path / name
        with file.open("w", encoding="utf-8", newline="") as text:
            writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return file

    return write


@pytest.fixture
def simulate() -> Callable[..., list[Row]]:
    """Rows of encoders that judged the same images, with patient effects."""

    def rows(
        *,
        cohort: str = "spain",
        classes: Sequence[str] = ("brain", "femur", "thorax"),
        true: int = 3,
        encoders: Sequence[str] = ("a", "b"),
        folds: Sequence[int | None] = (),
        patients: int = 15,
        images: int = 45,
        seed: int = 0,
    ) -> list[Row]:
        random = np.random.default_rng(seed)
        patient = np.arange(images) % patients
        label = random.integers(0, true, images)
        label[: 3 * true] = np.arange(3 * true) % true
        made: list[Row] = []
        for encoder in encoders:
            effect = random.normal(size=(patients, len(classes)))[patient]
            for fold in folds or (None,):
                score = effect + random.normal(size=effect.shape) + 2 * np.eye(len(classes))[label]
                probability = np.exp(score) / np.exp(score).sum(axis=1, keepdims=True)
                for i in range(images):
                    row: Row = {
                        "image": f"{cohort}-{i}.png",
                        "patient": f"p{patient[i]}",
                        "label": classes[label[i]],
                        "encoder": encoder,
                        "cohort": cohort,
                        # Without given folds: one of five, by patient.
                        "fold": patient[i] % 5 if not folds else "" if fold is None else fold,
                        "stratum:site": "north" if patient[i] % 2 else "south",
                    }
                    names = [f"probability:{name}" for name in classes]
                    made.append(row | dict(zip(names, probability[i].tolist(), strict=True)))
        return made

    return rows
