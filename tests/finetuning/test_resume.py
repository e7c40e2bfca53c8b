"""A training that is killed anywhere ends with the weights of one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import training

from embedcache.errors import CheckpointDamagedError, CheckpointDiffersError
from embedcache.finetuning.checkpoint import LAST
from embedcache.finetuning.loop import train
from embedcache.finetuning.task import Step, Trained, Unwatched

SETTINGS: list[dict[str, Any]] = [
    {"made": "transformer", "tune": "full"},
    {"made": "resnet", "tune": "full"},
    {"made": "transformer", "tune": "lora"},
    {"made": "resnet", "tune": "head"},
    {"made": "transformer", "tune": "full", "precision": "bf16", "micro_batch": 3},
    {"made": "convolution", "tune": "full", "precision": "fp16"},
]


class StopsAt(Unwatched):
    """Interrupts a training after a step, as Ctrl-C would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, step: Step) -> None:
        if step.step == self.step:
            raise KeyboardInterrupt


def same(one: Trained, other: Trained) -> bool:
    import torch

    return one.state.keys() == other.state.keys() and all(
        torch.equal(value, other.state[name]) for name, value in one.state.items()
    )


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda one: "-".join(map(str, one.values())))
def test_a_training_stopped_at_any_step_ends_at_the_same_bits(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    whole = train(training.task(tmp_path / "whole", **settings), device="cpu", report=Unwatched())
    broken = training.task(tmp_path / "broken", save_every=0.0, workers=1, **settings)
    for step in (2, 3, 6, 8):  # first, last and middle of an epoch of three, of nine in all
        with pytest.raises(KeyboardInterrupt):
            train(broken, device="cpu", report=StopsAt(step))
    assert same(train(broken, device="cpu", report=Unwatched()), whole)


def test_a_training_that_keeps_no_checkpoint_inside_an_epoch_begins_it_again(
    tmp_path: Path,
) -> None:
    whole = train(training.task(tmp_path / "whole"), device="cpu", report=Unwatched())
    broken = training.task(tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        train(broken, device="cpu", report=StopsAt(5))
    assert same(train(broken, device="cpu", report=Unwatched()), whole)


def test_a_finished_training_is_read_and_not_run(tmp_path: Path) -> None:
    task = training.task(tmp_path, tune="lora")
    first = train(task, device="cpu", report=Unwatched())
    again = train(task, device="cpu", report=StopsAt(1))
    assert same(first, again)
    assert again.curve == first.curve


def test_a_killed_process_leaves_what_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL in the midst of writing a checkpoint, and behind one."""
    settings = {"made": "resnet", "epochs": 4}
    whole = train(training.task(tmp_path / "whole", **settings), device="cpu", report=Unwatched())
    folder, script = tmp_path / "killed", Path(__file__).with_name("kill_me.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, script, json.dumps(settings), folder, "3", "8", "5"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True)
    assert json.loads(done.stdout) == [[-signal.SIGKILL, left] for left in (True, False, True)]
    here = train(training.task(folder, **settings), device="cpu", report=Unwatched())
    assert same(here, whole)
    assert not list(folder.glob("*.partial"))


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    train(training.task(tmp_path), device="cpu", report=Unwatched())
    with pytest.raises(CheckpointDiffersError):
        train(training.task(tmp_path, rate=2e-3), device="cpu", report=Unwatched())


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    train(training.task(tmp_path), device="cpu", report=Unwatched())
    (tmp_path / LAST).write_bytes(b"no tensors")
    with pytest.raises(CheckpointDamagedError, match=LAST):
        train(training.task(tmp_path), device="cpu", report=Unwatched())


def test_what_is_kept_holds_no_pickle_and_one_best(tmp_path: Path) -> None:
    trained = train(training.task(tmp_path), device="cpu", report=Unwatched())
    best = f"best-{trained.best_epoch:04d}.safetensors"
    assert {file.name for file in tmp_path.iterdir()} == {LAST, best}
