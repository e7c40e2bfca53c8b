"""Objects in a bucket or behind a web server, through obstore (the extra `s3`).

S3 is tested against a server on this machine; Google's and Azure's schemes go the same way and are
untested. Credentials and endpoint come from the environment, as obstore documents them: AWS_*.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

from embedcache.errors import (
    ObjectTooLargeError,
    PackageMissingError,
    PlaceUnusableError,
    PublishedMeanwhileError,
    TransferFailedError,
)
from embedcache.store.objects import Proofs

if TYPE_CHECKING:
    from obstore.store import ObjectStore

WEB = ("https", "http")
BUCKETS = ("s3", "gs", "az", "abfs", "abfss")
#: Any of these lets obstore sign requests, or not sign them; without one it would ask the network.
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SKIP_SIGNATURE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_METADATA_ENDPOINT",
)
#: How the library's account of a failure says that TLS did not trust a server, and why.
_UNTRUSTED = re.compile(r"InvalidCertificate\(\s*(\w+)")
#: Tries and seconds after which a server that fails is given up; a rerun goes on from there.
_RETRIES, _PATIENCE = 4, 60
#: For one object of up to 256 MB over a slow line; obstore's own 30 s cut a 3 MB chunk at 1 Mbit/s.
_TIMEOUT = "600s"


class Bucket:
    """A place by its address; a `Transport`, and for buckets what `sync` sends to."""

    def __init__(self, url: str) -> None:
        """See the class.

        Raises:
            PlaceUnusableError: if the address can name no place, or credentials are lacking.
            PackageMissingError: if obstore is not installed.
        """
        self.url = url.rstrip("/")
        self._store = _connect(self.url)

    def __reduce__(self) -> tuple[object, ...]:
        return Bucket, (self.url,)

    @property
    def name(self) -> str:
        """The address."""
        return self.url

    def get(self, key: str, most: int) -> bytes | None:
        """An object; see `Transport`."""
        found = self.get_with_tag(key, most)
        return None if found is None else found[0]

    def get_with_tag(self, key: str, most: int) -> tuple[bytes, str | None] | None:
        """An object and the server's tag of this version of it."""
        import obstore
        from obstore.exceptions import NotFoundError

        with self._border(f"give {key}"):
            try:
                found = obstore.get(self._store, key)
            except (FileNotFoundError, NotFoundError):
                return None
            if found.meta["size"] > most:
                raise ObjectTooLargeError(self.name, key, found.meta["size"], most)
            return bytes(found.bytes()), found.meta["e_tag"]

    def keys(self) -> Iterable[str] | None:
        """Keys of everything below the address; None for a web server."""
        if urlsplit(self.url).scheme in WEB:
            return None
        return [key for key, _, _ in self._listing()]

    def holds(self, proofs: Proofs, read: Callable[[str], bytes]) -> frozenset[str]:
        """Keys of objects that are there as `proofs` say; one listing, no object moved.

        Size and tag of the listing decide: the tag of a plain S3 object is its md5. Where it is
        something else the object counts as lacking, and is sent.

        Args:
            proofs: of the objects asked for.
            read: gives one's bytes.
        """
        same = (
            key
            for key, size, tag in self._listing()
            if key in proofs and size == proofs[key].size and tag == _md5(read(key))
        )
        return frozenset(same)

    def strangers(self, known: Iterable[str]) -> tuple[str, ...]:
        """Keys of objects that are there and not among those known."""
        return tuple(sorted({key for key, _, _ in self._listing()} - set(known)))

    def put(self, key: str, data: bytes) -> None:
        """Send an object and make sure that it arrived as it is.

        Raises:
            TransferFailedError: if it did not.
        """
        import obstore

        with self._border(f"take {key}"):
            sent = obstore.put(self._store, key, data, use_multipart=False)
        # A bucket with keys of its own tags differently; then only reading back proves it.
        if _bare(sent["e_tag"]) != _md5(data) and self.get(key, len(data)) != data:
            raise TransferFailedError(self.name, f"take {key}", "other bytes lie there")

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects."""
        import obstore

        for key in keys:
            with self._border(f"delete {key}"):
                obstore.delete(self._store, key)

    def replace(self, key: str, data: bytes, tag: str | None) -> None:
        """Put an object only where nobody changed it since it had `tag`; None: since it was absent.

        Raises:
            PublishedMeanwhileError: if somebody did.
            TransferFailedError: if the server cannot put on a condition, or fails.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, NotSupportedError, PreconditionError

        with self._border(f"take {key}"):
            try:
                obstore.put(
                    self._store,
                    key,
                    data,
                    use_multipart=False,
                    mode="create" if tag is None else {"e_tag": tag},
                )
            except (AlreadyExistsError, PreconditionError, FileNotFoundError) as error:
                # A request that was repeated after a lost answer meets its own success.
                if self.get(key, len(data)) != data:
                    raise PublishedMeanwhileError(self.name) from error
            except NotSupportedError as error:
                reason = "it has no conditional put"
                mend = "use a server that has (S3, MinIO, Ceph), or push to a folder and copy it"
                raise TransferFailedError(self.name, f"take {key}", reason, mend) from error

    def _listing(self) -> Iterator[tuple[str, int, str | None]]:
        import obstore

        with self._border("list its objects"):
            for part in obstore.list(self._store):
                for found in part:
                    yield found["path"], found["size"], _bare(found["e_tag"])

    @contextmanager
    def _border(self, action: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            untrusted = _UNTRUSTED.search(str(error))
            if untrusted is None:
                raise TransferFailedError(self.name, action, _reason(error)) from error
            reason = f"its certificate is refused: {untrusted[1]}"
            mend = "if it is signed by your own authority, set SSL_CERT_FILE to a file of its PEM"
            raise TransferFailedError(self.name, action, reason, mend) from error


def _connect(url: str) -> ObjectStore:
    """Open the place, with plain http on this machine only.

    Raises:
        PlaceUnusableError, PackageMissingError: as `Bucket`.
    """
    try:
        from obstore.store import HTTPStore, S3Store, from_url
    except ImportError as error:
        raise PackageMissingError("a store elsewhere", "'embedcache-bench[s3]'") from error
    parts = parts_of(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        problem = "holds more than a place; give credentials in the environment, such as AWS_*"
        raise PlaceUnusableError(_without_secrets(url), problem)
    if not parts.netloc:
        raise PlaceUnusableError(url, "names no bucket or server; write s3://BUCKET/FOLDER")
    options: dict[str, Any] = {
        "client_options": {"timeout": _TIMEOUT, "allow_http": False},
        "retry_config": {"max_retries": _RETRIES, "retry_timeout": timedelta(seconds=_PATIENCE)},
    }
    if parts.scheme in WEB:
        options["client_options"]["allow_http"] = _allow_http(url)
        with _naming(url):
            return HTTPStore(url, **options)
    if parts.scheme != "s3":
        with _naming(url):
            return from_url(url, **options)
    endpoint = os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
    options["client_options"]["allow_http"] = bool(endpoint) and _allow_http(endpoint)
    if not any(os.environ.get(name) for name in _CREDENTIALS):
        problem = (
            "needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            "AWS_SKIP_SIGNATURE=true for a public bucket"
        )
        raise PlaceUnusableError(url, problem)
    with _naming(url):
        return S3Store(parts.netloc, prefix=parts.path.strip("/") or None, **options)


def parts_of(url: str) -> SplitResult:
    """The parts of an address.

    Raises:
        PlaceUnusableError: if it has none; without what it holds, which may be a secret.
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # is only now looked at
    except ValueError:
        raise PlaceUnusableError(f"{url.partition(':')[0]}://…", "is no address") from None
    return parts


@contextmanager
def _naming(url: str) -> Iterator[None]:
    """The library's word for an address that it cannot use."""
    from obstore.exceptions import BaseError

    try:
        yield
    except (BaseError, ValueError) as error:
        raise PlaceUnusableError(url, f"is no address ({_reason(error)})") from error


def _allow_http(url: str) -> bool:
    """Whether plain http may be spoken: to this machine, where nobody can listen in.

    Raises:
        PlaceUnusableError: if it would have to be, to another machine.
    """
    parts = parts_of(url)
    if parts.scheme == "https":
        return False
    host = parts.hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if not here:
        problem = "is not encrypted, and features are patients' data; use https"
        raise PlaceUnusableError(_without_secrets(url), problem)
    return True


def _without_secrets(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname or ''}{parts.path}"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def _bare(tag: str | None) -> str | None:
    return None if tag is None else tag.strip('"')


def _reason(error: Exception) -> str:
    """The first line of what the library said, at a length that fits a sentence."""
    line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return line if len(line) <= 200 else f"{line[:200]}…"
