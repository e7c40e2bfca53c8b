"""An inspection counts right, finds what is wrong, and names nobody."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.inspect import inspect
from embedcache.cohorts.inspection import ClassCount, Copies, Inspection, Overlap, SplitLeak
from embedcache.cohorts.readers.african_planes import READER
from embedcache.errors import CohortTwiceError
from embedcache.images.source import ImageFile, RawImage
from embedcache.progress import Stage
from embedcache.schema import plain


def scene(seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).normal(size=(90, 120))
    smooth = gaussian_filter(noise, 3)
    return Image.fromarray(np.clip(128 + 40 * smooth / smooth.std(), 0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Eleven rows with one of everything; patients and files have names to look for."""
    folder = tmp_path_factory.mktemp("hospital")
    for name, seed in (("ann1", 1), ("ann2", 2), ("bob1", 3), ("cat1", 4)):
        scene(seed).save(folder / f"{name}.png")
    (folder / "bob2.png").write_bytes((folder / "ann1.png").read_bytes())
    scene(3).resize((300, 200), Image.Resampling.BICUBIC).save(folder / "cat2.jpg", quality=80)
    scene(4).convert("RGB").resize((60, 50)).save(folder / "cat3.png")
    (folder / "dan1.png").write_bytes(b"")
    (folder / "dan2.png").write_bytes((folder / "ann1.png").read_bytes()[:900])
    table = [  # file, label, patient, machine, split
        ("ann1.png", "head", "Annabel", "old", "train"),
        ("ann2.png", "head", "Annabel", "new", "train"),
        ("ann2.png", "head", "Annabel", "new", "train"),
        ("bob1.png", "femur", "Bobby", "old", "test"),
        ("bob2.png", "femur", "Bobby", "old", "test"),
        ("cat1.png", "femur", "Cathy", "old", "train"),
        ("cat2.jpg", "femur", "Cathy", "old", "train"),
        ("cat3.png", "head", "Cathy", "", "test"),
        ("dan1.png", "head", "Danny", "old", "train"),
        ("dan2.png", "head", "Danny", "old", "train"),
        ("dan3.png", "head", "Danny", "old", "train"),
    ]
    files, labels, patients, machines, splits = zip(*table, strict=True)
    cohort = Cohort.from_columns(
        classes=["head", "femur", "heart"],
        images=[ImageFile(folder / file) for file in files],
        label=labels,
        patient=patients,
        strata={"machine": machines, "split": splits},
        name="hospital",
    )
    return replace(cohort, reader="table")


@pytest.fixture(scope="module")
def found(hospital: Cohort) -> Inspection:
    return inspect([hospital])


def test_rows_images_and_patients_are_counted(found: Inspection) -> None:
    one = found.cohorts[0]
    # ann1 = bob2, so six distinct readable images: ann1, ann2, bob1, cat1, cat2, cat3.
    assert (one.rows, one.images, one.patients) == (11, 6, 4)
    assert (one.rows_per_patient_median, one.rows_per_patient_max) == (3, 3)
    assert one.classes == (
        ClassCount(name="head", rows=7, images=3, patients=3),
        ClassCount(name="femur", rows=4, images=4, patients=2),
        ClassCount(name="heart", rows=0, images=0, patients=0),
    )


def test_strata_are_counted_and_patients_with_several_values(found: Inspection) -> None:
    one = found.cohorts[0]
    assert one.strata == {
        "machine": {"old": 8, "new": 2, "not given": 1},
        "split": {"train": 8, "test": 3},
    }
    # Annabel was seen by two machines; Cathy's empty cell is no second machine.
    assert one.several_values == {"machine": 1}


def test_sizes_modes_and_formats_are_those_of_the_files(found: Inspection) -> None:
    one = found.cohorts[0]
    assert one.sizes == {"120 x 90": 4, "300 x 200": 1, "60 x 50": 1}
    assert one.modes == {"L": 5, "RGB": 1}
    assert one.formats == {"PNG": 5, "JPEG": 1}


def test_identical_images_are_told_apart_by_whether_patients_share_them(found: Inspection) -> None:
    one = found.cohorts[0]
    assert one.within_patients == Copies(groups=1, rows=2)
    assert one.across_patients == Copies(groups=1, rows=2)


def test_an_image_under_two_labels_is_named(hospital: Cohort, found: Inspection) -> None:
    (two,) = found.cohorts[0].two_labels
    digest = hashlib.sha256(hospital.images[0].read().data).hexdigest()
    assert (two.digest, two.labels, two.rows) == (digest, ("head", "femur"), (0, 4))


def test_unreadable_rows_are_listed_by_reason(found: Inspection) -> None:
    unreadable = found.cohorts[0].unreadable
    assert unreadable["the file is empty"] == (8,)
    assert unreadable["the file is missing"] == (10,)
    assert sorted(row for rows in unreadable.values() for row in rows) == [8, 9, 10]


def test_what_leaks_across_the_split_is_counted(found: Inspection) -> None:
    # Cathy lies on both sides; so does ann1 = bob2; bob1 (test) is cat2 (train) rescaled.
    leak = SplitLeak(patients=1, images=1, near_duplicates=1)
    assert found.cohorts[0].split == leak


def test_near_duplicates_within_a_patient_are_only_counted(found: Inspection) -> None:
    (near,) = found.near_pairs
    assert sorted(near.rows) == [3, 6]
    assert near.cohorts == ("hospital", "hospital")
    assert near.labels == ("femur", "femur")
    assert found.near_within_patients == 1


