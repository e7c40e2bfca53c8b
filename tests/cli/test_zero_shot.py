"""`embedcache zero-shot` and `encoders validate`, from files to numbers; a narrow FetalCLIP."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from PIL import Image
from typer.testing import CliRunner, Result

from embedcache.cli import app
from embedcache.download import Remote
from embedcache.encoders.families import fetalclip
from embedcache.encoders.families.clip import ClipSize, untrained
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.encoders.validation import references
from embedcache.encoders.validation.fetalclip_five_planes import REFERENCE
from embedcache.errors import NoTextError, NotExtractedError

NARROW = ClipSize(
    image=224,
    patch=56,
    width=128,
    layers=2,
    dim=48,
    context=117,
    vocabulary=49408,
    text_width=64,
    text_layers=2,
    text_heads=2,
)
#: In the order of the authors' file: views that no image carries are among them.
PROMPTS = {
    "abdomen": ["The fetal abdomen.", "A stomach."],
    "brain": ["The fetal brain.", "A skull."],
    "femur": ["The fetal femur.", "A bone."],
    "heart": ["The fetal heart.", "Four chambers."],
    "kidney": ["The fetal kidney."],
    "cervix": ["The maternal cervix."],
}
WORDS = {
    "Fetal abdomen": "abdomen",
    "Fetal brain": "brain",
    "Fetal femur": "femur",
    "Fetal thorax": "heart",
    "Maternal cervix": "cervix",
}


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def lively(seed: int) -> dict[str, torch.Tensor]:
    """Random weights that tell pictures and words apart; as initialised, all look alike to them."""
    state = untrained(NARROW, seed)
    for name in ("visual.conv1.weight", "token_embedding.weight"):
        state[name] = state[name] * 20
    return {k: v * 8 if k.endswith("in_proj_weight") else v for k, v in state.items()}


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module", autouse=True)
def narrow() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetalclip, "SPEC", fetalclip.specify(NARROW))
        patch.setenv("EMBEDCACHE_KEY", "5e" * 32)
        yield


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "FetalCLIP_weights.pt"
    torch.save(lively(3), path)
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn cohorts `home` and `abroad`, encoded by random weights, with and without projection."""
    folder = tmp_path_factory.mktemp("study")
    for name, size in (("home", 40), ("abroad", 16)):
        (folder / f"{name}.toml").write_text(
            f'kind = "synthetic"\nplace = "{name}"\nsize = {size}\n'
        )
    cohorts = [
        word for name in ("home", "abroad") for word in ("--cohort", folder / f"{name}.toml")
    ]
    encoder = "fetalclip=random,fetalclip@pre-proj=random"
    done = run("extract", folder / "store.zarr", *cohorts, "--encoder", encoder)
    assert done.exit_code == 0, done.output
    return folder / "store.zarr"


ASKED = ("--train", "home", "--external", "abroad", "--folds", "2")


