"""A command's encoders are resolved together, and what they lack is named together."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedcache.encoders.paper import SEVEN
from embedcache.encoders.several import resolve_all
from embedcache.errors import ManyWeightsMissingError, WeightsMissingError
from embedcache.progress import Silent


@pytest.fixture(autouse=True)
def _no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDCACHE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def test_all_encoders_that_lack_weights_are_named_with_one_command() -> None:
    with pytest.raises(ManyWeightsMissingError) as refused:
        resolve_all(["pixels", "@paper"], Silent())
    assert str(refused.value).endswith(f"run embedcache encoders fetch {' '.join(SEVEN)}")


def test_one_that_lacks_them_says_what_it_lacks_itself() -> None:
    with pytest.raises(WeightsMissingError, match=r"USFM_latest\.pth is not in the weights folder"):
        resolve_all(["pixels", "usfm", "usfm@cls"], Silent())


def test_a_feature_asked_for_twice_comes_once() -> None:
    assert [one.name for one in resolve_all(["pixels", "pixels"], Silent())] == ["pixels"]