def test_json_names_no_patient_and_no_file(hospital: Cohort, found: Inspection) -> None:
    text = json.dumps(plain(found))
    secrets = {*hospital.patient.tolist(), "ann1", "bob2", "dan3", ".png", ".jpg", "hospital0"}
    assert not [secret for secret in secrets if secret in text]


def test_cohorts_that_share_images_and_patients_say_so(hospital: Cohort) -> None:
    annex = replace(hospital, name="annex")
    shared = inspect([hospital, annex])
    assert shared.shared == (Overlap(cohorts=("hospital", "annex"), images=6, patients=4),)
    # Patients of one namespace are the same people, so no pair is between two patients but Cathy's.
    assert len(shared.near_pairs) == 1


def test_patients_of_two_namespaces_are_two_people(hospital: Cohort) -> None:
    elsewhere = replace(hospital, name="annex", namespace="annex")
    assert inspect([hospital, elsewhere]).shared == (
        Overlap(cohorts=("hospital", "annex"), images=6, patients=0),
    )


def test_two_cohorts_of_one_name_are_refused(hospital: Cohort) -> None:
    with pytest.raises(CohortTwiceError, match="two cohorts are called 'hospital'"):
        inspect([hospital, hospital])


def test_a_cohort_without_a_readable_image_is_still_inspected(tmp_path: Path) -> None:
    cohort = Cohort.from_columns(
        classes=["a"], images=[ImageFile(tmp_path / "no.png")], label=["a"], patient=["p"], name="x"
    )
    found = inspect([cohort])
    assert found.cohorts[0].images == 0
    assert found.cohorts[0].unreadable == {"the file is missing": (0,)}


class Counting:
    """A source that counts how often it is read."""

    def __init__(self, path: Path) -> None:
        self.path, self.reads = path, 0

    def read(self) -> RawImage:
        self.reads += 1
        return ImageFile(self.path).read()


class Watching:
    """A progress that sums up what it is told."""

    def __init__(self) -> None:
        self.done: dict[str, int] = defaultdict(int)
        self.total: dict[str, int] = {}
        self._name = ""

    @contextmanager
    def stage(self, name: str, total: int, unit: str) -> Iterator[Stage]:
        self._name, self.total[name] = name, total
        yield self

    def advance(self, units: int = 1) -> None:
        self.done[self._name] += units

    def remark(self, text: str) -> None:
        raise AssertionError(text)

    def note(self, line: str) -> None:
        raise AssertionError(line)


def test_every_image_is_read_once_and_progress_ends_at_its_total(tmp_path: Path) -> None:
    scene(1).save(tmp_path / "a.png")
    sources = [Counting(tmp_path / "a.png") for _ in range(30)]
    cohort = Cohort.from_columns(
        classes=["a"], images=sources, label=["a"] * 30, patient=["p"] * 30, name="x"
    )
    watching = Watching()
    inspect([cohort], watching)
    assert [source.reads for source in sources] == [1] * 30
    assert watching.done == watching.total == {"reading": 30, "comparing": 1}


@pytest.fixture(scope="module")
def africa(shared_cohorts: Path) -> Cohort:
    return replace(READER.read(shared_cohorts / "african_planes"), name="africa")


def test_the_african_cohort_has_its_published_copies(africa: Cohort, shared_cohorts: Path) -> None:
    found = inspect([africa])
    one = found.cohorts[0]
    # 24 pairs in Algeria, 3 in Egypt, none in Ghana; both images of a pair have one label.
    assert (one.rows, one.images, one.patients) == (275, 248, 75)
    assert one.across_patients == Copies(groups=27, rows=54)
    assert one.within_patients == Copies(groups=0, rows=0)
    assert one.two_labels == ()
    assert one.unreadable == {}
    assert one.split is not None
    assert one.split.images == copies_across_the_split(shared_cohorts / "african_planes")
    # Egypt's patients 1 and 3 are known near-duplicates in planes 0 and 3.
    names = [sorted(africa.images[row].path.stem for row in near.rows) for near in found.near_pairs]  # type: ignore[attr-defined]  # this reader's sources are files
    for plane in ("plane0", "plane3"):
        assert [f"patient001_EGY_{plane}", f"patient003_EGY_{plane}"] in names
    assert not [name for pair in names for name in pair if "EGY" not in name]


def copies_across_the_split(folder: Path) -> int:
    """Count them by another way: the publisher's table and the files, read here."""
    sides = defaultdict(set)
    with (folder / "African_planes_database.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            image = folder / row["Center"] / f"{row['Filename']}.png"
            sides[hashlib.md5(image.read_bytes()).digest()].add(row["Train"])
    return sum(len(found) == 2 for found in sides.values())


@pytest.mark.parametrize(("site", "pairs"), [("Algeria", 24), ("Egypt", 3), ("Ghana", 0)])
def test_a_site_has_its_published_pairs(africa: Cohort, site: str, pairs: int) -> None:
    rows = np.flatnonzero(africa.strata["site"] == site)
    part = replace(
        africa,
        images=tuple(africa.images[row] for row in rows),
        label=africa.label[rows],
        patient=africa.patient[rows],
        strata={name: column[rows] for name, column in africa.strata.items()},
    )
    assert inspect([part]).cohorts[0].across_patients == Copies(groups=pairs, rows=2 * pairs)
