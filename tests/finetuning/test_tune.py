"""What each way of tuning changes, and that each of the seven encoders can learn by heart."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import training
from numpy.typing import NDArray

from embedcache.encoders.families import (
    dinov3,
    efficientnet_v2,
    fetalclip,
    mofo,
    resnet,
    ultrasam,
    usfm,
)
from embedcache.encoders.families.clip import ClipSize
from embedcache.encoders.families.timm_model import create
from embedcache.encoders.network import seeded
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.encoders.spec import EncoderSpec
from embedcache.finetuning.feed import Batch, plain_batches
from embedcache.finetuning.learner import Learner
from embedcache.finetuning.loop import predict, train, tuned_encoder
from embedcache.finetuning.recipe import NO_AUGMENT, Recipe, Tune
from embedcache.finetuning.task import Pictures, Task, Unwatched

if TYPE_CHECKING:
    from torch import Tensor


def created(seed: int, *, architecture: str, **shape: Any) -> dict[str, Tensor]:
    """What timm draws, a classifier included where its family's files have one."""
    with seeded(seed):
        classes = 0 if "dinov3" in architecture else 7
        return dict(create(architecture, num_classes=classes, **shape).state_dict())


def built(
    spec: EncoderSpec, dim: int, side: int, *, architecture: str, **shape: Any
) -> EncoderSpec:
    """A family's encoder with a smaller network of timm's in the layout that the family reads."""
    how = dataclasses.replace(spec.preprocessing, height=side, width=side)
    return dataclasses.replace(
        spec,
        dim=dim,
        preprocessing=how,
        build=partial(spec.build, **shape),
        untrained=partial(created, architecture=architecture, **shape),
    )


CLIP = ClipSize(
    image=56,
    patch=14,
    width=64,
    layers=2,
    dim=32,
    context=9,
    vocabulary=50,
    text_width=16,
    text_layers=1,
    text_heads=2,
)


def narrow_usfm() -> EncoderSpec:
    shape = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    return dataclasses.replace(
        usfm.USFM,
        dim=32,
        build=partial(usfm.build, **shape),
        untrained=partial(usfm.untrained, width=32, depth=2, heads=2),
    )


def narrow_ultrasam() -> EncoderSpec:
    shape = {"embed_dim": 32, "depth": 2, "num_heads": 2, "global_attn_indexes": (1,)}
    sized = dataclasses.replace(ultrasam.ULTRASAM.preprocessing, height=256, width=256)
    return dataclasses.replace(
        ultrasam.ULTRASAM,
        dim=32,
        preprocessing=sized,
        build=partial(ultrasam.build, side=256, **shape),
        untrained=partial(ultrasam.untrained, width=32, depth=2, heads=2, whole=(1,)),
    )


def narrow_fetalclip() -> EncoderSpec:
    spec = fetalclip.specify(CLIP)
    how = dataclasses.replace(spec.preprocessing, height=CLIP.image, width=CLIP.image)
    return dataclasses.replace(spec, preprocessing=how)


def narrow_dinov3() -> EncoderSpec:
    shape = {"embed_dim": 32, "depth": 2, "num_heads": 2}
    return built(dinov3.S, 32, 64, architecture="vit_small_patch16_dinov3", **shape)


def narrow_resnet() -> EncoderSpec:
    shape = {"layers": (1, 1, 1, 1), "channels": (8, 8, 16, 16), "stem_width": 8}
    return built(resnet.RESNET50, 64, 64, architecture="resnet50", **shape)


def narrow_efficientnet() -> EncoderSpec:
    shape = {"channel_multiplier": 0.25, "depth_multiplier": 0.2}
    return built(efficientnet_v2.S, 320, 64, architecture="tf_efficientnetv2_s", **shape)


def narrow_mofo() -> EncoderSpec:
    return mofo.mofo(mofo.Shape(dim=8, depth=(1, 1, 2, 1), heads=(2, 2, 2, 4)))


