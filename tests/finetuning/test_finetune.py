"""The verb: one folder for all arms, units that are done once, encoders that can be used again."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from embedcache import Protocol, compare, evaluate, extract, finetune, probe, report
from embedcache.encoders.resolve import resolve
from embedcache.errors import (
    EncoderUnusableError,
    OtherTuningError,
    ProtocolDiffersError,
    TrainingClassAbsentError,
    WeightsMismatchError,
)
from embedcache.finetuning import plan as planning
from embedcache.finetuning.plan import plan_finetune
from embedcache.finetuning.recipe import NO_AUGMENT, Recipe
from embedcache.finetuning.units import REFIT, Asked, learnt_and_set_aside
from embedcache.results.curves_file import read_curves
from embedcache.results.layout import ResultsFolder
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import read_predictions
from embedcache.store.reader import open_store

ENCODER = "timm:test_resnet=random"
PROTOCOL = Protocol(train="home", external=("abroad",), folds=2)
RECIPE = Recipe(epochs=2, batch=8, precision="fp32")
ASKED = Asked(recipe=RECIPE, rates=(1e-3, 3e-3))


@pytest.fixture(scope="module")
def ward(make_ward, tmp_path_factory):
    return make_ward(tmp_path_factory.mktemp("ward"), damaged=True, patients=18)


@pytest.fixture(scope="module")
def both(ward, tmp_path_factory) -> Path:
    """Results of a probe, joined by fine-tuning."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EMBEDCACHE_KEY", "5e" * 32)
        extract(folder / "store.zarr", ward.cohorts, [ENCODER])
    probe(folder / "store.zarr", PROTOCOL, out=folder / "results", workers=1)
    tune(ward, folder / "results")
    return folder / "results"


def tune(ward, out: Path, asked: Asked = ASKED, protocol: Protocol = PROTOCOL, **how):
    return finetune(ward.cohorts, [ENCODER], protocol, out=out, asked=asked, device="cpu", **how)


def tuned_parts(results: Path, arm: str = "fine-tune") -> list[Predictions]:
    return [part for part in read_predictions(ResultsFolder(results)) if part.maker.arm == arm]


def probabilities(results: Path, arm: str = "fine-tune") -> list[np.ndarray]:
    """Of every cohort and fold, in an order that file names do not decide."""
    parts = sorted(tuned_parts(results, arm), key=lambda part: (part.cohort, part.fold[0]))
    return [part.probability for part in parts if part.probability is not None]


def test_both_arms_judge_the_same_images_in_the_same_folds(both: Path) -> None:
    images = {}
    for part in read_predictions(ResultsFolder(both)):
        if part.cohort == "home":
            held = images.setdefault(part.maker.arm, set())
            held |= {(i.tobytes(), int(f)) for i, f in zip(part.image, part.fold, strict=True)}
    assert images["fine-tune"] == images["linear-probe"]
    assert len(images["fine-tune"]) == 36  # 18 patients of two images; damaged rows are more


def test_arms_are_compared_pair_by_pair_at_home_and_abroad(both: Path) -> None:
    evaluate(both)
    pairs = [row for row in compare([both]) if row.kind == "pair"]
    assert {(row.cohort, row.estimand) for row in pairs} == {
        ("home", "oof"),
        ("abroad", "external-folds"),
    }
    assert {(row.arm, row.other_arm) for row in pairs} == {("fine-tune", "linear-probe")}
    page = report([both], both / "report.html").read_text()
    assert "fine-tune" in page
    assert "linear-probe" in page


def test_a_rerun_does_nothing(ward, both: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in both.glob("*/*/*/*")}
    plan = tune(ward, both)
    assert (plan.missing, plan.found) == ((), 2)
    assert {file: file.stat().st_mtime_ns for file in both.glob("*/*/*/*")} == before


