"""Addresses of stores: a path, `file://…`, a packed file, a bucket or a web server."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from embedcache.errors import PathMissingError, PlaceUnusableError, StoreNotHereError
from embedcache.store.bucket import BUCKETS, WEB, Bucket, parts_of
from embedcache.store.elsewhere import StoreElsewhere, Transport, open_elsewhere
from embedcache.store.folder import Folder
from embedcache.store.incoming import IncomingFolder
from embedcache.store.pack import Packed

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):/")


def root_at(place: str) -> Path | StoreElsewhere:
    """Where a store is read in place, from its address.

    Raises:
        PlaceUnusableError, PackageMissingError: as `Bucket`.
        NoStoreElsewhereError, TransferFailedError: as `open_elsewhere`.
    """
    transport = transport_to(place)
    return transport.path if isinstance(transport, Folder) else open_elsewhere(transport)


def folder_at(place: str) -> Path:
    """The folder of a store that is to be changed or made, from its address.

    Raises:
        StoreNotHereError: if the store lies elsewhere, or is packed.
        PlaceUnusableError: if the address can name no place.
    """
    path = path_of(place)
    if path is None or (path.is_file() and zipfile.is_zipfile(path)):
        raise StoreNotHereError(place)
    return path


def transport_to(place: str) -> Transport:
    """What fetches objects from an address.

    Raises:
        PathMissingError: if it names a path where nothing is.
        PlaceUnusableError, PackUnusableError, PackageMissingError: if it can name no place.
    """
    path = path_of(place)
    if path is None:
        return Bucket(place)
    if not path.exists():
        raise PathMissingError("the feature store", path)
    return Packed(path) if path.is_file() else Folder(path)


def target_at(place: str) -> Bucket | IncomingFolder:
    """What a store is sent to.

    Raises:
        PlaceUnusableError, PackageMissingError: if nothing can be sent there.
    """
    path = path_of(place)
    if path is not None:
        return IncomingFolder(path)
    if urlsplit(place).scheme in WEB:
        problem = "is a web server, which takes nothing; push to s3://… or a folder it serves"
        raise PlaceUnusableError(place, problem)
    return Bucket(place)


def name_of(place: str) -> str:
    """What messages call an address: a path's last part says enough, and not whose it is.

    Raises:
        PlaceUnusableError: as `path_of`.
    """
    path = path_of(place)
    return place if path is None else path.name


def path_of(place: str) -> Path | None:
    """The path that an address names; None for one elsewhere.

    Raises:
        PlaceUnusableError: if it is no address, or its scheme is unknown.
    """
    scheme = _SCHEME.match(place)
    if scheme is None:
        return Path(place).expanduser()
    parts = parts_of(place)
    if scheme[1] == "file":
        if parts.netloc not in ("", "localhost"):
            raise PlaceUnusableError(place, "names another machine; write file:///FOLDER")
        return Path(unquote(parts.path))
    if scheme[1] not in (*WEB, *BUCKETS):
        known = ", ".join(f"{name}://" for name in ("file", *WEB, *BUCKETS))
        raise PlaceUnusableError(place, f"has a scheme that is none of {known}")
    return None
