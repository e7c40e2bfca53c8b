"""What timm says is asked once, and again when timm changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from embedcache.encoders.families import timm_model
from embedcache.encoders.families.timm_model import TimmModel
from embedcache.errors import UnknownNameError

#: `test_resnet` of timm 1.0: 10 layers, the last of 48 x 4 channels.
NAME = "test_resnet.r160_in1k"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_an_answer_is_timm_s_own(cache: Path) -> None:
    model = timm_model.timm_model(NAME)
    assert (model.architecture, model.tag) == ("test_resnet", "r160_in1k")
    assert (model.pooling, model.input_size) == ("avg", (3, 160, 160))
    assert model.dim == timm_model.create("test_resnet").num_features


def test_a_second_question_loads_no_torch(cache: Path) -> None:
    asked = timm_model.timm_model(NAME)
    question = (
        "import sys; from embedcache.encoders.families.timm_model import timm_model;"
        f"model = timm_model({NAME!r}); assert not {{'torch', 'timm'}} & set(sys.modules);"
        "print(model)"
    )
    command = [sys.executable, "-c", question]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(asked), done.stderr


def test_another_timm_is_asked_anew(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched = tmp_path / "patched.py"
    patched.write_text("dim = 1")
    monkeypatch.setattr(timm_model, "_source", lambda: iter([patched]))
    asked: list[str] = []

    def ask(name: str) -> TimmModel:
        asked.append(name)
        return answer

    answer = timm_model.timm_model(NAME)
    monkeypatch.setattr(timm_model, "_asked", ask)
    assert timm_model.timm_model(NAME) == answer
    assert asked == []
    patched.write_text("dim = 2")
    assert timm_model.timm_model(NAME) == answer
    assert asked == [NAME]


def test_a_damaged_answer_is_asked_for_again(cache: Path) -> None:
    answer = timm_model.timm_model(NAME)
    (kept,) = cache.rglob("*.json")
    kept.write_text('{"dim": 7}')
    assert timm_model.timm_model(NAME) == answer
    assert kept.read_text() != '{"dim": 7}'


def test_a_cache_that_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert timm_model.timm_model(NAME).architecture == "test_resnet"


@pytest.mark.parametrize("name", ["no_such_net", "test_resnet.no_such_tag", "../../evil"])
def test_what_timm_does_not_know_is_kept_nowhere(cache: Path, name: str) -> None:
    with pytest.raises(UnknownNameError):
        timm_model.timm_model(name)
    assert not list(cache.rglob("*"))
