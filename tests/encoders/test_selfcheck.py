"""An encoder's fingerprint tells rounding from another computation."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedcache.cohorts.reference import read_cohort
from embedcache.encoders.network import NetworkEncoder
from embedcache.encoders.resolve import load_encoder, resolve
from embedcache.encoders.selfcheck import fingerprint, pattern, self_check
from embedcache.errors import FingerprintDiffersError
from embedcache.extraction.extract import extract
from embedcache.provenance import Fingerprint
from embedcache.store.reader import open_store


def test_the_pattern_has_the_same_bytes_everywhere() -> None:
    # A restatement in plain Python, without numpy.
    noise = hashlib.shake_256(b"embedcache self-check picture").digest(360 * 480)
    expected = bytearray()
    for row in range(360):
        for column in range(480):
            red = row * 255 // 359
            green = (row // 24 + column // 40) % 2 * 160 + column * 95 // 479
            inside = (row - 180) ** 2 + (column - 240) ** 2 < 150**2
            blue = noise[row * 480 + column] // 2 + red // 2 if inside else 0
            expected += bytes((red, green, blue))
    assert pattern().size == (480, 360)
    assert pattern().tobytes() == bytes(expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(1e-5, 1e-1))
def test_the_distance_of_fingerprints_is_that_of_the_vectors(seed: int, share: float) -> None:
    draw = np.random.default_rng(seed)
    first = draw.normal(size=512)
    step = draw.normal(size=512)
    second = first + step * share * np.linalg.norm(first) / np.linalg.norm(step)
    pair = [fingerprint(vector.astype(np.float32), "cpu") for vector in (first, second)]
    assert pair[0] is not None
    assert pair[1] is not None
    # 32 directions: a standard error of an eighth of the distance, so five of them either way.
    longer = max(1, np.linalg.norm(second) / np.linalg.norm(first))
    assert share * 0.3 < pair[0].distance(pair[1]) * longer < share * 1.7


def test_vectors_of_two_lengths_are_never_the_same() -> None:
    one = fingerprint(np.ones(8, np.float32), "cpu")
    assert one is not None
    assert one.distance(dataclasses.replace(one, projection=())) == np.inf
    nothing = fingerprint(np.zeros(8, np.float32), "cpu")
    assert nothing is not None
    assert nothing.distance(nothing) == 0


def test_a_vector_that_is_not_finite_has_no_fingerprint() -> None:
    assert fingerprint(np.array([1, np.inf], np.float32), "cpu") is None


def test_a_fingerprint_is_of_one_picture_and_repeats_to_the_bit() -> None:
    encoder = load_encoder("timm:test_vit=random")
    (once,), (again,) = self_check([encoder]), self_check([encoder])
    assert once == again
    assert once is not None
    vector = encoder.encode(encoder.prepare(pattern())[None])[0]
    assert once.norm == pytest.approx(np.linalg.norm(vector), rel=1e-6)
    assert once.device == "cpu"
    assert "torch " in once.machine
    assert "timm " in once.machine


def test_what_has_no_network_computes_the_same_everywhere() -> None:
    assert self_check([load_encoder("pixels")]) == [None]


def put(store: Path, seed: int = 1, **how: Any) -> None:
    cohort = dataclasses.replace(read_cohort("home=synthetic:home"), name="home")
    some = dataclasses.replace(
        cohort,
        images=cohort.images[: 4 * seed],
        label=cohort.label[: 4 * seed],
        patient=cohort.patient[: 4 * seed],
        strata={name: values[: 4 * seed] for name, values in cohort.strata.items()},
    )
    extract(store, [some], ["timm:test_vit=random"], batch=4, **how)


def stored(store: Path) -> Fingerprint:
    (one,) = open_store(store).feature_sets()
    assert one.fingerprint is not None
    return one.fingerprint


def test_the_first_run_s_fingerprint_lies_beside_the_contract(tmp_path: Path) -> None:
    put(tmp_path / "s.zarr")
    (expected,) = self_check([load_encoder("timm:test_vit=random")])
    (one,) = open_store(tmp_path / "s.zarr").feature_sets()
    assert one.fingerprint == expected
    assert one.id == resolve("timm:test_vit=random").contract.feature_id


def test_another_computation_is_refused_with_both_machines_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "s.zarr")
    before = open_store(tmp_path / "s.zarr").feature_sets()
    original = NetworkEncoder.__init__

    def off_by_a_little(self: NetworkEncoder, module, *args, **kwargs) -> None:
        # A kernel that is wrong by a part in a hundred: larger than rounding, invisible to people.
        import torch

        class Wrong(torch.nn.Module):
            def forward(self, picture):
                out = module(picture)
                return out + 0.01 * out.norm(dim=1, keepdim=True) / out.shape[1] ** 0.5

        original(self, Wrong(), *args, **kwargs)

    monkeypatch.setattr(NetworkEncoder, "__init__", off_by_a_little)
    with pytest.raises(FingerprintDiffersError, match=r"cpu, torch .* and cpu, torch .* 0\.0001"):
        put(tmp_path / "s.zarr", seed=2)
    assert open_store(tmp_path / "s.zarr").feature_sets() == before


def test_another_device_s_rounding_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "s.zarr")
    first = stored(tmp_path / "s.zarr")
    from embedcache.extraction import encode

    def elsewhere(encoders):
        (here,) = self_check(encoders)
        rounded = tuple(value + 1e-5 * here.norm for value in here.projection)
        return [dataclasses.replace(here, projection=rounded, device="NVIDIA H100")]

    monkeypatch.setattr(encode, "self_check", elsewhere)
    put(tmp_path / "s.zarr", seed=2)
    assert stored(tmp_path / "s.zarr") == first


def test_features_without_a_self_check_are_joined_with_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from embedcache.cli.show import PlainLines
    from embedcache.extraction import encode

    monkeypatch.setattr(encode, "self_check", lambda encoders: [None] * len(encoders))
    put(tmp_path / "s.zarr")
    monkeypatch.undo()
    (one,) = open_store(tmp_path / "s.zarr").feature_sets()
    assert one.fingerprint is None
    put(tmp_path / "s.zarr", seed=2, progress=PlainLines())
    assert "nobody recorded a self-check" in capsys.readouterr().err


def test_a_fingerprint_survives_the_store_s_json() -> None:
    from embedcache.schema import from_plain, plain

    one = fingerprint(np.arange(5, dtype=np.float32), "cpu")
    assert from_plain(Fingerprint, plain(one), "here") == one
