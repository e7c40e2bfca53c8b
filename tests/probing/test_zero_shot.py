"""Zero-shot: cosine with the mean of a class's prompts, on the folds of the other arms."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedcache.errors import (
    NotExtractedError,
    OtherUnitsError,
    PromptsMissingError,
    PromptsUnknownClassError,
    SchemaError,
)
from embedcache.evaluation.evaluate import evaluate
from embedcache.probing.probe import probe
from embedcache.probing.prompts import Prompts, default_prompts, read_prompts
from embedcache.probing.zero_shot import (
    ZeroShotPlan,
    class_vectors,
    logits,
    plan_zero_shot,
    probabilities,
    zero_shot,
)
from embedcache.protocol.protocol import Protocol, Tuning
from embedcache.results.layout import ResultsFolder
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import read_predictions
from embedcache.store.reader import FeatureStore, open_store

CLASSES = ("brain", "femur", "thorax")
PROTOCOL = Protocol(train="home", external=("abroad",), folds=3, tuning=Tuning(grid=(0.1, 1.0)))
WORDS = Prompts(classes={name: (name, f"a {name}") for name in CLASSES})
#: The study's features lie around two on the axis of their class.
AXES = np.repeat(np.eye(6, dtype=np.float32)[:3], 2, axis=0)


@pytest.fixture(scope="module")
def store(
    make_study: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> FeatureStore:
    return open_store(make_study(tmp_path_factory.mktemp("study")))


def planned(
    store: FeatureStore, out: Path, words: Prompts = WORDS, protocol: Protocol = PROTOCOL
) -> ZeroShotPlan:
    good = store.select("good")
    return plan_zero_shot(
        store, protocol, out=out, encoder="good", feature_id=good.id, prompts=words
    )


def parts_of(out: Path) -> dict[str, Predictions]:
    found = read_predictions(ResultsFolder(out))
    return {part.cohort: part for part in found if part.maker.arm == "zero-shot"}


def test_a_class_is_the_mean_of_its_prompts_on_the_sphere() -> None:
    # 3-4-5 and the axis: unit vectors (.6, .8) and (1, 0), mean (.8, .4), length sqrt(.8).
    vector = np.array([[3, 4], [10, 0], [0, -2]], np.float32)
    expected = np.array([[0.8, 0.4], [0, -np.sqrt(0.8)]]) / np.sqrt(0.8)
    np.testing.assert_allclose(class_vectors(vector, np.array([0, 0, 1])), expected, atol=1e-12)


def test_probabilities_are_the_softmax_of_scaled_cosines() -> None:
    words = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = probabilities(logits(np.array([[3, 4], [0, 0]], np.float32), words, 10.0))
    first = 1 / (1 + np.exp(10 * (0.8 - 0.6)))
    np.testing.assert_allclose(found, [[first, 1 - first], [0.5, 0.5]], atol=1e-12)


def test_every_cohort_is_predicted_from_the_store_under_each_fold(
    store: FeatureStore, tmp_path: Path
) -> None:
    plan = planned(store, tmp_path)
    zero_shot(plan, AXES, scale=20.0)
    home, abroad = (parts_of(tmp_path)[name] for name in ("home", "abroad"))
    expected = plan.prepared.folds
    assert np.array_equal(home.image, expected.image)
    assert np.array_equal(home.fold, expected.fold[:, 0])
    images = len(plan.prepared.external[0].row)
    assert sorted(abroad.fold.tolist()) == sorted([-1, 0, 1, 2] * images)
    assert home.maker.settings == {"logit_scale": 20.0, "prompts": 6.0}
    x = store.features(store.select("good").id, plan.prepared.train.row).astype(np.float64)
    cosine = x[:, :3] / np.linalg.norm(x, axis=1, keepdims=True)
    power = np.exp(20 * cosine)
    assert home.probability is not None
    np.testing.assert_allclose(home.probability, power / power.sum(1, keepdims=True), atol=1e-9)


def test_it_stands_beside_a_probe_with_all_estimands(store: FeatureStore, tmp_path: Path) -> None:
    zero_shot(planned(store, tmp_path), AXES, scale=20.0)
    probe(store, PROTOCOL, out=tmp_path, encoders=["good"])
    rows = [
        row
        for row in evaluate(tmp_path)
        if row.metric == "macro-f1" and row.level == "image" and not row.stratum
    ]
    per_arm = {
        arm: {(row.cohort, row.estimand) for row in rows if row.arm == arm}
        for arm in ("zero-shot", "linear-probe")
    }
    assert per_arm["zero-shot"] == per_arm["linear-probe"]
    abroad = {row.value for row in rows if row.arm == "zero-shot" and row.cohort == "abroad"}
    assert len(abroad) == 1  # no training: all folds, their ensemble and the refit are one model


def test_a_rerun_finds_its_predictions_before_any_prompt_is_embedded(
    store: FeatureStore, tmp_path: Path
) -> None:
    first = planned(store, tmp_path)
    assert not first.found
    zero_shot(first, AXES, scale=20.0)
    assert planned(store, tmp_path).found


def test_other_words_are_another_unit_and_do_not_join_the_first(
    store: FeatureStore, tmp_path: Path
) -> None:
    zero_shot(planned(store, tmp_path), AXES, scale=20.0)
    other = replace(WORDS, classes={**WORDS.classes, "femur": ("the thigh bone",)})
    with pytest.raises(OtherUnitsError, match="zero-shot predictions of good"):
        planned(store, tmp_path, other)


def test_a_judged_class_without_prompts_is_named(store: FeatureStore, tmp_path: Path) -> None:
    words = Prompts(classes={"brain": ("a brain",), "femur": ("a femur",)})
    with pytest.raises(PromptsMissingError, match="no prompts for thorax"):
        planned(store, tmp_path, words)
    fewer = replace(PROTOCOL, classes=("brain", "femur"))
    assert planned(store, tmp_path, words, fewer).prompt == ("a brain", "a femur")


def test_prompts_of_a_class_that_no_cohort_has_are_named(
    store: FeatureStore, tmp_path: Path
) -> None:
    words = replace(WORDS, classes={**WORDS.classes, "kidney": ("a kidney",)})
    with pytest.raises(PromptsUnknownClassError, match="prompts for kidney, which no cohort has"):
        planned(store, tmp_path, words)


def test_a_store_without_the_encoder_s_vectors_says_how_to_get_them(
    store: FeatureStore, tmp_path: Path
) -> None:
    with pytest.raises(NotExtractedError, match="run embedcache extract STORE") as error:
        plan_zero_shot(store, PROTOCOL, out=tmp_path, encoder="fetalclip=f.pt", feature_id="0" * 16)
    assert "--encoder fetalclip=f.pt" in str(error.value)


def test_our_own_prompts_are_for_fetal_planes(store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(PromptsMissingError, match="no prompts for brain, femur, thorax"):
        plan_zero_shot(
            store, PROTOCOL, out=tmp_path, encoder="good", feature_id=store.select("good").id
        )
    ours = default_prompts(["Fetal brain", "Fetal femur", "Left kidney"])
    assert tuple(ours.classes) == ("Fetal brain", "Fetal femur")
    assert len(set(ours.of("Fetal brain"))) == len(ours.templates) * len(
        ours.classes["Fetal brain"]
    )


def test_each_word_goes_into_each_template(tmp_path: Path) -> None:
    file = tmp_path / "prompts.toml"
    file.write_text('templates = ["{}", "see: {}"]\n[classes]\nA = ["x", "y"]\nB = ["z"]\n')
    assert read_prompts(file).of("A") == ("x", "y", "see: x", "see: y")


def test_the_documents_own_prompts_are_read(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/zero-shot.md").read_text("utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "prompts.toml").write_text(block)
    assert len(read_prompts(tmp_path / "prompts.toml").of("Fetal brain")) == 4


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[classes]\nA = []\n", r"classes\.A needs words"),
        ('[classes]\nA = [" "]\n', r"classes\.A needs words"),
        ("[classes]\n", "names no class"),
        ('templates = ["see"]\n[classes]\nA = ["x"]\n', r"templates\[0\] needs one"),
        ('template = "{}"\n[classes]\nA = ["x"]\n', "template is unknown"),
    ],
)
def test_a_prompt_file_that_says_too_little_is_refused(
    text: str, problem: str, tmp_path: Path
) -> None:
    (tmp_path / "prompts.toml").write_text(text)
    with pytest.raises(SchemaError, match=problem):
        read_prompts(tmp_path / "prompts.toml")