def test_no_checkpoint_is_left_of_a_unit_that_is_done(both: Path) -> None:
    assert not list((both / "checkpoints").rglob("*.safetensors"))


def test_the_first_fold_chooses_the_rate_of_all(both: Path) -> None:
    about = [json.loads(file.read_text()) for file in both.glob("fitted/fine-tune/*/*.json")]
    first, other = sorted(about, key=lambda one: one["fold"])
    losses = {float(rate): loss for rate, loss in first["validation_loss"].items()}
    assert set(losses) == {1e-3, 3e-3}
    assert first["rate"] == min(losses, key=lambda rate: losses[rate])
    assert other["rate"] == first["rate"]
    assert len(other["validation_loss"]) == 1


def test_every_unit_leaves_its_curve(both: Path) -> None:
    curves = read_curves(ResultsFolder(both))
    assert [(one.arm, one.rows[0].fold) for one in curves] == [("fine-tune", 0), ("fine-tune", 1)]
    for curve in curves:
        assert [row.epoch for row in curve.rows] == [1, 2]
        best = min(curve.rows, key=lambda row: row.validation_loss)
        assert [row.kept for row in curve.rows] == [int(row is best) for row in curve.rows]


def test_what_says_when_to_stop_shares_no_patient_with_anything_else(ward, tmp_path) -> None:
    plan = plan_finetune(
        ward.cohorts, [ENCODER], PROTOCOL, out=tmp_path / "r", asked=ASKED, device="cpu"
    )
    for unit in plan.missing:
        learnt, aside = learnt_and_set_aside(unit)
        parts = [set(unit.prepared.train.cluster[which]) for which in (learnt, aside, unit.tested)]
        assert all(parts)
        assert len(set.union(*parts)) == sum(map(len, parts))
        assert (learnt | aside | unit.tested).all()
    assert not (tmp_path / "r").exists()


