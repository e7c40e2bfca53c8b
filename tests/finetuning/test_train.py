"""A training adds up what it should, stops when it should, and says what went wrong."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import training

from embedcache.contract import Preprocessing
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.encoders.spec import EncoderSpec
from embedcache.errors import (
    CompilerFailedError,
    DeviceTooSmallError,
    EncoderUnusableError,
    NothingToValidateError,
    SettingError,
    TrainingClassAbsentError,
    TrainingDivergedError,
)
from embedcache.finetuning.loop import choose_rate, train
from embedcache.finetuning.recipe import NO_AUGMENT, Augment, Recipe
from embedcache.finetuning.task import Epoch, Step, Together, Trained, Unwatched
from embedcache.finetuning.tensorboard import TensorBoard

if TYPE_CHECKING:
    from torch import Tensor, nn


class Notes(Unwatched):
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.steps: list[Step] = []
        self.epochs: list[Epoch] = []

    def note(self, line: str) -> None:
        self.lines.append(line)

    def stepped(self, step: Step) -> None:
        self.steps.append(step)

    def finished(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)


def faulty(
    fault: Callable[[Tensor], Tensor], preprocessing: Preprocessing = training.SHAPE
) -> ResolvedEncoder:
    """An encoder of one layer that does something else to its pictures first."""
    small = training.convolution().spec
    assert isinstance(small, EncoderSpec)

    def build(state: dict[str, Tensor]) -> nn.Module:
        from torch import nn

        class Faulty(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = small.build(state)

            def forward(self, picture: Tensor) -> Tensor:
                output: Tensor = self.inner(fault(picture))
                return output

        return Faulty()

    return training.resolved(dataclasses.replace(small, build=build, preprocessing=preprocessing))


def trained(folder: Path, report: Any = None, **changes: Any) -> Trained:
    changes = {"encoder": training.convolution(), "augment": NO_AUGMENT, **changes}
    return train(training.task(folder, **changes), device="cpu", report=report or Unwatched())


def far(one: Trained, other: Trained) -> float:
    return max(
        float((value.double() - other.state[name].double()).abs().max())
        for name, value in one.state.items()
    )


def test_the_steps_are_those_of_a_plain_loop(tmp_path: Path) -> None:
    """AdamW under a cosine on the mean cross-entropy, written out."""
    import torch

    some = training.pictures(16)
    found = trained(
        tmp_path,
        training=some,
        batch=16,
        epochs=8,
        clip=0,
        warmup=0,
        label_smoothing=0.1,
        weight_decay=0.0,
        class_weights="balanced",
    )
    network = training.convolution().build("cpu").module.requires_grad_()
    pixels = torch.from_numpy(some.planes).float().div(255).sub(0.5).div(0.25).repeat(1, 3, 1, 1)
    with torch.no_grad():
        feature = network(pixels).double()
    std, mean = torch.std_mean(feature, dim=0, correction=0)
    head = torch.nn.Linear(12, 3)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    weight = torch.tensor([16 / (3 * count) for count in (6, 5, 5)])
    optimiser = torch.optim.AdamW([*network.parameters(), *head.parameters()], 1e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 8)
    for _ in range(8):
        optimiser.zero_grad()
        logits = head(((network(pixels) - mean) / std).float())
        torch.nn.functional.cross_entropy(
            logits, torch.from_numpy(some.label), weight=weight, label_smoothing=0.1
        ).backward()
        optimiser.step()
        schedule.step()
    for name, value in network.state_dict().items():
        assert torch.allclose(found.state[f"trunk.{name}"], value, atol=2e-5)
    folded = (head.weight / std).double()
    assert torch.allclose(found.state["head.weight"], folded, rtol=1e-2, atol=1e-3)


def test_parts_of_a_batch_add_up_to_the_batch(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole", class_weights="balanced")
    parts = trained(tmp_path / "parts", class_weights="balanced", micro_batch=3)
    assert far(whole, parts) < 1e-4


def test_workers_change_no_bit(tmp_path: Path) -> None:
    one = trained(tmp_path / "one", workers=1, augment=Augment())
    many = trained(tmp_path / "many", workers=5, augment=Augment())
    assert far(one, many) == 0


def test_out_of_memory_goes_on_with_fewer_at_once_and_the_same_steps(tmp_path: Path) -> None:
    import torch

    def small(picture: Tensor) -> Tensor:
        if len(picture) > 3:
            raise torch.OutOfMemoryError("no memory for these")
        return picture

    notes = Notes()
    found = trained(tmp_path / "small", notes, encoder=faulty(small))
    parts = trained(tmp_path / "parts", encoder=faulty(lambda picture: picture), micro_batch=2)
    assert found.micro_batch == 2
    assert far(found, parts) == 0
    assert len(notes.lines) == 2  # from eight to four, to two
    assert "2 go through at a time" in notes.lines[1]


def test_a_device_without_memory_for_one_picture_is_named(tmp_path: Path) -> None:
    def none(picture: Tensor) -> Tensor:
        raise MemoryError

    with pytest.raises(DeviceTooSmallError, match="small has no memory left on cpu"):
        trained(tmp_path, encoder=faulty(none))


def test_a_loss_that_is_no_number_names_its_images_and_keeps_the_last_checkpoint(
    tmp_path: Path,
) -> None:
    """Pictures brighter than all others make NaN once the second epoch runs."""
    notes = Notes()

    def breaks(picture: Tensor) -> Tensor:
        learning = picture.requires_grad or len(notes.epochs) == 1
        bright = picture.amax(dim=(1, 2, 3), keepdim=True) > 1.99
        return picture.masked_fill(bright, float("nan")) if learning else picture

    some = training.pictures(24)
    some.planes[5] = 255
    with pytest.raises(TrainingDivergedError) as caught:
        trained(tmp_path, notes, encoder=faulty(breaks), training=some)
    assert caught.value.images == (some.digest[5].tobytes().hex()[:12],)
    assert (caught.value.epoch, caught.value.kept) == (2, 1)
    whole = trained(tmp_path / "whole", encoder=faulty(lambda picture: picture), training=some)
    with pytest.raises(TrainingDivergedError):  # the first epoch is not run again
        trained(tmp_path, notes, encoder=faulty(breaks), training=some)
    # What was kept goes on as if nothing had been, once the cause is gone.
    again = trained(tmp_path, encoder=faulty(lambda picture: picture), training=some)
    assert far(again, whole) == 0


def test_an_image_that_has_no_feature_is_named_before_the_first_step(tmp_path: Path) -> None:
    """A picture of one value cannot be standardised by its own deviation."""
    how = dataclasses.replace(training.SHAPE, mean=(), std=(), standardise="picture")
    some = training.pictures(24)
    some.planes[7] = 9
    with pytest.raises(TrainingDivergedError) as caught:
        trained(tmp_path, encoder=faulty(lambda one: one, how), training=some)
    assert caught.value.images == (some.digest[7].tobytes().hex()[:12],)
    assert "nothing was kept" in str(caught.value)


def test_a_class_without_a_training_image_is_named(tmp_path: Path) -> None:
    some = training.pictures(24)
    with pytest.raises(TrainingClassAbsentError, match="'femur'"):
        trained(tmp_path, training=some.only(some.label != 1))


def test_nothing_to_stop_by_is_refused(tmp_path: Path) -> None:
    none = training.pictures(24).only(np.zeros(24, bool))
    with pytest.raises(NothingToValidateError):
        trained(tmp_path, validation=none)


def test_an_encoder_without_a_network_is_refused(tmp_path: Path) -> None:
    encoder = resolve("pixels")
    how = encoder.contract.preprocessing
    some = training.pictures(24, side=how.height)
    with pytest.raises(EncoderUnusableError, match="no network"):
        trained(tmp_path, encoder=encoder, training=some, validation=some)


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"warmup": 1.0}, {"layer_decay": 0.0}, {"clip": -1.0}]
)
def test_a_setting_outside_its_range_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(change))):
        Recipe(**change)


def test_training_stops_once_validation_has_not_improved_for_long_enough(tmp_path: Path) -> None:
    """Validation labels are turned round, so that every epoch makes them worse."""
    other = training.pictures(9, seed=1)
    wrong = dataclasses.replace(other, label=(other.label + 1) % 3)
    found = trained(tmp_path, validation=wrong, epochs=20, patience=3, rate=1e-2)
    assert found.stopped_by == "patience"
    assert len(found.curve) == found.best_epoch + 3


def test_the_rate_with_the_lowest_validation_loss_is_chosen_and_a_diverging_one_noted(
    tmp_path: Path,
) -> None:
    notes = Notes()
    tasks = [
        training.task(
            tmp_path / str(rate), encoder=training.convolution(), rate=rate, clip=0, epochs=6
        )
        for rate in (1e-5, 1e-2, 1e30)
    ]
    chosen = choose_rate(tasks, device="cpu", report=notes)
    assert chosen.rate == 1e-2
    assert np.isnan(chosen.loss[1e30])
    assert chosen.loss[1e-2] < chosen.loss[1e-5]
    assert any(line.startswith("rate 1e+30 is left out") for line in notes.lines)


def test_every_epoch_is_reported_and_written_for_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    notes = Notes()
    with TensorBoard(tmp_path / "events") as board:
        found = trained(tmp_path / "kept", Together([notes, board]))
    assert tuple(notes.epochs) == found.curve
    assert [step.step for step in notes.steps] == list(range(1, 10))
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    written = [event.value for event in events.Scalars("loss/validation")]
    assert written == pytest.approx([epoch.validation_loss for epoch in found.curve])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its compiler uses its own past
@pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler"
)
def test_a_compiled_network_learns_what_a_plain_one_does(tmp_path: Path) -> None:
    """Without dropout, whose draws a compiled network makes in another order."""
    still = training.encoder(24, **{**training.TRANSFORMER, "proj_drop_rate": 0.0})
    shared = {"encoder": still, "training": training.pictures(16), "epochs": 2}
    plain = trained(tmp_path / "plain", **shared)
    compiled = trained(tmp_path / "compiled", compile=True, **shared)
    for one, other in zip(plain.curve, compiled.curve, strict=True):
        # Rounding alone parts them: ten times float32's own 1e-7 a step, over four steps.
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.validation_loss == pytest.approx(one.validation_loss, rel=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # as above
@pytest.mark.filterwarnings("ignore:dynamo_pgo force disabled:UserWarning")  # once a process
def test_a_network_that_cannot_be_compiled_is_named_with_the_compiler_s_reason(
    tmp_path: Path,
) -> None:
    from torch._inductor import config

    nowhere = {"cpp.cxx": (None, "/nowhere/g++"), "force_disable_caches": True}
    with config.patch(nowhere), pytest.raises(CompilerFailedError) as caught:
        trained(tmp_path, compile=True)
    assert "torch.compile failed on small" in str(caught.value)
    assert "No working C++ compiler" in str(caught.value)
