"""Servers on this machine that stores are sent to and fetched from. Each test starts its own."""

from __future__ import annotations

import http.client
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import ClassVar

import pytest

#: What a fault does to a request: a status instead of an answer, or other bytes.
Fault = Callable[[str, str], int | None]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "the server ended"
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


@pytest.fixture(scope="session")
def free_ports() -> Callable[[int], list[int]]:
    return lambda number: [free_port() for _ in range(number)]


@pytest.fixture(scope="session", name="wait_for")
def wait_for_() -> Callable[[int, subprocess.Popen[bytes]], None]:
    return wait_for


class Quiet(BaseHTTPRequestHandler):
    """HTTP/1.1 without a word on stderr."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@dataclass
class Bucket:
    """A bucket of an S3 server, seen through a proxy that counts and, if told so, refuses."""

    url: str
    requests: list[tuple[str, str]] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    fault: Fault = lambda method, key: None

    def count(self, *methods: str) -> int:
        return sum(method in methods for method, _ in self.requests)

    def keys(self, method: str) -> list[str]:
        return [key for one, key in self.requests if one == method]


class Proxy(Quiet):
    behind: ClassVar[int]
    bucket: ClassVar[Bucket]

    def forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        key = self.path.partition("?")[0].partition("/study/")[2]
        self.bucket.requests.append((self.command, key))
        self.bucket.heard.append(f"{self.path}\n{self.headers}\n".encode() + body)
        status = self.bucket.fault(self.command, key)
        if status is not None:
            self.answer(status)
            return
        to = http.client.HTTPConnection("127.0.0.1", self.behind)
        to.request(self.command, self.path, body, dict(self.headers))
        got = to.getresponse()
        kept = {k: v for k, v in got.getheaders() if k.lower() in ("etag", "last-modified")}
        data = got.read()
        to.close()
        self.answer(got.status, data, **kept)

    do_GET = do_PUT = do_DELETE = do_POST = forward  # noqa: N815  # http.server's names

    def do_HEAD(self) -> None:
        raise AssertionError("nothing of ours asks so")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[int]:
    """moto's S3, in a process of its own."""
    port = free_port()
    code = f"from moto.server import main; main(['-H', '127.0.0.1', '-p', '{port}'])"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], **quiet)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


numbers = count()


@pytest.fixture
def bucket(s3_server, monkeypatch) -> Iterator[Bucket]:
    name = f"bucket-{next(numbers)}"
    to = http.client.HTTPConnection("127.0.0.1", s3_server)
    to.request("PUT", f"/{name}")
    assert to.getresponse().status == 200
    to.close()
    made = Bucket(f"s3://{name}/study")
    handler = type("Handler", (Proxy,), {"behind": s3_server, "bucket": made})
    with serving(handler) as port:
        for variable, value in {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(variable, value)
        yield made


class serving:  # noqa: N801  # used like a function
    """A server in a thread, for the length of a context."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True

    def __enter__(self) -> int:
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        return self.server.server_address[1]

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@dataclass
class Web:
    """A folder behind nginx, with the log of what was asked for."""

    url: str
    folder: Path
    log: Path

    def asked(self) -> list[str]:
        """Keys of the store `study` asked for since the last time."""
        time.sleep(0.05)  # nginx writes a line after it has answered
        lines = self.log.read_text().split()
        self.log.write_text("")
        return [line.removeprefix("/study/") for line in lines]


@pytest.fixture(scope="session")
def nginx(tmp_path_factory) -> Iterator[Web]:
    if shutil.which("nginx") is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    home, port = tmp_path_factory.mktemp("nginx"), free_port()
    (home / "www").mkdir()
    home.chmod(0o755)
    (home / "access.log").touch()
    user = "user root;" if __import__("os").getuid() == 0 else ""
    (home / "nginx.conf").write_text(
        f"""{user} daemon off; pid {home}/pid; error_log {home}/error.log;
        events {{}}
        http {{
          log_format key '$uri'; access_log {home}/access.log key;
          client_body_temp_path {home}/b; proxy_temp_path {home}/p; fastcgi_temp_path {home}/f;
          uwsgi_temp_path {home}/u; scgi_temp_path {home}/s;
          server {{ listen 127.0.0.1:{port}; root {home}/www; }}
        }}"""
    )
    process = subprocess.Popen(["nginx", "-c", str(home / "nginx.conf"), "-e", f"{home}/early.log"])
    try:
        wait_for(port, process)
        yield Web(f"http://127.0.0.1:{port}/study", home / "www", home / "access.log")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture
def web(nginx) -> Iterator[Web]:
    nginx.asked()
    yield nginx
    shutil.rmtree(nginx.folder / "study", ignore_errors=True)


@dataclass
class Liar:
    """A web server over a folder that treats the named keys as `how` says."""

    url: str
    folder: Path
    keys: tuple[str, ...] = ()
    how: str = "honest"


@pytest.fixture
def liar(tmp_path) -> Iterator[Liar]:
    made = Liar("", tmp_path / "served")

    class Handler(Quiet):
        def do_GET(self) -> None:
            key = self.path.removeprefix("/study/")
            file = made.folder / key
            if not file.is_file():
                self.answer(404)
                return
            data = file.read_bytes()
            how = made.how if key in made.keys else "honest"
            if how == "lies":
                self.answer(200, data[:-1] + bytes([data[-1] ^ 1]))
            elif how == "shortens":
                self.answer(200, data[:-1])
            elif how == "truncates":
                self.answer(200, data[: len(data) // 2], **{"Content-Length": str(len(data))})
                self.close_connection = True
            elif how == "floods":
                self.answer(200, b"", **{"Content-Length": str(1 << 40)})
                self.close_connection = True
            elif how == "withholds":
                self.answer(404)
            else:
                self.answer(200, data)

    with serving(Handler) as port:
        made.url = f"http://127.0.0.1:{port}/study"
        yield made
