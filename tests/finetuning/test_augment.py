"""Augmentation follows from seed, epoch and image alone, and turns pictures as torchvision does."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch  # noqa: TID253  # what is tested is made of it
import training
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.finetuning.augment import apply, draw
from embedcache.finetuning.feed import learning_batches, normalised, order
from embedcache.finetuning.recipe import NO_AUGMENT, Augment

SHAPE = (48, 64)
DIGEST = np.random.default_rng(0).integers(0, 256, (6, 32), np.uint8)
PARTS = [field.name for field in dataclasses.fields(Augment)]


def picture(count: int = 6, channels: int = 1) -> torch.Tensor:
    """Smooth, so that two ways of interpolating agree."""
    rng = np.random.default_rng(1)
    coarse = torch.from_numpy(rng.random((count, channels, 6, 8), np.float32))
    return torch.nn.functional.interpolate(coarse, SHAPE, mode="bicubic").clamp(0, 1)


def augmented(augment: Augment, given: torch.Tensor, seed: int = 3, epoch: int = 1) -> torch.Tensor:
    drawn = draw(augment, DIGEST[: len(given)], SHAPE, seed=seed, epoch=epoch)
    return apply(drawn, given, None)[0]


def only(**part: float) -> Augment:
    return dataclasses.replace(NO_AUGMENT, **part)


def test_a_turn_is_torchvisions() -> None:
    """Angle, size and displacement are read off the matrix: only the picture is compared."""
    repair_torchvision()
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.v2 import functional

    augment = only(rotation=10, scale=0.1, shift=0.05)
    drawn = draw(augment, DIGEST, SHAPE, seed=3, epoch=1)
    found, _ = apply(drawn, picture(), None)
    height, width = SHAPE
    for one, matrix, got in zip(picture(), drawn.matrix.double().numpy(), found, strict=True):
        skew = matrix[0, 1] * width / height
        size = 1 / np.hypot(matrix[0, 0], skew)
        angle = np.rad2deg(np.arctan2(skew, matrix[0, 0]))
        shift = np.linalg.solve(matrix[:, :2], -matrix[:, 2]) * (width / 2, height / 2)
        expected = functional.affine(
            one, angle, list(shift), size, [0.0, 0.0], InterpolationMode.BILINEAR
        )
        # Bilinear on a float picture both: the border row is where fills may differ.
        assert (expected - got)[:, 4:-4, 4:-4].abs().max() < 2e-3


def test_turns_stay_within_what_was_asked() -> None:
    augment = only(rotation=10, scale=0.1)
    digest = np.random.default_rng(5).integers(0, 256, (200, 32), np.uint8)
    matrix = draw(augment, digest, (64, 64), seed=0, epoch=1).matrix.double().numpy()
    size = 1 / np.hypot(matrix[:, 0, 0], matrix[:, 0, 1])
    angle = np.rad2deg(np.arctan2(matrix[:, 0, 1], matrix[:, 0, 0]))
    assert 0.9 <= size.min() < 0.92
    assert 1.08 < size.max() <= 1.1
    assert -10 <= angle.min() < -8
    assert 8 < angle.max() <= 10


def test_left_and_right_change_places_in_the_share_asked_for() -> None:
    given = picture()
    assert torch.allclose(augmented(only(mirror=1.0), given), given.flip(3), atol=1e-5)
    assert torch.allclose(augmented(only(mirror=0.0), given), given, atol=1e-5)


def test_gain_is_a_factor_and_contrast_an_exponent() -> None:
    drawn = draw(only(gain=0.2, contrast=0.3), DIGEST, SHAPE, seed=3, epoch=1)
    given = picture() * 0.5
    found, _ = apply(drawn, given, None)
    exponent = drawn.exponent[:, None, None, None]
    expected = given**exponent * drawn.gain[:, None, None, None]
    assert torch.allclose(found, expected.clamp(0, 1), atol=1e-5)


def test_speckle_is_as_strong_as_asked_and_keeps_the_mean() -> None:
    flat = torch.full((6, 1, *SHAPE), 0.5)
    drawn = draw(only(speckle=0.1), DIGEST, SHAPE, seed=3, epoch=1)
    assert drawn.noise is not None
    assert drawn.noise.std(dim=(1, 2, 3)).max() < 0.11
    found, _ = apply(drawn, flat, None)
    assert found.mean().item() == pytest.approx(0.5, abs=0.01)
    assert found.std() > 0


def test_a_shadow_only_darkens() -> None:
    flat = torch.full((6, 1, *SHAPE), 0.5)
    found = augmented(only(shadow=1.0), flat)
    assert (found <= 0.5).all()
    assert (found.amin(dim=(1, 2, 3)) < 0.45).all()


@pytest.mark.parametrize("part", PARTS)
def test_each_part_can_be_turned_off_and_leaves_the_others_as_they_were(part: str) -> None:
    every = draw(Augment(), DIGEST, SHAPE, seed=3, epoch=1)
    without = draw(dataclasses.replace(Augment(), **{part: 0}), DIGEST, SHAPE, seed=3, epoch=1)
    changed = {
        name
        for name in ("matrix", "exponent", "gain", "shadow", "noise")
        if not same(getattr(every, name), getattr(without, name))
    }
    matrix = dict.fromkeys(("rotation", "scale", "shift", "mirror"), "matrix")
    owner = {**matrix, "contrast": "exponent", "speckle": "noise"}
    assert changed == {owner.get(part, part)}


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    return one is other if one is None or other is None else one.equal(other)


def test_nothing_asked_changes_nothing() -> None:
    given = picture()
    assert torch.allclose(augmented(NO_AUGMENT, given), given, atol=1e-5)


def test_an_epoch_a_seed_and_an_image_draw_their_own() -> None:
    given = picture(1).expand(2, -1, -1, -1)
    first = augmented(Augment(), given)
    assert not first[0].equal(first[1])
    assert not first.equal(augmented(Augment(), given, epoch=2))
    assert not first.equal(augmented(Augment(), given, seed=4))
    assert first.equal(augmented(Augment(), given))


def batches(workers: int, reverse: bool = False, **recipe: Any) -> list[NDArray[np.float32]]:
    some = training.pictures(20)
    if reverse:
        some = some.only(np.arange(20)[::-1])
    places = order(some, 6, seed=1, epoch=2)
    made = learning_batches(some, places, Augment(), seed=1, epoch=2, workers=workers)
    return [normalised(one, slice(None), training.SHAPE, "cpu").numpy() for one in made]


def test_workers_and_the_order_of_rows_change_no_bit() -> None:
    alone = batches(1)
    assert [len(one) for one in alone] == [5, 5, 5, 5]
    for other in (batches(4), batches(2, reverse=True)):
        assert all(np.array_equal(*pair) for pair in zip(alone, other, strict=True))


def test_what_is_picture_moves_with_the_picture_where_padding_comes_last() -> None:
    """Zeros stay zeros behind the normalising, wherever the picture went."""
    how = Preprocessing(
        height=SHAPE[0],
        width=SHAPE[1],
        fit="long-side",
        pad="after",
        mean=(0.5,) * 3,
        std=(1.0,) * 3,
    )
    planes = np.zeros((6, 4, *SHAPE), np.uint8)
    planes[:, :3, :, :40], planes[:, 3, :, :40] = 200, 255
    some = dataclasses.replace(training.pictures(6), planes=planes, digest=DIGEST)
    made = learning_batches(
        some, order(some, 6, seed=1, epoch=1), only(mirror=1.0), seed=1, epoch=1, workers=1
    )
    found = normalised(next(made), slice(None), how, "cpu")
    assert (found[..., :20] == 0).all()
    assert torch.allclose(found[..., 30:], torch.tensor(200 / 255 - 0.5), atol=1e-5)
