"""The drawn cohorts: deterministic, lazy, with patients, machines, sites and copies."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.cohort_file import Options
from embedcache.cohorts.phantom import HEIGHT, PLANES, WIDTH
from embedcache.cohorts.readers.synthetic import read
from embedcache.cohorts.reference import read_cohort
from embedcache.errors import SchemaError, UnknownNameError
from embedcache.images.decode import decode
from embedcache.images.source import Source


def drawn(cohort: Cohort) -> bytes:
    rows = [image.read().digest for image in cohort.images]
    return hashlib.sha256(b"".join(rows) + repr(cohort.patient.tolist()).encode()).digest()


@pytest.fixture(scope="module")
def home() -> Cohort:
    return read_cohort("synthetic:home")


def test_home_and_abroad_have_their_sizes_classes_and_strata(home: Cohort) -> None:
    abroad = read_cohort("synthetic:abroad")
    assert (len(home), len(abroad)) == (240, 120)
    assert (len(set(home.patient)), len(set(abroad.patient))) == (60, 30)
    assert home.classes == abroad.classes == PLANES
    assert len(set(home.strata["machine"])) == 2
    assert len(set(abroad.strata["site"])) == 3
    assert not set(home.patient) & set(abroad.patient)


def test_it_is_called_synthetic(home: Cohort) -> None:
    assert home.synthetic
    assert home.reader == "synthetic"


def test_patients_differ_in_their_number_of_images(home: Cohort) -> None:
    count = np.unique(home.patient, return_counts=True)[1]
    assert count.min() >= 1
    assert count.max() > 2 * count.mean()


def test_some_pictures_lie_under_two_patients_with_one_label(home: Cohort) -> None:
    seen: dict[Source, list[int]] = {}
    for row, image in enumerate(home.images):
        seen.setdefault(image, []).append(row)
    twice = [rows for rows in seen.values() if len(rows) > 1]
    assert len(twice) == 240 // 60
    assert len({home.images[row].read().digest for row in range(12)}) == 12
    for rows in twice:
        assert len({home.images[row].read().digest for row in rows}) == 1
        assert len({home.patient[row] for row in rows}) == 2
        assert len({home.label[row] for row in rows}) == 1
        assert len({home.strata["machine"][row] for row in rows}) == 1


def test_pictures_are_grey_fans_on_black(home: Cohort) -> None:
    for image in home.images[:8]:
        picture = decode(image.read())
        assert (picture.mode, picture.size) == ("L", (WIDTH, HEIGHT))
        pixels = np.asarray(picture)
        corners = pixels[[-1, -1, HEIGHT // 2, HEIGHT // 2], [0, -1, 0, -1]]
        assert not corners.any()
        assert pixels[HEIGHT // 3 : 2 * HEIGHT // 3, WIDTH // 2].std() > 5


def test_a_seed_decides_every_pixel_in_any_process() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_synthetic import *; "
        "print(drawn(read(Path('home'), Options(size=12))).hex())"
    )
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, here], capture_output=True, text=True, check=True
    )
    again = drawn(read(Path("home"), Options(size=12)))
    assert done.stdout.strip() == again.hex()
    assert drawn(read(Path("home"), Options(size=12, seed=1))) != again
    assert drawn(read(Path("abroad"), Options(size=12))) != again


@pytest.mark.parametrize("size", [1, 2, 3, 7, 61, 1000])
def test_any_size_has_as_many_images(size: int) -> None:
    assert len(read(Path("home"), Options(size=size))) == size


def test_drawing_up_a_large_cohort_draws_nothing() -> None:
    import time

    began = time.process_time()
    assert len(read(Path("home"), Options(size=20_000))) == 20_000
    # Drawn, they would take at least a millisecond each.
    assert time.process_time() - began < 10


def test_a_wrong_domain_size_or_seed_is_an_error() -> None:
    with pytest.raises(UnknownNameError, match="choose one of home, abroad"):
        read_cohort("synthetic:mars")
    with pytest.raises(SchemaError, match="size is 0"):
        read(Path("home"), Options(size=0))
    with pytest.raises(SchemaError, match="seed is -1"):
        read(Path("home"), Options(seed=-1))


def test_a_split_by_image_flatters() -> None:
    """Patient effects are there to be leaked: nearest neighbours of an image are its patient's."""
    cohort = read(Path("home"), Options(size=80))
    pixels = np.stack(
        [np.asarray(decode(image.read()).resize((16, 16))) for image in cohort.images]
    )
    flat = pixels.reshape(80, -1).astype(float)
    distance = ((flat[:, None] - flat[None]) ** 2).sum(-1) + np.eye(80) * 1e12
    same = cohort.patient[distance.argmin(1)] == cohort.patient
    count = np.unique(cohort.patient, return_counts=True)[1]
    chance = (count * (count - 1)).sum() / (80 * 79)
    assert same.mean() > 3 * chance


@pytest.mark.parametrize("size", [0, -1, 10**12])
def test_a_size_that_nobody_means_is_refused_before_anything_is_drawn(size: int) -> None:
    with pytest.raises(SchemaError, match="not a number of images"):
        read(Path("home"), Options(size=size))
