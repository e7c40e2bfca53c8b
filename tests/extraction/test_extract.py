"""Extraction encodes what is missing, once, and says what failed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedcache.cohorts.cohort import Cohort
from embedcache.contract import Contract
from embedcache.errors import CohortTwiceError, PathMissingError
from embedcache.extraction.extract import Extraction, extract
from embedcache.extraction.plan import plan
from embedcache.images.source import ImageFile
from embedcache.store.reader import FeatureStore, open_store
from embedcache.testing.stand_ins import paced


def draw(folder: Path, number: int, seed: int = 0) -> list[Path]:
    """Grey noise pictures of uneven sizes, as PNG files."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(seed)
    files = []
    for index in range(number):
        pixels = random.integers(1, 256, (40 + index % 7, 50 + index % 5), np.uint8)
        files.append(folder / f"Patient{index:03}_secret.png")
        Image.fromarray(pixels).save(files[-1])
    return files


def cohort(files: list[Path], name: str = "home", label: list[int] | None = None) -> Cohort:
    return Cohort(
        name=name,
        classes=("a", "b"),
        images=tuple(ImageFile(file) for file in files),
        label=np.array(label or [index % 2 for index in range(len(files))], np.int16),
        patient=np.array([f"p{index // 2}" for index in range(len(files))]),
        strata={},
        namespace=name,
        reader="folder",
    )


def expected(file: Path) -> np.ndarray:
    """The stand-in's vector, by PIL and numpy alone."""
    with Image.open(file) as picture:
        small = picture.convert("L").resize((16, 16), Image.Resampling.BILINEAR)
    return np.asarray(small, np.float32).ravel() / np.float32(255)


def only(store: Path) -> tuple[FeatureStore, str]:
    opened = open_store(store)
    (feature,) = opened.feature_sets()
    return opened, feature.id


def counted(log: Path) -> int:
    return sum(int(line) for line in log.read_text().split()) if log.exists() else 0


def test_every_image_gets_its_own_vector(tmp_path: Path) -> None:
    files = draw(tmp_path / "images", 70)
    extract(tmp_path / "s.zarr", [cohort(files)], [paced(0)], batch=16)
    store, feature = only(tmp_path / "s.zarr")
    vectors = store.features(feature, store.cohort("home").row)
    assert np.array_equal(vectors, np.stack([expected(file) for file in files]))


def test_a_second_run_encodes_nothing_and_builds_no_model(tmp_path: Path) -> None:
    files, log = draw(tmp_path / "images", 20), tmp_path / "log"
    extract(tmp_path / "s.zarr", [cohort(files)], [paced(0, log)])
    unbuildable = dataclasses.replace(paced(0, log), spec=None)
    again = extract(tmp_path / "s.zarr", [cohort(files)], [unbuildable])
    assert counted(log) == 20
    assert (again.encoders[0].cached, again.encoders[0].encoded) == (20, 0)


def test_a_grown_cohort_encodes_only_what_is_new(tmp_path: Path) -> None:
    files, log = draw(tmp_path / "images", 30), tmp_path / "log"
    extract(tmp_path / "s.zarr", [cohort(files[:21])], [paced(0, log)], batch=8)
    extract(tmp_path / "s.zarr", [cohort(files)], [paced(0, log)], batch=8)
    assert counted(log) == 30


def test_a_copy_under_two_names_and_cohorts_is_encoded_once(tmp_path: Path) -> None:
    files, log = draw(tmp_path / "images", 6), tmp_path / "log"
    copy = tmp_path / "copy.png"
    copy.write_bytes(files[0].read_bytes())
    extract(
        tmp_path / "s.zarr", [cohort([*files, copy]), cohort([copy], "abroad")], [paced(0, log)]
    )
    assert counted(log) == 6
    store, _ = only(tmp_path / "s.zarr")
    assert store.cohort("home").row[[0, 6]].tolist() == [0, 0]
    assert store.cohort("abroad").row.tolist() == [0]


def test_a_vector_does_not_depend_on_where_a_run_began(tmp_path: Path) -> None:
    files = draw(tmp_path / "images", 25)
    extract(tmp_path / "one.zarr", [cohort(files)], [paced(0)], batch=8)
    for end in (3, 11, 12, 25):
        extract(tmp_path / "many.zarr", [cohort(files[:end])], [paced(0)], batch=8)
    one, feature = only(tmp_path / "one.zarr")
    many, _ = only(tmp_path / "many.zarr")
    assert one.content_digest(feature) == many.content_digest(feature)


def test_a_changed_image_is_another_row_and_a_new_label_is_not(tmp_path: Path) -> None:
    files, log = draw(tmp_path / "images", 4), tmp_path / "log"
    extract(tmp_path / "s.zarr", [cohort(files)], [paced(0, log)])
    extract(tmp_path / "s.zarr", [cohort(files, label=[1, 1, 0, 0])], [paced(0, log)])
    assert counted(log) == 4
    draw(tmp_path / "images", 1, seed=9)
    extract(tmp_path / "s.zarr", [cohort(files)], [paced(0, log)])
    assert counted(log) == 5
    store, feature = only(tmp_path / "s.zarr")
    assert store.cohort("home").row.tolist() == [4, 1, 2, 3]
    assert np.array_equal(store.features(feature, np.array([4]))[0], expected(files[0]))


def spoil(folder: Path) -> list[Path]:
    """Five images that cannot be used, each in its way."""
    whole = draw(folder, 1, seed=3)[0].read_bytes()
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "text.png").write_bytes(b"not an image at all")
    Image.fromarray(np.full((20, 20), 3000, np.uint16)).save(folder / "deep.png")
    return [folder / f"{name}.png" for name in ("absent", "empty", "cut", "text", "deep")]


