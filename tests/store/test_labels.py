"""New labels replace labels and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import LabelsUnusableError, PathMissingError, UnknownNameError
from embedcache.store.labels import Relabelled, add_labels, labels_by_digest, read_labels
from embedcache.store.reader import open_store
from embedcache.store.verify import verify


@pytest.fixture
def store(small, tmp_path) -> Path:
    return small.build(tmp_path / "a.zarr")


def hexes(small) -> list[str]:
    return [bytes(one).hex() for one in small.digest]


def test_named_rows_change_and_features_do_not(small, data, store) -> None:
    before, cohort = data(store), open_store(store).cohort("home")
    names = hexes(small)
    new = {names[0]: "femur", names[1]: "femur", names[2]: ""}  # they were brain, femur, brain
    assert add_labels(store, "home", new, where="new.csv") == Relabelled(
        cohort="home", classes=("brain", "femur"), changed=2, same=1, kept=4
    )
    after = open_store(store).cohort("home")
    assert after.label.tolist() == [1, 1, -1, 1, 0, 1, 0]
    assert np.array_equal(after.patient, cohort.patient)
    assert np.array_equal(after.strata["site"], cohort.strata["site"])
    changed = {key for key, content in data(store).items() if before[key] != content}
    assert changed == {"cohorts/home/label/c/0"}
    assert verify(store).sound


def test_a_new_class_needs_a_new_class_list(small, store) -> None:
    new = {hexes(small)[0]: "thorax"}
    with pytest.raises(LabelsUnusableError, match="--classes brain,femur,thorax"):
        add_labels(store, "home", new, where="new.csv")
    made = add_labels(store, "home", new, where="new.csv", classes=["thorax", "femur", "brain"])
    after = open_store(store).cohort("home")
    assert after.classes == made.classes == ("thorax", "femur", "brain")
    assert [after.classes[code] for code in after.label[:4]] == [
        "thorax",
        "femur",
        "brain",
        "femur",
    ]
    assert made.changed == 1


def test_a_class_list_that_lacks_a_kept_label_is_refused(small, store) -> None:
    with pytest.raises(LabelsUnusableError, match="lacks femur"):
        add_labels(store, "home", {hexes(small)[0]: "brain"}, where="new.csv", classes=["brain"])
    with pytest.raises(LabelsUnusableError, match="each class once"):
        add_labels(store, "home", {}, where="new.csv", classes=["brain", "femur", "brain"])


def test_images_of_no_such_cohort_are_named(small, store) -> None:
    with pytest.raises(LabelsUnusableError, match="1 images are not in 'home' \\(abab"):
        add_labels(store, "home", {"ab" * 32: "brain"}, where="new.csv")
    with pytest.raises(UnknownNameError):
        add_labels(store, "ward", {}, where="new.csv")


def test_a_table_of_labels_reads_as_a_person_writes_it(tmp_path) -> None:
    file = tmp_path / "new.csv"
    file.write_text(f"\ufeffdigest,label\r\n{'AB' * 32}, brain\r\n{'cd' * 32},\r\n", "utf-8")
    assert read_labels(file) == {"ab" * 32: "brain", "cd" * 32: ""}


BROKEN = [
    pytest.param("image,label\na,b\n", "its columns are image, label", id="other columns"),
    pytest.param("", "its columns are", id="empty"),
    pytest.param(f"digest,label\nabc,brain\n{'ab' * 32},x,y\n", "lines 2, 3", id="bad lines"),
    pytest.param(f"digest,label\n{'ab' * 32},x\n{'AB' * 32},y\n", "two labels", id="two labels"),
]


@pytest.mark.parametrize(("text", "words"), BROKEN)
def test_what_is_no_table_of_labels_is_refused(tmp_path, text: str, words: str) -> None:
    (tmp_path / "new.csv").write_text(text, "utf-8")
    with pytest.raises(LabelsUnusableError, match=words):
        read_labels(tmp_path / "new.csv")


def test_no_table_and_a_table_in_another_encoding_are_refused(tmp_path) -> None:
    with pytest.raises(PathMissingError):
        read_labels(tmp_path / "new.csv")
    (tmp_path / "new.csv").write_bytes("digest,label\n".encode("utf-16"))
    with pytest.raises(LabelsUnusableError, match="UTF-8"):
        read_labels(tmp_path / "new.csv")


def test_an_image_listed_twice_with_one_label_has_it() -> None:
    assert labels_by_digest([("a", "x"), ("a", "x")], "home") == {"a": "x"}
