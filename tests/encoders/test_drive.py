"""Google Drive and web servers behind a hospital's proxy, which this test plays on loopback.

The proxy answers CONNECT itself and speaks TLS with a certificate of its own authority, as such
proxies do. gdown and our download run unchanged; only the environment points them here.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from embedcache import download as room
from embedcache.contract import Preprocessing
from embedcache.download import Remote, download
from embedcache.encoders.drive import fetch_from_drive
from embedcache.encoders.fetch import _fetch_one
from embedcache.encoders.offers import Fetchable, offer_of
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import DriveFile, weights_folder
from embedcache.errors import DownloadFailedError
from embedcache.progress import Silent

CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
#: Drive's ids have at least 25 characters; these say how the file behaves.
FREE, ASKS, QUOTA, FAKE = (name.ljust(28, "x") for name in ("free", "asks", "quota", "fake"))
FOLDER = "folder".ljust(28, "x")
HOSTS = ("drive.google.com", "drive.usercontent.google.com", "weights.example.org")


class Site(BaseHTTPRequestHandler):
    """A proxy for CONNECT, and behind it Google Drive and a web server."""

    protocol_version = "HTTP/1.1"
    tls: ClassVar[ssl.SSLContext]
    cut: ClassVar[list[int]] = []

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        # Whoever does not trust the certificate hangs up.
        with (
            contextlib.suppress(ssl.SSLError),
            self.tls.wrap_socket(self.connection, server_side=True) as secure,
        ):
            self.connection = secure  # type: ignore[assignment]  # a socket all the same
            self.rfile, self.wfile = secure.makefile("rb"), secure.makefile("wb")
            self.handle_one_request()
            self.wfile.flush()

    def do_GET(self) -> None:
        self.close_connection = True
        url = urlsplit(self.path)
        (asked,) = parse_qs(url.query).get("id", ["web"])
        if url.path == "/embeddedfolderview":
            self._page(
                f'<html><title>weights</title><a href="https://drive.google.com/file/d/{FREE}/view">'
                f'other.pth</a><a href="https://drive.google.com/file/d/{ASKS}/view">w.pth</a></html>'
            )
        elif asked == QUOTA:
            self._page('<p class="uc-error-subcaption">Too many users have viewed it</p>')
        elif asked == ASKS and url.path == "/uc":
            self._page(
                '<form id="download-form" action="https://drive.usercontent.google.com/download">'
                f'<input type="hidden" name="id" value="{ASKS}"></form>'
            )
        else:
            self._file(b"<html>sign in</html>" if asked == FAKE else CONTENT)

    def _page(self, page: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page.encode())

    def _file(self, content: bytes) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(asked[1]) if asked else 0
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", '"one"')
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Disposition", 'attachment; filename="w.pth"')
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        self.wfile.write(content[first:][: self.cut.pop() if self.cut else None])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it
        """Say nothing."""


def certificates(folder: Path) -> tuple[Path, Path]:
    """A certificate of an authority of our own for the hosts, with its key; and the authority's."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a hospital's proxy")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(host) for host in HOSTS]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    public, both = folder / "authority.pem", folder / "proxy.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    both.write_bytes(secret + public.read_bytes())
    return both, public


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    both, public = certificates(tmp_path_factory.mktemp("certificates"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(both)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Here", (Site,), {"tls": tls}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", public
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def behind_it(proxy: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address, authority = proxy
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, address)
    for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(authority))
    monkeypatch.setenv("EMBEDCACHE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(room, "PAUSE", 0)
    monkeypatch.setattr("embedcache.encoders.drive.RETRIES", 0)
    Site.cut.clear()


def fetched(source: Fetchable) -> tuple[str, str]:
    """What fetching an encoder from this source alone comes to: digest and problem."""
    spec = EncoderSpec(
        name="usfm",
        dim=3,
        architecture="none",
        preprocessing=Preprocessing(height=8, width=8, mean=(0.5,), std=(0.5,)),
        pooling="none",
        build=lambda _: pytest.fail("nothing is built here"),
        sources=(source,),
    )
    row = _fetch_one([offer_of(spec, source)], Silent())
    return row.sha256, row.problem


@pytest.mark.parametrize("source", [{"id": FREE}, {"id": ASKS}, {"folder": FOLDER}], ids=str)
def test_a_file_on_drive_comes_whole(source: dict[str, str]) -> None:
    assert fetched(DriveFile(name="w.pth", **source)) == (SHA256, "")
    held = weights_folder() / "usfm" / "w.pth"
    assert held.read_bytes() == CONTENT
    assert list(held.parent.iterdir()) == [held]


def test_a_transfer_that_broke_off_goes_on_in_the_next_run(tmp_path: Path) -> None:
    Site.cut[:] = [600_000]
    digest, problem = fetched(DriveFile(name="w.pth", id=FREE))
    assert not digest
    assert "Google Drive broke off" in problem
    (part,) = (weights_folder() / "usfm").glob("*.part")
    assert part.stat().st_size == 1 << 19  # gdown writes blocks of half a mebibyte
    counted: list[int] = []
    into = weights_folder() / "usfm" / "w.pth.part"
    fetch_from_drive("usfm", DriveFile(name="w.pth", id=FREE), into, lambda n, _: counted.append(n))
    assert into.read_bytes() == CONTENT
    assert counted[0] > 1 << 19


def test_a_refusal_gives_the_address_and_the_command() -> None:
    digest, problem = fetched(DriveFile(name="w.pth", id=QUOTA))
    assert not digest
    assert problem == (
        "w.pth could not be fetched: Google Drive does not give it (FileURLRetrievalError); "
        f"open https://drive.google.com/file/d/{QUOTA}/view in a browser, save w.pth, and run "
        "embedcache encoders add usfm FILE"
    )


@pytest.mark.parametrize(
    ("stated", "problem"),
    [
        ({"id": FAKE}, "a web page came in place of the file"),
        ({"id": FREE, "size": 5}, "where 5 are expected"),
        ({"id": FREE, "sha256": "0" * 64}, "is not the file expected"),
        ({"folder": FOLDER}, "its folder holds 0 files of that name (other.pth, w.pth)"),
    ],
)
def test_another_file_is_refused_and_not_kept(stated: dict[str, str], problem: str) -> None:
    name = "no.pth" if "folder" in stated else "w.pth"
    digest, found = fetched(DriveFile(name=name, **stated))  # type: ignore[arg-type]  # each has its own
    assert not digest
    assert problem in found
    assert not list((weights_folder() / "usfm").iterdir())


def test_a_web_server_is_reached_through_the_proxy_with_its_certificate(tmp_path: Path) -> None:
    remote = Remote(url="https://weights.example.org/w.pth")
    Site.cut[:] = [600_000]
    assert download(remote, tmp_path / "w.part", lambda _: None) == SHA256


def test_a_certificate_that_nobody_here_trusts_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(DownloadFailedError, match="not trusted here; set SSL_CERT_FILE"):
        download(Remote(url="https://weights.example.org/w"), tmp_path / "w", lambda _: None)


def test_a_proxy_that_refuses_is_told_from_a_server_that_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Site, "do_CONNECT", lambda self: self.send_error(407))
    with pytest.raises(DownloadFailedError, match=r"the proxy refuses .*check HTTPS_PROXY"):
        download(Remote(url="https://weights.example.org/w"), tmp_path / "w", lambda _: None)
