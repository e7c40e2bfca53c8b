"""External images that a model of the training cohort has seen are found."""

from __future__ import annotations

import numpy as np

from embedcache.protocol.audit import LEAKS, external_leaks


def image(*numbers: int) -> np.ndarray:
    """Digests that end in many zeros, as none should be mistaken for another."""
    rows = np.zeros((len(numbers), 32), np.uint8)
    rows[:, 0] = numbers
    return rows


def hexes(number: int) -> str:
    return image(number)[0].tobytes().hex()


def reasons(external, patients, *, trained=(True, True, False), links=()) -> list[str]:
    leak = external_leaks(
        image(1, 2, 3),
        np.array(["p1", "p2", "p3"]),
        np.array(trained),
        image(*external),
        np.array(patients),
        links,
    )
    return [LEAKS[code] for code in leak]


def test_another_hospital_s_images_pass() -> None:
    assert reasons([10, 11], ["q1", "q2"]) == ["", ""]


def test_a_training_image_is_found() -> None:
    assert reasons([2, 11], ["q1", "q2"]) == ["also a training image", ""]


def test_a_near_duplicate_is_found_whichever_way_the_link_is_written() -> None:
    for link in ((hexes(1), hexes(10)), (hexes(10), hexes(1))):
        found = reasons([10, 11], ["q1", "q2"], links=(link,))
        assert found == ["near-duplicate of a training image", ""]


def test_a_training_patient_is_found() -> None:
    assert reasons([10, 11], ["p2", "q2"]) == ["patient also in training", ""]


def test_the_patient_of_a_training_image_is_a_training_patient() -> None:
    found = reasons([2, 11, 12], ["q1", "q1", "q2"])
    assert found == ["also a training image", "patient also in training", ""]


def test_an_image_that_nobody_trains_on_leaks_nothing() -> None:
    assert reasons([3, 11], ["q1", "p3"]) == ["", ""]


def test_an_untrained_image_still_joins_its_patients() -> None:
    # Image 3 is listed for p1 too, whose image 1 is trained on: p3 is p1.
    leak = external_leaks(
        image(1, 3, 3),
        np.array(["p1", "p1", "p3"]),
        np.array([True, False, False]),
        image(10),
        np.array(["p3"]),
        (),
    )
    assert LEAKS[leak[0]] == "patient also in training"