#: The seven of the benchmark: a narrow network in the family's own layout, and the listed one.
SEVEN: dict[str, Callable[[], EncoderSpec]] = {
    "usfm": narrow_usfm,
    "mofo": narrow_mofo,
    "ultrasam": narrow_ultrasam,
    "fetalclip": narrow_fetalclip,
    "resnet50": narrow_resnet,
    "efficientnet-v2-s": narrow_efficientnet,
    "dinov3-s": narrow_dinov3,
}
#: What an untrained network of some kinds takes longer for; the others eight.
EPOCHS = {"ultrasam": 14, "efficientnet-v2-s": 24}
LISTED = (
    "usfm",
    "mofo",
    "ultrasam@256",
    "fetalclip",
    "resnet50",
    "efficientnet-v2-s@300",
    "dinov3-b",
)


def task_of(encoder: ResolvedEncoder, tune: Tune, folder: Path, **recipe: Any) -> Task:
    how = encoder.contract.preprocessing
    some = training.pictures(16, side=how.height)
    return Task(
        encoder=encoder,
        tune=tune,
        recipe=dataclasses.replace(training.BY_HEART, **recipe),
        rate={"full": 1e-3, "head": 3e-2, "lora": 1e-2}[tune],
        classes=training.CLASSES,
        training=some,
        validation=some,
        folder=folder,
    )


def accuracy(task: Task) -> float:
    trained = train(task, device="cpu", report=Unwatched())
    probability = predict(trained.state, task.encoder, task.training, "cpu")
    return float((probability.argmax(axis=1) == task.training.label).mean())


@pytest.mark.parametrize("name", SEVEN)
def test_each_encoder_learns_sixteen_images_by_heart(name: str, tmp_path: Path) -> None:
    encoder = training.resolved(SEVEN[name]())
    assert accuracy(task_of(encoder, "full", tmp_path, epochs=EPOCHS.get(name, 8))) == 1.0


@pytest.mark.parametrize("tune", ["full", "head", "lora"])
@pytest.mark.parametrize("made", ["transformer", "resnet"])
def test_each_way_of_tuning_learns_sixteen_images_by_heart(
    tune: Tune, made: str, tmp_path: Path
) -> None:
    encoder = training.MADE[made]()
    assert accuracy(task_of(encoder, tune, tmp_path, rank=4)) == 1.0


def learnt(task: Task) -> tuple[Learner, dict[str, Tensor], dict[str, Tensor]]:
    """A learner after three steps, with all its tensors before and after."""
    learner = Learner(task, "cpu", Unwatched())
    learner.standardise()
    before = {name: value.clone() for name, value in learner.network.state_dict().items()}
    batch: Batch = next(plain_batches(task.training, 16, 1))
    for step in range(3):  # the head starts at zero, and lets nothing through before it moves
        learner.step(batch, 1, step, 1.0)
    return learner, before, dict(learner.network.state_dict())


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name, value in after.items() if not value.equal(before[name])}


def first_layer(learner: Learner) -> Any:
    return next(iter(learner.network.trunk.parameters()))


@pytest.mark.parametrize("name", SEVEN)
def test_gradients_reach_the_first_layer_of_each_encoder(name: str, tmp_path: Path) -> None:
    encoder = training.resolved(SEVEN[name]())
    learner, before, after = learnt(task_of(encoder, "full", tmp_path))
    assert first_layer(learner).grad.abs().max() > 0
    parameters = {name for name, _ in learner.network.named_parameters()}
    # Biases of keys change no attention, and those before a norm without weights no output.
    still = parameters - moved(before, after)
    assert all(name.endswith("bias") for name in still)


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTED)
def test_gradients_reach_the_first_layer_of_each_encoder_in_its_whole_size(
    name: str, tmp_path: Path
) -> None:
    task = task_of(resolve(f"{name}=random"), "full", tmp_path)
    task = dataclasses.replace(task, training=task.training.only(np.arange(3)))
    learner = Learner(task, "cpu", Unwatched())
    learner.standardise()
    batch = next(plain_batches(task.training, 3, 1))
    # A head of zeros gives three classes a third each, and lets nothing through before it moves.
    assert learner.step(batch, 1, 0, 1.0) == pytest.approx(np.log(3))
    assert np.isfinite(learner.step(batch, 1, 1, 1.0))
    gradient = first_layer(learner).grad
    assert gradient.isfinite().all()
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("name", SEVEN)
def test_the_head_alone_changes_nothing_else(name: str, tmp_path: Path) -> None:
    encoder = training.resolved(SEVEN[name]())
    learner, before, after = learnt(task_of(encoder, "head", tmp_path))
    assert first_layer(learner).grad is None
    assert moved(before, after) == {"head.weight", "head.bias"}


