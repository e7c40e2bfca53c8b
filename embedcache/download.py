"""Fetch one file over HTTP, and go on where an earlier run was cut off.

What has arrived lies in a *part* beside a small record of what it is a part of. A later run asks
for the rest under the condition that the file is still the same (`If-Range`), and begins anew where
the server says otherwise, or says nothing that could tell. Proxies come from the environment
(`HTTPS_PROXY`, `NO_PROXY`), certificates too (`SSL_CERT_FILE`, `SSL_CERT_DIR`, else
`REQUESTS_CA_BUNDLE`, which hospitals often set for pip).

The caller publishes the finished part under its name.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import ssl
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from http.client import HTTPException, HTTPMessage
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from embedcache.errors import DigestDiffersError, DownloadFailedError, SchemaError
from embedcache.schema import canonical_json, from_json

#: Attempts without a single new byte before we give up, and seconds before the second of them;
#: each further pause is twice as long.
ATTEMPTS, PAUSE = 4, 1.0
#: Seconds without a byte after which a connection is dead.
SILENCE = 60.0
_BLOCK = 1 << 20
#: Answers that another attempt may change.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
#: Answers of servers that do not know the method.
_NO_HEAD = frozenset({405, 501})
#: A length that a server may state: up to an exabyte, and no more digits than Python reads.
_LENGTH = "[0-9]{1,18}"
_RANGE = re.compile(rf"bytes ({_LENGTH})-({_LENGTH})/({_LENGTH})")


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A file elsewhere.

    Attributes:
        url: `https://…`; `http://` only on this machine.
        size: bytes that it must have; None if nobody says.
        sha256: what it must hash to, 64 hex digits; None if nobody says.
        mend: what to do where it cannot be fetched.
    """

    url: str
    size: int | None = None
    sha256: str | None = None
    mend: str = "try again later"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """What a part is a part of.

    Attributes:
        url: where it comes from.
        validator: the server's word for this version of the file; empty if it has none.
        size: bytes of the whole; None if the server does not say.
    """

    url: str
    validator: str
    size: int | None


class _InterruptedError(Exception):
    """The connection ended, or the answer is worth asking for again."""


class _OtherPartError(_InterruptedError):
    """The server does not go on where we are; only the whole file will do."""


def ask_size(remote: Remote) -> int | None:
    """Bytes that the server says the file has; None if it does not say.

    Raises:
        DownloadFailedError: if there is no such file, or no way to it.
    """
    try:
        with closing(_open(remote, {}, "HEAD")) as response:
            return _stated(response.headers)
    except _InterruptedError:
        return None


