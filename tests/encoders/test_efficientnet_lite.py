"""EfficientNet-Lite0: the package's tensors under timm's names, the features of timm's network."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image

from embedcache.encoders.checkpoint import read_state
from embedcache.encoders.families.efficientnet_lite import LITE0, build, timm_name
from embedcache.encoders.resolve import load_encoder, resolve
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.errors import WeightsMismatchError


@pytest.fixture(scope="module")
def published() -> dict[str, torch.Tensor]:
    return read_state(LITE0.sources[0].find("efficientnet-lite0"))


@pytest.fixture(scope="module")
def in_order(published: dict[str, torch.Tensor]) -> torch.nn.Module:
    """The network with the published tensors laid in by their order, names unseen."""
    repair_torchvision()
    import timm

    model = timm.create_model("tf_efficientnet_lite0", num_classes=1000)
    tensors = dict(zip(model.state_dict(), published.values(), strict=True))
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def test_the_weight_file_is_the_one_whose_hash_its_name_carries() -> None:
    weights = resolve("efficientnet-lite0").contract.weights
    # torch.hub's convention: the first eight digits of the sha256 end the file's name.
    assert weights.startswith("sha256:57934424")


def test_names_map_each_tensor_to_where_its_order_puts_it(
    published: dict[str, torch.Tensor], in_order: torch.nn.Module
) -> None:
    assert len(published) == 296
    assert [timm_name(key) for key in published] == list(in_order.state_dict())


@pytest.mark.parametrize(
    "key", ["_blocks.16._bn0.weight", "_blocks.0._expand_conv.weight", "_swish.weight", "fc.bias"]
)
def test_a_name_that_the_layout_does_not_have_is_left_for_strict_loading_to_refuse(
    key: str,
) -> None:
    assert timm_name(key) == key


def test_two_tensors_that_change_places_change_the_features(
    published: dict[str, torch.Tensor],
) -> None:
    first, second = "_blocks.7._bn1.weight", "_blocks.6._bn1.weight"
    swapped = {**published, first: published[second], second: published[first]}
    picture = torch.full((1, 3, 224, 224), 0.25)
    with torch.inference_mode():
        moved = build(swapped).eval()(picture) - build(published).eval()(picture)
    assert moved.abs().max() > 1e-3


def test_features_equal_timm_s_with_weights_by_order_and_plain_preprocessing(
    in_order: torch.nn.Module,
) -> None:
    rng = np.random.default_rng(4)
    grey = Image.fromarray(rng.integers(0, 256, (300, 410)).astype(np.uint8))
    rgb = Image.fromarray(rng.integers(0, 256, (250, 190, 3)).astype(np.uint8))
    encoder = load_encoder("efficientnet-lite0")
    found = encoder.encode(np.stack([encoder.prepare(grey), encoder.prepare(rgb)]))
    assert found.shape == (2, 1280)
    for picture, vector in zip((grey, rgb), found, strict=True):
        resized = picture.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC)
        values = np.asarray(resized, np.float32).transpose(2, 0, 1) / 127.5 - 1
        with torch.inference_mode():
            maps = in_order.forward_features(torch.from_numpy(values)[None])
        expected = maps.mean(dim=(2, 3))[0].numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5 * np.abs(expected).max())


def test_a_real_scan_gives_a_finite_vector_that_its_brightness_does_not_explain(
    shared_cohorts: Path,
) -> None:
    scan = next(iter(sorted(shared_cohorts.rglob("*.png"))))
    encoder = load_encoder("efficientnet-lite0")
    picture = Image.open(scan).convert("L")
    flat = Image.new("L", picture.size, int(np.asarray(picture).mean()))
    real, bright = encoder.encode(np.stack([encoder.prepare(picture), encoder.prepare(flat)]))
    assert np.isfinite(real).all()
    assert np.linalg.norm(real - bright) > 0.5 * np.linalg.norm(bright)


def test_the_package_s_weights_do_not_pass_for_timm_s() -> None:
    file = LITE0.sources[0].find("efficientnet-lite0")
    with pytest.raises(WeightsMismatchError, match="as the package efficientnet_pytorch writes it"):
        load_encoder(f"timm:tf_efficientnet_lite0={file}")


def test_its_licence_and_citation_are_known() -> None:
    resolved = resolve("efficientnet-lite0")
    assert resolved.licence == "Apache-2.0"
    assert "1905.11946" in resolved.citation
