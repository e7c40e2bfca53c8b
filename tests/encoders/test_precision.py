"""Half precision runs every kind of network on a CPU, and is refused where a device lacks it."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest

from embedcache.contract import TOLERANCE
from embedcache.encoders.network import require_precision
from embedcache.encoders.resolve import load_encoder
from embedcache.encoders.selfcheck import self_check
from embedcache.errors import PrecisionUnsupportedError

KINDS = (
    "timm:test_vit",
    "timm:test_efficientnet",
    "timm:test_convnext",
    "timm:test_resnet",
    "open-clip:ViT-S-32-alt",
)


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_runs_on_a_cpu_within_its_tolerance(kind: str) -> None:
    (full,) = self_check([load_encoder(f"{kind}=random")])
    assert full is not None
    for half in ("bf16", "fp16"):
        encoder = load_encoder(f"{kind}@{half}=random")
        (found,) = self_check([encoder])
        assert found is not None
        # Two machines' half precision differ by less than half precision and full.
        assert 0 < full.distance(found) < TOLERANCE[encoder.contract.precision]
        side = encoder.contract.preprocessing.height
        vector = encoder.encode(np.zeros((2, 3, side, side), np.uint8))
        assert vector.dtype == np.float32
        assert np.isfinite(vector).all()


def test_a_device_without_autocast_is_refused_by_name() -> None:
    # torch's device without storage, for which it has no autocast.
    for precision in ("bf16", "fp16"):
        with pytest.raises(PrecisionUnsupportedError, match=f"meta cannot run usfm at {precision}"):
            require_precision("usfm", "meta", precision)
    require_precision("usfm", "meta", "fp32")


def test_a_torch_that_only_warns_and_computes_in_full_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import torch

    # What torch does with a type that it does not know on a device: a warning, then float32.
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    with pytest.raises(PrecisionUnsupportedError, match="cpu cannot run usfm at fp16"):
        require_precision("usfm", "cpu", "fp16")