def download(remote: Remote, part: Path, advance: Callable[[int], None]) -> str:
    """Bring a file whole into `part`; returns its sha256, 64 hex digits.

    Args:
        remote: what is fetched.
        part: where it is gathered; what an earlier run left there is used. Its folder exists.
        advance: told of bytes as they come, and of those already there; a negative number takes
            bytes back.

    Raises:
        DownloadFailedError: if it cannot be had; what has come is kept for the next run.
        DigestDiffersError: if it is another file than expected; nothing is kept.
    """
    lock = FileLock(part.with_name(f".{part.name}.lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        reason, mend = "another process is fetching it", "wait for that one"
        raise DownloadFailedError(remote.url, reason, mend) from error
    try:
        _gather(remote, part, advance)
        return _verified(remote, part)
    finally:
        lock.release()


def record_of(part: Path) -> Path:
    """Where the record beside a part lies."""
    return part.with_name(f"{part.name}.json")


def discard(part: Path) -> None:
    """Forget a part and its record."""
    part.unlink(missing_ok=True)
    record_of(part).unlink(missing_ok=True)


def _gather(remote: Remote, part: Path, advance: Callable[[int], None]) -> None:
    failures = 0
    if _usable(remote, part) is None:
        discard(part)
    advance(_length(part))
    while True:
        before = _length(part)
        try:
            _transfer(remote, part, advance)
        except _InterruptedError as error:
            failures = failures + 1 if _length(part) <= before else 0
            if isinstance(error, _OtherPartError):
                advance(-before)
                discard(part)
            if failures == ATTEMPTS:
                raise DownloadFailedError(remote.url, str(error), remote.mend) from error
            time.sleep(PAUSE * 2 ** max(failures - 1, 0))
        else:
            return


def _usable(remote: Remote, part: Path) -> Record | None:
    """The record of what is there, if the rest of the same file can be asked for."""
    try:
        record = from_json(Record, record_of(part).read_bytes(), "the record")
    except (SchemaError, OSError):  # not there, or a kill came while it was written
        return None
    # Without a word from the server only the digest at the end can tell one file from another.
    told = bool(record.validator or remote.sha256)
    return record if record.url == remote.url and told and part.is_file() else None


def _transfer(remote: Remote, part: Path, advance: Callable[[int], None]) -> None:
    """One request: the whole file, or what is lacking of it."""
    record, offset = _usable(remote, part), _length(part)
    if record is not None and offset and offset == record.size:
        return
    headers = {}
    if record is not None and offset:
        headers["Range"] = f"bytes={offset}-"
        headers.update({"If-Range": record.validator} if record.validator else {})
    with closing(_open(remote, headers)) as response:
        if response.headers.get_content_type() == "text/html":
            raise _page(remote)
        if response.status == 206:
            total: int | None = _continues(response, record, offset)
        else:
            total = _stated(response.headers)
            _require_size(remote, total)
            advance(-offset)
            _begin(remote, part, response.headers, total)
        _append(remote, part, response, advance)
    if total is not None and _length(part) != total:
        raise _InterruptedError("the connection was cut off")


def _append(remote: Remote, part: Path, response: Any, advance: Callable[[int], None]) -> None:
    with part.open("ab") as file:
        while block := _next(response):
            # A file of tensors may start with a number that looks like a page's first letter.
            if file.tell() == 0 and block.lstrip().startswith(b"<") and b"\0" not in block[:32]:
                raise _page(remote)
            file.write(block)
            advance(len(block))


def _next(response: Any) -> bytes:
    """Whatever comes next; only here is an error the connection's, and not the disk's."""
    try:
        return bytes(response.read1(_BLOCK))
    except (OSError, HTTPException) as error:
        raise _InterruptedError(f"the connection was cut off ({type(error).__name__})") from error


def _begin(remote: Remote, part: Path, headers: HTTPMessage, total: int | None) -> None:
    """Empty the part and write down what it will be a part of."""
    discard(part)
    part.touch()
    tag = headers.get("ETag", "")
    # A weak tag promises the same meaning, not the same bytes.
    validator = headers.get("Last-Modified", "") if tag.startswith("W/") or not tag else tag
    record = Record(url=remote.url, validator=validator, size=total)
    record_of(part).write_bytes(canonical_json(record))


def _continues(response: Any, record: Record | None, offset: int) -> int:
    """Bytes of the whole file, where the answer is the rest of what is here.

    Raises:
        _OtherPartError: if it is not.
    """
    found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if record is not None and found is not None:
        first, last, total = map(int, found.groups())
        tag = response.headers.get("ETag", record.validator)
        same = tag == record.validator or not record.validator.startswith('"')
        if same and first == offset and last == total - 1 and record.size in (None, total):
            return total
    raise _OtherPartError("the server sends another part than it was asked for")


def _stated(headers: HTTPMessage) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if re.fullmatch(_LENGTH, length) else None


def _require_size(remote: Remote, found: int | None) -> None:
    if found is not None and remote.size is not None and found != remote.size:
        reason = f"it has {found:,} bytes where {remote.size:,} are expected"
        raise DownloadFailedError(remote.url, reason, remote.mend)


def _page(remote: Remote) -> DownloadFailedError:
    reason = "the server sends a web page in place of the file"
    return DownloadFailedError(remote.url, reason, remote.mend)


def _verified(remote: Remote, part: Path) -> str:
    """The part's digest; a part that is not what was asked for is not kept."""
    length = _length(part)
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if remote.size not in (None, length) or remote.sha256 not in (None, found):
        discard(part)
    _require_size(remote, length)
    if remote.sha256 not in (None, found):
        raise DigestDiffersError(remote.url, str(remote.sha256), found, remote.mend)
    return found


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _open(remote: Remote, headers: dict[str, str], method: str = "GET") -> Any:
    """Ask, through the environment's proxies and certificates.

    Raises:
        _InterruptedError: if asking again may help.
        DownloadFailedError: if not.
    """
    _require_private(remote, remote.url)
    agent = {"User-Agent": f"embedcache/{version('embedcache-bench')}"}
    plain = {"Accept-Encoding": "identity", **agent, **headers}
    request = urllib.request.Request(remote.url, headers=plain, method=method)  # noqa: S310  # checked above
    secure = urllib.request.HTTPSHandler(context=_certificates())
    try:
        opener = urllib.request.build_opener(secure, _Redirects(remote))
        return opener.open(request, timeout=SILENCE)
    except HTTPError as error:
        error.close()
        reason = f"the server answers {error.code}"
        if error.code == 416:  # it has no bytes where ours end
            raise _OtherPartError(reason) from error
        if error.code in _PASSING or (method == "HEAD" and error.code in _NO_HEAD):
            raise _InterruptedError(reason) from error
        raise DownloadFailedError(remote.url, reason, remote.mend) from error
    except (OSError, HTTPException) as error:
        raise _unreachable(remote, error) from error


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect only to where we would go ourselves."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def redirect_request(self, *request: Any) -> urllib.request.Request | None:
        *_, url = request
        _require_private(self._remote, url)
        return super().redirect_request(*request)


def _unreachable(remote: Remote, error: Exception) -> Exception:
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        mend = "set SSL_CERT_FILE to your institution's certificates"
        return DownloadFailedError(remote.url, "its certificate is not trusted here", mend)
    if "Tunnel connection failed" in str(cause):
        mend = "check HTTPS_PROXY, or name the server in NO_PROXY"
        return DownloadFailedError(remote.url, f"the proxy refuses ({cause})", mend)
    return _InterruptedError(f"the server cannot be reached ({type(cause).__name__})")


def _require_private(remote: Remote, url: str) -> None:
    """Without encryption anybody on the way may change what comes."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and _is_here(parts.hostname or "")):
        return
    raise DownloadFailedError(remote.url, f"{parts.scheme}:// can be read on the way", remote.mend)


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _certificates() -> ssl.SSLContext:
    ours = any(os.environ.get(name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"))
    return _context(None if ours else os.environ.get("REQUESTS_CA_BUNDLE"))


@cache
def _context(bundle: str | None) -> ssl.SSLContext:
    # Reading the system's certificates takes a tenth of a second.
    context = ssl.create_default_context()
    if bundle:
        context.load_verify_locations(bundle)
    return context