@pytest.fixture
def spoilt(tmp_path: Path) -> tuple[list[Path], Extraction]:
    files = [*draw(tmp_path / "images", 10), *spoil(tmp_path / "bad")]
    return files, extract(tmp_path / "s.zarr", [cohort(files)], [paced(0), paced(0, name="other")])


def test_images_that_fail_are_named_and_the_rest_is_kept(
    spoilt: tuple[list[Path], Extraction], tmp_path: Path
) -> None:
    files, done = spoilt
    assert [failure.row for failure in done.failures] == [10, 11, 12, 13, 14]
    assert len({failure.reason for failure in done.failures}) == 5
    assert done.failures[0].reason == "the file is missing"
    assert done.failures[0].file == "absent.png"
    store = open_store(tmp_path / "s.zarr")
    for feature in store.feature_sets():
        vectors = store.features(feature.id, store.cohort("home").row[:10])
        assert np.array_equal(vectors, np.stack([expected(file) for file in files[:10]]))


def test_an_image_that_fails_in_every_run_is_reported_in_every_run(
    spoilt: tuple[list[Path], Extraction], tmp_path: Path
) -> None:
    files, first = spoilt
    again = extract(tmp_path / "s.zarr", [cohort(files)], [paced(0), paced(0, name="other")])
    assert again.failures == first.failures


def test_a_mended_image_is_encoded_in_the_next_run(
    spoilt: tuple[list[Path], Extraction], tmp_path: Path
) -> None:
    files, _ = spoilt
    for file in files[10:]:
        file.write_bytes(draw(tmp_path / "new", 1, seed=len(file.name))[0].read_bytes())
    again = extract(tmp_path / "s.zarr", [cohort(files)], [paced(0)])
    assert again.failures == ()


def test_no_file_name_reaches_the_store(
    spoilt: tuple[list[Path], Extraction], tmp_path: Path
) -> None:
    for file in (tmp_path / "s.zarr").rglob("*"):
        assert file.is_dir() or not any(
            word in file.read_bytes() for word in (b"secret", b"absent", b"deep.png")
        )


def test_an_image_under_two_labels_is_named(tmp_path: Path) -> None:
    files = draw(tmp_path / "images", 3)
    done = extract(
        tmp_path / "s.zarr", [cohort([*files, files[0]], label=[0, 1, 0, 1])], [paced(0)]
    )
    (name, digest) = done.two_labels[0]
    assert (name, digest) == ("home", ImageFile(files[0]).read().digest.hex())


def test_vectors_that_are_not_finite_are_failures(tmp_path: Path) -> None:
    broken = paced(0)
    nan = dataclasses.replace(
        broken.spec, compute=lambda batch: np.full((len(batch), 256), np.nan, np.float32)
    )
    files = draw(tmp_path / "images", 3)
    done = extract(tmp_path / "s.zarr", [cohort(files)], [dataclasses.replace(broken, spec=nan)])
    assert [failure.reason for failure in done.failures] == [
        "the encoder's output is not finite"
    ] * 3


def test_two_cohorts_of_one_name_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    files = draw(tmp_path / "images", 2)
    with pytest.raises(CohortTwiceError, match="home"):
        extract(tmp_path / "s.zarr", [cohort(files), cohort(files)], [paced(0)])
    assert not (tmp_path / "s.zarr").exists()


def test_a_missing_folder_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError):
        extract(tmp_path / "s.zarr", [f"x=fetal-planes-db:{tmp_path / 'none'}"], [paced(0)])
    assert not (tmp_path / "s.zarr").exists()


def test_a_plan_counts_what_is_missing_and_writes_nothing(tmp_path: Path) -> None:
    files = draw(tmp_path / "images", 12)
    found = plan(tmp_path / "s.zarr", [cohort(files)], [paced(0.001)])
    (planned,) = found.encoders
    assert (planned.images, planned.missing, planned.bytes) == (12, 12, 12 * 256 * 4)
    assert [(one.encoders, one.images) for one in found.passes] == [(("paced",), 12)]
    assert found.passes[0].seconds >= 12 * 0.001
    assert not (tmp_path / "s.zarr").exists()
    extract(tmp_path / "s.zarr", [cohort(files[:8])], [paced(0)])
    found = plan(tmp_path / "s.zarr", [cohort(files)], [paced(0), paced(0, name="other")])
    assert [(one.images, one.missing) for one in found.encoders] == [(12, 4), (12, 12)]
    assert [one.images for one in found.passes] == [12]
    # Rows are the store's, wherever a cohort lists an image; one it cannot read is none.
    absent = tmp_path / "images" / "absent.png"
    found = plan(tmp_path / "s.zarr", [cohort([absent, *files[::-1], files[9]])], [paced(0)])
    assert [(one.images, one.missing) for one in found.encoders] == [(12, 4)]


def test_an_encoder_asked_for_twice_runs_once(tmp_path: Path) -> None:
    files, log = draw(tmp_path / "images", 5), tmp_path / "log"
    done = extract(tmp_path / "s.zarr", [cohort(files)], [paced(0, log), paced(0, log)])
    assert counted(log) == 5
    assert len(done.encoders) == 1


def test_the_contract_of_a_stand_in_is_that_of_its_arithmetic() -> None:
    assert isinstance(paced(0).contract, Contract)
    assert paced(0).contract.feature_id != paced(0, name="other").contract.feature_id
