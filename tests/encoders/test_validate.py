"""Published references: what they are about, and how far we agree with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from embedcache.encoders.validation.agreement import HALF, agreement, rows_of
from embedcache.encoders.validation.fetalclip_five_planes import REFERENCE
from embedcache.encoders.validation.reference import Published
from embedcache.encoders.validation.references import reference_of
from embedcache.errors import ReferenceDiffersError, SchemaError, UnknownNameError

LABELS = ["Other", "Fetal brain", "Fetal thorax", "Other", "Fetal brain", "Maternal cervix"]
PUBLISHED = Published(
    label=("brain", "heart", "brain", "cervix"), predicted=("brain", "spine", "brain", "cervix")
)
VIEWS = ["brain", "heart", "cervix", "spine"]


def written(folder: Path, content: object) -> Path:
    (folder / "file.json").write_text(json.dumps(content))
    return folder / "file.json"


def test_rows_are_the_table_s_without_the_classes_that_the_authors_left_out() -> None:
    assert rows_of(REFERENCE, PUBLISHED, LABELS).tolist() == [1, 2, 4, 5]


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (LABELS[:-1], "it has 4 rows, the cohort 3"),
        (LABELS[::-1], "its row 0 is brain, and the cohort's row 0 is cervix"),
    ],
)
def test_another_cohort_or_order_is_refused(labels: list[str], problem: str) -> None:
    with pytest.raises(ReferenceDiffersError, match=problem):
        rows_of(REFERENCE, PUBLISHED, labels)


def test_agreement_is_counted_by_class_with_the_margin_of_each_disagreement() -> None:
    rows = rows_of(REFERENCE, PUBLISHED, LABELS)
    cosine = np.array(
        [
            [0.30, 0.10, 0.10, 0.10],
            [0.10, 0.305, 0.10, 0.30],  # heart by .005, published as spine
            [0.10, 0.10, 0.30, 0.10],  # cervix by .2, published as brain
            [0.10, 0.10, 0.30, 0.10],
        ]
    )
    found = agreement(REFERENCE, PUBLISHED, VIEWS, rows, np.ones(4, np.bool_), cosine)
    assert (found.images, found.agreed, found.not_compared) == (4, 2, 0)
    by_class = {one.label: (one.images, one.agreed) for one in found.classes}
    assert by_class == {
        "abdomen": (0, 0),
        "brain": (2, 1),
        "femur": (0, 0),
        "heart": (1, 0),
        "cervix": (1, 1),
    }
    assert [(one.row, one.published, one.found) for one in found.disagreements] == [
        (2, "spine", "heart"),
        (4, "brain", "cervix"),
    ]
    assert [one.margin for one in found.disagreements] == pytest.approx([0.005, 0.2])
    assert HALF > 0.005
    assert found.beyond_half == 1
    # Published: brain 1, heart 0, cervix 1. Ours: brain 2/3, heart 1, cervix 2/3.
    assert found.published_macro_f1 == pytest.approx(2 / 3)
    assert found.macro_f1 == pytest.approx(7 / 9)


def test_an_image_that_could_not_be_encoded_is_counted_and_not_compared() -> None:
    rows = rows_of(REFERENCE, PUBLISHED, LABELS)
    encoded = np.array([True, False, True, True])
    cosine = np.eye(4)[[0, 0, 2]]
    found = agreement(REFERENCE, PUBLISHED, VIEWS, rows, encoded, cosine)
    assert (found.images, found.agreed, found.not_compared) == (3, 3, 1)


def test_a_prediction_without_prompts_is_refused() -> None:
    rows = rows_of(REFERENCE, PUBLISHED, LABELS)
    with pytest.raises(ReferenceDiffersError, match="it predicts spine, for which there are no"):
        agreement(REFERENCE, PUBLISHED, VIEWS[:3], rows, np.ones(4, np.bool_), np.eye(4)[:, :3])


def test_the_authors_files_are_read_as_they_lie_in_their_repository(tmp_path: Path) -> None:
    content = {"prediction": ["brain", "spine"], "label": ["brain", "heart"]}
    assert REFERENCE.read(written(tmp_path, content)).predicted == ("brain", "spine")
    prompts = {"spine": ["a spine"], "brain": ["a brain", "the brain"]}
    assert list(REFERENCE.read_prompts(written(tmp_path, prompts))) == ["spine", "brain"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"prediction": ["brain"]}, "label is missing"),
        ({"prediction": ["brain"], "label": []}, "prediction has 1 entries, label 0"),
        ([], "not a table"),
    ],
)
def test_another_layout_is_refused(content: object, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=problem):
        REFERENCE.read(written(tmp_path, content))


def test_prompts_in_another_layout_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="brain is no list of prompts"):
        REFERENCE.read_prompts(written(tmp_path, {"brain": "a brain"}))


def test_an_encoder_without_a_reference_is_told_which_have_one() -> None:
    with pytest.raises(UnknownNameError, match="choose one of fetalclip"):
        reference_of("usfm")
