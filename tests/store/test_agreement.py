"""Fingerprint and overlap lie beside the contract, and go where the feature set goes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedcache.contract import Contract, Preprocessing
from embedcache.errors import FingerprintDiffersError
from embedcache.probing.units import made_by
from embedcache.provenance import Fingerprint, Overlap, provenance
from embedcache.store.agreement import require_agreement
from embedcache.store.merge import merge
from embedcache.store.reader import open_store
from embedcache.store.writer import create_or_open_for_writing

CONTRACT = Contract(
    architecture="stand-in",
    code="1",
    weights="none",
    preprocessing=Preprocessing(height=8, width=8, mean=(0.0,), std=(1.0,)),
    pooling="none",
    dim=2,
)
HERE = Fingerprint(
    norm=2.0,
    projection=(1.0, -2.0, 0.5, 0.0),
    packages={"torch": "2.13.0"},
    system="Linux x86_64",
    device="cpu",
)
SEEN = (Overlap(cohort="fetal-planes-db", answer="yes", source="README", checked="2026-11-24"),)


def moved(by: float, device: str = "NVIDIA H100") -> Fingerprint:
    """The fingerprint of a vector that lies so far away, relative to the norm."""
    shifted = tuple(value + by * HERE.norm for value in HERE.projection)
    return replace(HERE, projection=shifted, device=device, packages={"torch": "2.20.0"})


def store(path: Path, image: int, fingerprint: Fingerprint | None) -> Path:
    writer = create_or_open_for_writing(path)
    digest = np.full((1, 32), image, np.uint8)
    rows = writer.add_images(digest, np.array([[8, 8]], np.int32), ["PNG"], ["L"])
    about = {"name": "usf-mae", "licence": "MIT", "citation": "Doe", "batch": 4}
    with writer.lease(CONTRACT, **about, fingerprint=fingerprint, overlap=SEEN) as lease:  # type: ignore[arg-type]  # a dict of two types
        lease.start_run(provenance())
        lease.put(rows, np.ones((1, 2), np.float32))
    writer.seal()
    return path


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-4), ("bf16", 1e-1), ("fp16", 1e-2)])
def test_each_precision_has_its_tolerance(precision: str, allowed: float) -> None:
    contract = replace(CONTRACT, precision=precision)  # type: ignore[arg-type]  # parametrised
    require_agreement("usfm", contract, HERE, moved(allowed * 0.99))
    with pytest.raises(FingerprintDiffersError) as caught:
        require_agreement("usfm", contract, HERE, moved(allowed * 1.01))
    assert "cpu, torch 2.13.0, Linux x86_64 and NVIDIA H100, torch 2.20.0" in str(caught.value)


def test_nothing_is_refused_where_nothing_was_recorded() -> None:
    require_agreement("usfm", CONTRACT, None, HERE)
    require_agreement("usfm", CONTRACT, HERE, None)


def test_stores_of_machines_that_agree_are_merged_with_all_that_is_known(tmp_path: Path) -> None:
    first, second = store(tmp_path / "a", 1, HERE), store(tmp_path / "b", 2, moved(1e-6))
    merge(first, second, tmp_path / "both")
    (one,) = open_store(tmp_path / "both").feature_sets()
    assert one.done == 2
    assert one.fingerprint == HERE
    assert one.overlap == SEEN


def test_stores_of_machines_that_disagree_are_not_merged(tmp_path: Path) -> None:
    first, second = store(tmp_path / "a", 1, HERE), store(tmp_path / "b", 2, moved(1e-2))
    with pytest.raises(FingerprintDiffersError, match="usf-mae"):
        merge(first, second, tmp_path / "both")
    assert not (tmp_path / "both").exists()


def test_predictions_say_what_the_feature_set_says(tmp_path: Path) -> None:
    (one,) = open_store(store(tmp_path / "a", 1, HERE)).feature_sets()
    maker = made_by(one, encoder="usf-mae", arm="knn", settings={})
    assert (maker.overlap, maker.licence) == (SEEN, "MIT")