@pytest.mark.parametrize("name", SEVEN)
def test_lora_changes_adapters_and_the_head_alone(name: str, tmp_path: Path) -> None:
    encoder = training.resolved(SEVEN[name]())
    _, before, after = learnt(task_of(encoder, "lora", tmp_path, rank=2))
    changed = moved(before, after)
    assert {"head.weight", "head.bias"} < changed
    assert all(".lora_" in name or name.startswith("head.") for name in changed)


@pytest.mark.parametrize("name", SEVEN)
def test_merged_adapters_give_the_network_that_was_trained(name: str, tmp_path: Path) -> None:
    encoder = training.resolved(SEVEN[name]())
    task = task_of(encoder, "lora", tmp_path, epochs=2, rank=2)
    trained = train(task, device="cpu", report=Unwatched())
    probability = predict(trained.state, encoder, task.validation, "cpu")
    loss = -np.log(probability[np.arange(16), task.validation.label]).mean()
    assert loss == pytest.approx(trained.best.validation_loss, rel=1e-4)


def test_batch_norms_are_tracked_in_full_tuning_alone(tmp_path: Path) -> None:
    def running(tune: Tune, **recipe: Any) -> bool:
        task = task_of(training.resnet(), tune, tmp_path, **recipe)
        _, before, after = learnt(task)
        return any("running" in name for name in moved(before, after))

    assert running("full", batch_norm="tracked")
    assert not running("full", batch_norm="frozen")
    assert not running("head", batch_norm="tracked")
    assert not running("lora", batch_norm="tracked", rank=2)


def test_the_head_reaches_the_loss_of_logistic_regression(tmp_path: Path) -> None:
    """On features of the frozen encoder, without a penalty on either side."""
    from sklearn.linear_model import LogisticRegression

    encoder = training.convolution()
    rng = np.random.default_rng(3)
    some = training.pictures(120)
    # A third of the labels are wrong, so that the least loss is far from zero.
    label = np.where(rng.random(120) < 0.33, rng.integers(0, 3, 120), some.label)
    some = dataclasses.replace(some, label=label)
    recipe = Recipe(epochs=100, batch=120, patience=0, augment=NO_AUGMENT, weight_decay=0, clip=0)
    task = Task(
        encoder=encoder,
        tune="head",
        recipe=recipe,
        rate=0.1,
        classes=training.CLASSES,
        training=some,
        validation=some,
        folder=tmp_path,
    )
    trained = train(task, device="cpu", report=Unwatched())
    feature = tuned_encoder(trained.state, encoder, "cpu").encode(some.take(np.arange(120)))
    standard = (feature - feature.mean(axis=0)) / feature.std(axis=0)
    probe = LogisticRegression(C=np.inf, max_iter=10_000, tol=1e-8).fit(standard, label)
    assert trained.best.validation_loss == pytest.approx(
        log_loss(probe.predict_proba(standard), some), rel=0.01
    )


def log_loss(probability: NDArray[np.float64], pictures: Pictures) -> float:
    return float(-np.log(probability[np.arange(len(pictures)), pictures.label]).mean())
