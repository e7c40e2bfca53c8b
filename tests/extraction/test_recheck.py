"""A store is held against its images and encoders: what differs is named, what does not is not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from embedcache.contract import TOLERANCE
from embedcache.errors import FeatureNotStoredError
from embedcache.extraction.extract import extract
from embedcache.extraction.recheck import recheck_images, recompute
from embedcache.images.source import ImageFile
from embedcache.store.reader import FeatureStore, open_store
from embedcache.store.writer import create_or_open_for_writing
from embedcache.testing.paced_run import Speckle, speckles
from embedcache.testing.stand_ins import paced


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    path = tmp_path_factory.mktemp("recheck") / "a.zarr"
    extract(path, [speckles(50)], [paced(0)], batch=8, workers=1)
    return open_store(path)


def test_the_same_images_are_all_there(store) -> None:
    (found,) = recheck_images(store, [speckles(50)])
    assert found.sound
    assert (found.images, found.unreadable) == (50, 0)


def test_another_image_in_a_place_is_strange_and_what_was_there_is_gone(store) -> None:
    cohort = speckles(50)
    images = [*cohort.images[:7], Speckle(999), *cohort.images[8:]]
    (found,) = recheck_images(store, [dataclasses.replace(cohort, images=tuple(images))])
    assert (found.strange, found.gone) == ((7,), (7,))


def test_an_image_that_cannot_be_read_counts_and_is_gone(store) -> None:
    cohort = speckles(50)
    images = (ImageFile(Path("nowhere.png")), *cohort.images[1:])
    (found,) = recheck_images(store, [dataclasses.replace(cohort, images=images)])
    assert (found.unreadable, found.strange, found.gone) == (1, (), (0,))


def test_random_rows_encoded_again_are_the_same_to_the_bit(store) -> None:
    for seed in range(3):
        (found,) = recompute(store, [speckles(50)], [paced(0)], rows=9, seed=seed)
        assert (found.rows, found.largest, found.beyond) == (9, 0.0, ())


def test_more_rows_than_there_are_means_all(store) -> None:
    (found,) = recompute(store, [speckles(20)], [paced(0)], rows=1000, seed=0)
    assert found.rows == 20


def test_a_vector_beyond_tolerance_is_named_and_one_within_is_not(tmp_path) -> None:
    # A forger's store: sealed, sound by its manifest, two of its vectors changed.
    whole, forged = tmp_path / "a.zarr", tmp_path / "b.zarr"
    extract(whole, [speckles(20)], [paced(0)], batch=8, workers=1)
    (one,) = open_store(whole).feature_sets()
    vectors = open_store(whole).to_numpy(one.id)
    vectors[3] *= 1 + TOLERANCE["fp32"] / 2
    vectors[11] *= 1 + TOLERANCE["fp32"] * 2
    table = open_store(whole).images
    writer = create_or_open_for_writing(forged)
    rows = writer.add_images(table.digest, table.size, ["x"] * 20, ["L"] * 20)
    with writer.lease(one.contract, name="paced", licence="", citation="", batch=8) as lease:
        lease.start_run(one.runs[0].provenance)
        lease.put(rows, vectors)
    writer.seal()
    (found,) = recompute(open_store(forged), [speckles(20)], [paced(0)], rows=20, seed=0)
    assert found.beyond == (11,)
    assert np.isclose(found.largest, 2e-4, rtol=1e-2)


def test_an_encoder_that_the_store_has_no_features_of_is_refused(store) -> None:
    with pytest.raises(FeatureNotStoredError, match="weights and variants"):
        recompute(store, [speckles(5)], [paced(0, name="other")], rows=1, seed=0)