def test_words_are_judged_beside_the_other_arms_and_marked_as_random(
    store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    words = ("zero-shot", store, "--encoder", "fetalclip=random", *ASKED, "--out", out)
    plan = run(*words, "--dry-run")
    assert plan.exit_code == 0, plan.output
    assert "nothing was written" in plan.stdout
    assert not out.exists()
    done = run(*words)
    assert done.exit_code == 0, done.output
    assert "RANDOM WEIGHTS" in done.stdout
    with (out / "metrics.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["arm"] == "zero-shot"]
    assert {row["estimand"] for row in rows} >= {"oof", "external-folds", "external-refit"}
    again = run(*words)
    assert again.exit_code == 0, again.output
    assert "classified by these words already" in again.stderr


def test_vectors_before_the_projection_meet_no_prompt(store: Path, tmp_path: Path) -> None:
    asked = ("--encoder", "fetalclip@pre-proj=random", *ASKED, "--out", tmp_path / "results")
    failed = run("zero-shot", store, *asked)
    assert isinstance(failed.exception, NoTextError)


def test_other_weights_than_the_store_s_say_what_to_extract(
    store: Path, weights: Path, tmp_path: Path
) -> None:
    asked = ("--encoder", f"fetalclip={weights}", *ASKED, "--out", tmp_path / "results")
    failed = run("zero-shot", store, *asked)
    assert isinstance(failed.exception, NotExtractedError)
    assert f"--encoder fetalclip={weights}" in str(failed.exception)


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small FETAL_PLANES_DB in the official layout."""
    folder = tmp_path_factory.mktemp("planes")
    (folder / "Images").mkdir()
    rng = np.random.default_rng(0)
    lines = ["Image_name;Patient_num;Plane;Brain_plane;Operator;US_Machine;Train "]
    for row, plane in enumerate([*WORDS, "Other"] * 3):
        name = f"Patient{row:05}_Plane1_1_of_1"
        lines.append(f"{name};{row};{plane};Not A Brain;Op. 1;Aloka;{row % 2} ")
        coarse = rng.integers(0, 256, (3 + row % 4, 5), dtype=np.uint8)
        Image.fromarray(coarse).resize((90, 60 + row)).save(folder / "Images" / f"{name}.png")
    (folder / "FETAL_PLANES_DB_data.csv").write_text("\n".join([*lines, ""]), encoding="ascii")
    return folder


def by_open_clip(weights: Path, planes: Path) -> dict[str, list[str]]:
    """What the authors' script would publish, by open_clip alone."""
    repair_torchvision()
    from open_clip import CLIP
    from open_clip.tokenizer import SimpleTokenizer
    from open_clip.transform import image_transform

    vision = {"image_size": 224, "patch_size": 56, "width": 128, "layers": 2}
    text = {"context_length": 117, "width": 64, "heads": 2, "layers": 2}
    model = CLIP(embed_dim=48, vision_cfg=vision, text_cfg=text).eval()
    model.load_state_dict(torch.load(weights, weights_only=True))
    tokenizer, transform = SimpleTokenizer(context_length=117), image_transform(224, is_train=False)
    published: dict[str, list[str]] = {"prediction": [], "label": []}
    with torch.inference_mode():
        views = []
        for prompts in PROMPTS.values():
            mean = model.encode_text(tokenizer(prompts), normalize=True).mean(0)
            views.append(mean / mean.norm())
        with (planes / "FETAL_PLANES_DB_data.csv").open(encoding="ascii") as file:
            rows = [row for row in csv.DictReader(file, delimiter=";") if row["Plane"] != "Other"]
        for row in rows:
            picture = Image.open(planes / "Images" / f"{row['Image_name']}.png")
            side = max(picture.size)
            square = Image.new("L", (side, side))
            square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
            vector = model.encode_image(transform(square)[None], normalize=True)
            nearest = int((vector @ torch.stack(views).T).argmax())
            published["prediction"].append(list(PROMPTS)[nearest])
            published["label"].append(WORDS[row["Plane"]])
    return published


@pytest.fixture(scope="module")
def published(
    weights: Path, planes: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("reference")
    predictions, prompts = folder / "prediction.json", folder / "prompts.json"
    predictions.write_text(json.dumps(by_open_clip(weights, planes)))
    prompts.write_text(json.dumps(PROMPTS))
    return predictions, prompts


def validate(weights: Path, planes: Path, predictions: Path, prompts: Path, *more: str) -> Result:
    cohort = f"spain=fetal-planes-db:{planes}"
    files = ("--reference", predictions, "--prompts", prompts)
    return run("encoders", "validate", f"fetalclip={weights}", "--cohort", cohort, *files, *more)


def test_the_right_weights_agree_image_by_image(
    weights: Path, planes: Path, published: tuple[Path, Path]
) -> None:
    done = validate(weights, planes, *published, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["images"], found["agreed"], found["disagreements"]) == (15, 15, [])
    assert found["macro_f1"] == found["published_macro_f1"]
    assert len(set(json.loads(published[0].read_text())["prediction"])) > 1


def test_other_weights_do_not_and_say_where(
    weights: Path, planes: Path, published: tuple[Path, Path], tmp_path: Path
) -> None:
    other = tmp_path / "other.pt"
    torch.save(lively(4), other)
    done = validate(other, planes, *published, "--store", str(tmp_path / "store.zarr"))
    assert done.exit_code == 1, done.output
    assert "First disagreements" in done.stdout
    assert "macro-F1" in done.stdout
    assert (tmp_path / "store.zarr").is_dir()


def test_the_authors_files_are_fetched_where_none_are_given(
    weights: Path,
    planes: Path,
    published: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler = partial(QuietHandler, directory=str(published[0].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}"
        here = replace(
            REFERENCE,
            predictions=Remote(url=f"{place}/prediction.json"),
            prompts=Remote(url=f"{place}/prompts.json"),
        )
        monkeypatch.setattr(references, "REFERENCES", (here,))
        cohort = f"spain=fetal-planes-db:{planes}"
        done = run("encoders", "validate", f"fetalclip={weights}", "--cohort", cohort)
        server.shutdown()
    assert done.exit_code == 0, done.output
    assert re.search(r"all +15 +15 +100\.00 %", done.stdout)
    sha256 = hashlib.sha256(published[1].read_bytes()).hexdigest()
    assert f"prompts.json: fetched, sha256 {sha256}" in done.stderr
