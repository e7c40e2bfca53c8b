"""Weights come from where they were published, with their licence accepted, and are pinned."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embedcache import registry
from embedcache.contract import Preprocessing
from embedcache.encoders.fetch import Fetched, fetch
from embedcache.encoders.meter import Meter
from embedcache.encoders.offers import Offer
from embedcache.encoders.resolve import resolve
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import HttpsFile, weights_folder
from embedcache.encoders.weights_lock import read_lock
from embedcache.errors import (
    DigestDiffersError,
    DiskFullError,
    ReferenceSyntaxError,
    SchemaError,
    UnknownNameError,
    WeightsMissingError,
)

CONTENT = bytes(range(256)) * 100
SHA256 = hashlib.sha256(CONTENT).hexdigest()
#: What the server gives for each name.
FILES = {"good.pth": CONTENT, "other.pth": CONTENT[::-1], "page.pth": b"<html>Quota exceeded"}


class Server(BaseHTTPRequestHandler):
    """A web server of weight files."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        body = self._answer()
        self.wfile.write(body)

    def _answer(self) -> bytes:
        body = FILES.get(self.path[1:], b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
        """Say nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    made = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{made.server_port}"
    made.shutdown()
    thread.join()
    made.server_close()


def spec(name: str, *sources: HttpsFile) -> EncoderSpec:
    return EncoderSpec(
        name=name,
        dim=3,
        architecture="none",
        preprocessing=Preprocessing(height=8, width=8, mean=(0.5,), std=(0.5,)),
        pooling="none",
        build=lambda _: pytest.fail("nothing is built here"),
        sources=sources,
        licence="CC-BY-NC-4.0",
        citation="Somebody, 2026",
    )


@pytest.fixture(autouse=True)
def encoders(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, EncoderSpec]:
    """Four encoders, registered for one test, and a weights folder of its own."""
    monkeypatch.setenv("EMBEDCACHE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = {
        name: spec(name, HttpsFile(url=f"{server}/{name}.pth"))
        for name in ("good", "other", "page", "gone")
    }
    known, load = registry.names("encoders"), registry.load
    monkeypatch.setattr(registry, "names", lambda _: tuple(sorted({*known, *made})))
    monkeypatch.setattr(registry, "load", lambda kind, name: made.get(name) or load(kind, name))
    monkeypatch.setattr(registry, "offered_by", lambda *_: ("embedcache-bench", "1"), raising=False)
    return made


def one(*names: str, licences: tuple[str, ...] | None = None) -> dict[str, Fetched]:
    done = fetch(names, licences=names if licences is None else licences)
    return {row.name: row for row in done}


def test_a_fetched_file_lies_in_the_weights_folder_pinned_and_found() -> None:
    assert one("good")["good"] == Fetched(
        name="good", state="fetched", size=len(CONTENT), sha256=SHA256, licence="CC-BY-NC-4.0"
    )
    file = weights_folder() / "good" / "good.pth"
    assert file.read_bytes() == CONTENT
    assert [path.name for path in file.parent.iterdir() if path.suffix != ".lock"] == ["good.pth"]
    made = read_lock().weights["good"]
    assert (made.sha256, made.size, made.file) == (SHA256, len(CONTENT), "good/good.pth")
    assert not made.published
    resolved = resolve("good")
    assert resolved.file == file
    assert resolved.contract.weights == f"sha256:{SHA256}"


def test_a_second_fetch_reads_what_is_here() -> None:
    one("good")
    assert one("good", licences=())["good"].state == "here"


def test_nothing_is_fetched_unasked() -> None:
    with pytest.raises(WeightsMissingError, match="run embedcache encoders fetch good"):
        resolve("good")


def test_a_licence_that_nobody_accepted_stops_its_encoder_alone() -> None:
    rows = one("good", "other", licences=("other",))
    assert rows["other"].state == "fetched"
    assert rows["good"].state == "failed"
    assert "licence of good (CC-BY-NC-4.0) was not accepted" in rows["good"].problem
    assert "--accept-licence good" in rows["good"].problem
    assert set(read_lock().licences) == {"other"}


def test_a_licence_is_asked_for_once_with_the_size_and_the_citation(
    encoders: dict[str, EncoderSpec],
) -> None:
    asked: list[Offer] = []

    def agree(offer: Offer) -> bool:
        asked.append(offer)
        return True

    fetch(["good"], consent=agree)
    (weights_folder() / "good" / "good.pth").unlink()
    fetch(["good"], consent=agree)
    assert [(offer.size, offer.citation) for offer in asked] == [(len(CONTENT), "Somebody, 2026")]
    (weights_folder() / "good" / "good.pth").unlink()
    encoders["good"] = replace(encoders["good"], licence="another licence")
    fetch(["good"], consent=agree)
    assert len(asked) == 2


def test_a_licence_of_what_is_not_fetched_is_a_typo() -> None:
    with pytest.raises(UnknownNameError, match="no encoder to fetch 'other'; choose one of good"):
        fetch(["good"], licences=["other"])


@pytest.mark.parametrize("given", ["usfm=w.pth", "usfm=random", "my.py:make", "x.safetensors"])
def test_what_is_here_already_is_no_encoder_to_fetch(given: str) -> None:
    with pytest.raises(ReferenceSyntaxError, match="is no encoder to fetch; write NAME, as in"):
        fetch([given])


def test_one_that_fails_does_not_stop_the_others() -> None:
    rows = one("page", "gone", "good")
    assert [row.state for row in rows.values()] == ["failed", "failed", "fetched"]
    assert "sends a web page" in rows["page"].problem
    assert "run embedcache encoders add page FILE" in rows["page"].problem
    assert "answers 404" in rows["gone"].problem
    assert set(read_lock().weights) == {"good"}
    assert not (weights_folder() / "page" / "page.pth").exists()


def test_what_needs_no_weights_says_so() -> None:
    assert one("pixels", licences=())["pixels"].state == "none needed"


def test_all_sizes_are_summed_before_the_first_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("usage", (), {"free": 2 * len(CONTENT) - 1})
    monkeypatch.setattr("embedcache.encoders.offers.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError, match="MB free; free some, or set EMBEDCACHE_WEIGHTS"):
        fetch(["good", "other"], licences=["good", "other"])
    assert not list(weights_folder().rglob("*.pth"))
    usage.free += 1
    assert {row.state for row in one("good", "other").values()} == {"fetched"}


def test_what_comes_later_must_be_what_came_first(monkeypatch: pytest.MonkeyPatch) -> None:
    one("good")
    (weights_folder() / "good" / "good.pth").unlink()
    monkeypatch.setitem(FILES, "good.pth", b"changed")
    row = one("good")["good"]
    assert row.state == "failed"
    assert SHA256 in row.problem
    assert hashlib.sha256(b"changed").hexdigest() in row.problem


def test_a_pinned_file_that_changed_here_is_not_used() -> None:
    one("good")
    (weights_folder() / "good" / "good.pth").write_bytes(b"changed")
    with pytest.raises(DigestDiffersError, match=f"not {SHA256}; .*take good out of weights.lock"):
        resolve("good")


@pytest.mark.parametrize(
    ("stated", "problem"),
    [({"sha256": "0" * 64}, "its sha256 is"), ({"size": 7}, "where 7 are expected")],
)
def test_what_the_publisher_states_must_hold(
    encoders: dict[str, EncoderSpec], server: str, stated: dict[str, object], problem: str
) -> None:
    source = HttpsFile(url=f"{server}/good.pth", **stated)  # type: ignore[arg-type]  # one of two
    encoders["good"] = replace(encoders["good"], sources=(source,))
    row = one("good")["good"]
    assert row.state == "failed"
    assert problem in row.problem


def test_the_next_source_is_tried_where_the_first_fails(
    encoders: dict[str, EncoderSpec], server: str
) -> None:
    sources = tuple(HttpsFile(url=f"{server}/{file}.pth") for file in ("page", "gone", "good"))
    encoders["good"] = replace(encoders["good"], sources=sources)
    assert one("good")["good"].sha256 == SHA256


def test_the_lock_names_no_path_and_bears_no_stranger(
    tmp_path: Path, change_lock: Callable[[str, object], None]
) -> None:
    one("good")
    text = (weights_folder() / "weights.lock").read_text()
    assert str(tmp_path) not in text
    change_lock("file", "../../etc/passwd")
    with pytest.raises(SchemaError, match="leads out of the weights folder"):
        resolve("good")
    (weights_folder() / "weights.lock").write_text("{")
    with pytest.raises(SchemaError, match="is not valid JSON"):
        resolve("good")


@pytest.fixture
def change_lock() -> Callable[[str, object], None]:
    def change(key: str, value: object) -> None:
        path = weights_folder() / "weights.lock"
        content = json.loads(path.read_text())
        content["weights"]["good"][key] = value
        path.write_text(json.dumps(content))

    return change


def test_bytes_become_a_bar_of_megabytes() -> None:
    class Counting:
        done = 0

        def advance(self, units: int = 1) -> None:
            self.done += units

    meter = Meter(Counting())
    for _ in range(5):
        meter.advance(700_000)
    assert meter._stage.done == 3
    meter.report(1_200_000, None)
    assert meter._stage.done == 1
