"""A file arrives whole and checked, over interrupted runs, or an error says why not."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedcache import download as room
from embedcache.download import Remote, ask_size, download, record_of
from embedcache.errors import DigestDiffersError, DownloadFailedError

CONTENT = bytes(range(256)) * 5000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PAGE = b"<!DOCTYPE html><title>Quota exceeded</title>"


@dataclass
class Site:
    """What a server answers with, and what it was asked.

    `cut`: bytes of a body after which the connection ends; `ranges`: whether it knows ranges;
    `stated`: a length that it states though it is another;
    `statuses`: answers before the first real one.
    """

    content: bytes = CONTENT
    tag: str | None = '"one"'
    kind: str = "application/octet-stream"
    cut: int | None = None
    ranges: bool = True
    shift: int = 0
    chunked: bool = False
    statuses: list[int] = field(default_factory=list)
    elsewhere: str = ""
    stated: str = ""
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


class Answers(BaseHTTPRequestHandler):
    site: ClassVar[Site]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", self.site.stated or str(len(self.site.content)))
        self.end_headers()

    def do_GET(self) -> None:
        self.site.asked.append(self.headers.get("Range"))
        self.close_connection = True
        if self.site.statuses:
            self._head(self.site.statuses.pop(0), 0)
        elif self.site.elsewhere:
            self.send_response(302)
            self.send_header("Location", self.site.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._body()

    def _body(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        if asked and self.site.ranges and condition in (None, self.site.tag):
            first = int(asked[1]) + self.site.shift
            if first >= len(self.site.content):
                self._head(416, 0)
                return
            last = len(self.site.content) - 1
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.site.content)}")
            body = self.site.content[first:]
        else:
            self.send_response(200)
            body = self.site.content
        self._send(body)

    def _send(self, body: bytes) -> None:
        self.send_header("Content-Type", self.site.kind)
        if self.site.tag:
            self.send_header("ETag", self.site.tag)
        sent = body if self.site.cut is None else body[: self.site.cut]
        if self.site.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(f"{len(sent):x}\r\n".encode() + sent + b"\r\n")
            self.wfile.write(b"0\r\n\r\n" if self.site.cut is None else b"ff\r\n")
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(sent)

    def _head(self, status: int, length: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Serves people who hang up: that is what the tests are about, and no news."""

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    made = Site()
    server = Server(("127.0.0.1", 0), type("Of", (Answers,), {"site": made}))
    made.url = f"http://127.0.0.1:{server.server_port}/w.pth"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def fresh(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server as it is at first; no pauses, and no proxy before this machine."""
    was = Site(url=site.url.removesuffix("?other"))
    for name in Site.__dataclass_fields__:
        setattr(site, name, getattr(was, name))
    monkeypatch.setattr(room, "PAUSE", 0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fetched(part: Path, site: Site, **expected: Any) -> tuple[str, int]:
    """Digest, and the sum of what was reported."""
    counted: list[int] = []
    digest = download(Remote(url=site.url, **expected), part, counted.append)
    assert digest == hashlib.sha256(part.read_bytes()).hexdigest()
    return digest, sum(counted)


def cut_off(part: Path, site: Site, kept: int) -> None:
    """An earlier run that got `kept` bytes and was then killed."""
    before, site.cut = site.cut, kept
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "ATTEMPTS", 1)
        patch.setattr(room.time, "sleep", stop)
        with contextlib.suppress(DownloadFailedError, KeyboardInterrupt):
            download(Remote(url=site.url), part, lambda _: None)
    site.cut = before
    site.asked.clear()


def stop(_seconds: float) -> None:
    raise KeyboardInterrupt


def test_a_file_comes_whole_and_is_counted(site: Site, tmp_path: Path) -> None:
    assert ask_size(Remote(url=site.url)) == len(CONTENT)
    whole = {"size": len(CONTENT), "sha256": SHA256}
    assert fetched(tmp_path / "w.part", site, **whole) == (SHA256, len(CONTENT))
    assert (tmp_path / "w.part").read_bytes() == CONTENT


def test_a_run_goes_on_where_the_last_one_was_cut_off(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "w.part"
    cut_off(part, site, 700_000)
    assert part.read_bytes() == CONTENT[:700_000]
    assert fetched(part, site) == (SHA256, len(CONTENT))
    assert site.asked == ["bytes=700000-"]


def test_a_server_that_cuts_off_every_connection_is_asked_until_all_is_there(
    site: Site, tmp_path: Path
) -> None:
    site.cut = 300_000
    assert fetched(tmp_path / "w.part", site, sha256=SHA256) == (SHA256, len(CONTENT))
    assert site.asked == [None, *(f"bytes={300_000 * n}-" for n in range(1, 5))]


def test_a_whole_part_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    fetched(tmp_path / "w.part", site)
    site.asked.clear()
    assert fetched(tmp_path / "w.part", site) == (SHA256, len(CONTENT))
    assert site.asked == []


BEGINS_ANEW: dict[str, Callable[[Site], None]] = {
    "ignores ranges": lambda site: setattr(site, "ranges", False),
    "has another version": lambda site: setattr(site, "tag", '"two"'),
    "sends another part": lambda site: setattr(site, "shift", 5),
}


@pytest.mark.parametrize("change", BEGINS_ANEW.values(), ids=list(BEGINS_ANEW))
def test_a_server_that_cannot_go_on_gives_the_file_anew(
    site: Site, tmp_path: Path, change: Callable[[Site], None]
) -> None:
    part = tmp_path / "w.part"
    cut_off(part, site, 700_000)
    change(site)
    site.content = CONTENT[::-1]
    digest, counted = fetched(part, site)
    assert part.read_bytes() == CONTENT[::-1]
    assert counted == len(CONTENT)
    assert digest != SHA256


def test_a_file_that_shrank_below_the_part_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "w.part"
    cut_off(part, site, 700_000)
    site.content = CONTENT[:1000]
    assert fetched(part, site) == (hashlib.sha256(CONTENT[:1000]).hexdigest(), 1000)


@pytest.mark.parametrize("tag", [None, 'W/"weak"'])
def test_where_nothing_tells_versions_apart_only_a_digest_lets_a_run_go_on(
    site: Site, tmp_path: Path, tag: str | None
) -> None:
    site.tag = tag
    cut_off(tmp_path / "a.part", site, 700_000)
    assert fetched(tmp_path / "a.part", site)[0] == SHA256
    assert site.asked == [None]
    cut_off(tmp_path / "b.part", site, 700_000)
    assert fetched(tmp_path / "b.part", site, sha256=SHA256)[0] == SHA256
    assert site.asked == ["bytes=700000-"]


def test_a_part_of_another_address_is_not_gone_on_with(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "w.part"
    cut_off(part, site, 700_000)
    site.url += "?other"
    assert fetched(part, site) == (SHA256, len(CONTENT))
    assert site.asked == [None]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=5), st.booleans())
def test_whatever_is_cut_off_the_file_is_the_same(
    site: Site, tmp_path_factory: pytest.TempPathFactory, cuts: list[int], ranges: bool
) -> None:
    site.content, site.ranges, site.cut = CONTENT[:2000], ranges, None
    part = tmp_path_factory.mktemp("cut") / "w.part"
    for cut in cuts:
        if cut < 2000:
            cut_off(part, site, cut)
    assert fetched(part, site)[1] == 2000
    assert part.read_bytes() == CONTENT[:2000]


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a page": ({"content": PAGE}, {}, "sends a web page"),
    "a page by type": ({"kind": "text/html; charset=utf-8"}, {}, "sends a web page"),
    "another size": ({}, {"size": 5}, r"has 1,280,000 bytes where 5 are expected; try again"),
    "another size, unannounced": ({"chunked": True}, {"size": 5}, "has 1,280,000 bytes where 5"),
    "not there": ({"statuses": [404]}, {}, "answers 404"),
    "always busy": ({"statuses": [503] * 9}, {}, "answers 503"),
    "cut for ever": ({"cut": 10, "ranges": False}, {}, "cut off"),
    "cut in chunks": ({"cut": 10, "chunked": True, "tag": None}, {}, "cut off"),
    "sent to plain http": ({"elsewhere": "http://example.org/w"}, {}, "can be read on the way"),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=list(REFUSED))
def test_what_is_not_the_file_is_refused(
    site: Site, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any], str]
) -> None:
    served, expected, reason = case
    for name, value in served.items():
        setattr(site, name, value)
    with pytest.raises(DownloadFailedError, match=reason):
        fetched(tmp_path / "w.part", site, **expected)


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    site.statuses = [503, 429]
    assert fetched(tmp_path / "w.part", site)[0] == SHA256


def test_another_digest_names_both_and_keeps_nothing(site: Site, tmp_path: Path) -> None:
    with pytest.raises(DigestDiffersError, match=f"sha256 is {SHA256}, not {'0' * 64}; try again"):
        fetched(tmp_path / "w.part", site, sha256="0" * 64)
    assert not (tmp_path / "w.part").exists()
    assert not record_of(tmp_path / "w.part").exists()


def test_what_could_be_changed_on_the_way_is_not_fetched(tmp_path: Path) -> None:
    for url in ("http://example.org/w.pth", "ftp://example.org/w.pth", "file:///etc/passwd"):
        with pytest.raises(DownloadFailedError, match="can be read on the way"):
            download(Remote(url=url), tmp_path / "w.part", lambda _: None)


def test_two_processes_do_not_gather_one_file(site: Site, tmp_path: Path) -> None:
    part = tmp_path / "w.part"

    def second(_: int) -> None:
        with pytest.raises(DownloadFailedError, match="another process is fetching it"):
            download(Remote(url=site.url), part, lambda _: None)

    download(Remote(url=site.url), part, second)
    assert part.read_bytes() == CONTENT


@pytest.mark.parametrize("stated", ["9" * 5000, "-1", "0x10", "\u0661", "1e3", "1 2"])
def test_a_length_that_is_no_number_is_none(stated: str, site: Site) -> None:
    site.stated = stated.encode("utf-8").decode("latin-1")
    assert ask_size(Remote(url=site.url)) is None


def test_a_file_of_tensors_may_start_as_a_page_does(tmp_path: Path, site: Site) -> None:
    site.content = b" <" + bytes(6) + b"{}" + CONTENT
    assert fetched(tmp_path / "w", site)[1] == len(site.content)