def test_a_tuned_encoder_is_used_by_extract_and_its_head_gives_the_predictions(
    ward, both: Path, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("EMBEDCACHE_KEY", "5e" * 32)
    file = next(both.glob("fitted/fine-tune/*/*.json"))
    fold, model = json.loads(file.read_text())["fold"], file.with_suffix(".safetensors")
    encoder = resolve(str(model))
    assert encoder.contract.parent == resolve(ENCODER).contract.feature_id
    extract(tmp_path / "store.zarr", ward.cohorts, [str(model)])
    store = open_store(tmp_path / "store.zarr")
    (part,) = (p for p in tuned_parts(both) if (p.cohort, p.fold[0]) == ("abroad", fold))
    place = {digest.tobytes(): row for row, digest in enumerate(store.images.digest)}
    rows = np.array([place[image.tobytes()] for image in part.image])
    x = store.features(encoder.contract.feature_id, rows).astype(np.float64)
    head = load_file(model.with_name(f"{model.stem}.head.safetensors"))
    logit = x @ head["head.weight"].T + head["head.bias"]
    odds = np.exp(logit - logit.max(axis=1, keepdims=True))
    np.testing.assert_allclose(odds / odds.sum(axis=1, keepdims=True), part.probability, atol=1e-5)


def test_other_settings_or_another_protocol_are_refused(ward, both: Path) -> None:
    other = replace(ASKED, recipe=replace(RECIPE, augment=NO_AUGMENT))
    with pytest.raises(OtherTuningError, match="other settings"):
        tune(ward, both, other)
    with pytest.raises(ProtocolDiffersError, match=r"seed|folds_sha256|cohorts"):
        tune(ward, both, protocol=replace(PROTOCOL, seed=5))


def test_every_training_gets_a_board_of_its_own(ward, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    asked = Asked(tune="head", recipe=replace(RECIPE, epochs=1), rates=(1e-3, 3e-3))
    tune(ward, tmp_path / "results", asked, tensorboard=tmp_path / "boards")
    folders = {file.parent.name for file in (tmp_path / "boards").rglob("events*")}
    assert folders == {"fold-0-training-1", "fold-0-training-2", "fold-1-training-1"}


def test_a_refit_adds_the_model_of_all_training_images(ward, tmp_path: Path) -> None:
    out = tmp_path / "results"
    asked = Asked(tune="head", recipe=RECIPE, rates=(1e-3,))
    tune(ward, out, asked)
    assert {row.estimand for row in evaluate(out)} >= {"oof", "external-folds"}
    plan = tune(ward, out, replace(asked, refit=True))
    assert [unit.fold for unit in plan.missing] == [REFIT]
    assert "external-refit" in {row.estimand for row in evaluate(out)}
    # Without the flag, the refit that is there is no stranger.
    assert tune(ward, out, asked).missing == ()


@pytest.mark.slow  # two more processes, each with its own torch
def test_two_devices_give_what_one_gives(ward, both: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(planning, "devices_of", lambda _: ("cpu", "cpu"))
    tune(ward, tmp_path / "results")
    for one, other in zip(probabilities(tmp_path / "results"), probabilities(both), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


KILLED = """
import os, signal, sys
from contextlib import nullcontext
from pathlib import Path
import torch
from embedcache import Protocol, finetune
from embedcache.encoders.resolve import load_encoder
from embedcache.finetuning import bench
from embedcache.finetuning.recipe import Recipe
from embedcache.finetuning.units import Asked

class Killer:
    steps = 0
    def stepped(self, step):
        Killer.steps += 1
        if not Killer.steps:
            os.kill(os.getpid(), signal.SIGKILL)
    def finished(self, epoch): pass
    def note(self, line): pass

bench._reported = lambda *_: nullcontext(Killer())
torch.set_num_threads(1)
load_encoder("timm:test_resnet=random")  # imports once what both processes need
for steps in map(int, sys.argv[2].split()):
    if not os.fork():
        Killer.steps = -steps
        finetune(
            sys.argv[3:], ["timm:test_resnet=random"],
            Protocol(train="home", external=("abroad",), folds=2), out=Path(sys.argv[1]),
            device="cpu",
            asked=Asked(recipe=Recipe(epochs=2, batch=8, precision="fp32"), rates=(1e-3, 3e-3)),
        )
        os._exit(0)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(os.wait()[1])} ")
"""


def test_a_run_that_is_killed_in_a_fold_goes_on_to_the_same_predictions(
    ward, both: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    # In the search of the first fold, then after it went on.
    command = [sys.executable, "-c", KILLED, str(out), "3 4", *ward.cohorts]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [str(-signal.SIGKILL)] * 2, done.stderr
    assert list((out / "checkpoints").rglob("*.safetensors"))
    tune(ward, out)
    for one, other in zip(probabilities(out), probabilities(both), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_what_has_no_network_or_other_weights_is_said_before_any_training(
    ward, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    with pytest.raises(EncoderUnusableError, match="pixels"):
        finetune(ward.cohorts, ["pixels"], PROTOCOL, out=tmp_path / "r", device="cpu")
    weights = tmp_path / "other.safetensors"
    save_file({"stem.weight": torch.zeros(3)}, weights)
    with pytest.raises(WeightsMismatchError):
        finetune(
            ward.cohorts,
            [f"timm:test_resnet={weights}"],
            PROTOCOL,
            out=tmp_path / "r",
            asked=ASKED,
            device="cpu",
        )
    assert not (tmp_path / "r").exists()


def test_a_class_that_a_fold_could_not_learn_is_named(ward, tmp_path, monkeypatch) -> None:
    from embedcache.finetuning import units

    def none_of_a_class(label, cluster, *, folds, seed):
        return np.where(label == 1, 0, 1)

    monkeypatch.setattr(units, "assign_inner_folds", none_of_a_class)
    with pytest.raises(TrainingClassAbsentError, match="femur"):
        tune(ward, tmp_path / "r")
