"""`weights.lock`: which file an encoder's weights are, and which licences were accepted.

Several encoders were published without any digest. The first file that comes is then pinned by its
sha256, so that another one under the same name is noticed, here and wherever the lock is copied to.
It is JSON, lies in the weights folder, and names no person, machine or absolute path.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from filelock import FileLock

from embedcache.durable import write_file
from embedcache.encoders.weights import weights_folder
from embedcache.errors import DigestDiffersError, SchemaError
from embedcache.schema import from_plain, parse_json, plain

NAME = "weights.lock"
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """The file that an encoder's weights are.

    Attributes:
        sha256: of its bytes, 64 hex digits.
        size: its bytes.
        source: where it came from: an address, or `file` for one that the user added.
        published: whether its publisher states the sha256; else it is the first file's that came.
        pinned: on which day, ISO 8601.
        file: path inside the weights folder, with slashes; empty where another cache holds it.
    """

    sha256: str
    size: int
    source: str
    published: bool
    pinned: str
    file: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Acceptance:
    """That somebody accepted a licence here.

    Attributes:
        licence: its name.
        accepted: on which day, ISO 8601.
    """

    licence: str
    accepted: str


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsLock:
    """The content of `weights.lock`.

    Attributes:
        format_version: of this layout.
        weights: a pin an encoder, by name.
        licences: the licence accepted for an encoder, by name.
    """

    format_version: int = VERSION
    weights: dict[str, Pin] = field(default_factory=dict)
    licences: dict[str, Acceptance] = field(default_factory=dict)


def read_lock(folder: Path | None = None) -> WeightsLock:
    """The lock of a weights folder, the user's own if none is given; an empty one if there is none.

    Raises:
        SchemaError: if the file is no lock, or one of a later version.
    """
    path = (folder or weights_folder()) / NAME
    if not path.is_file():
        return WeightsLock()
    content = parse_json(path.read_bytes(), NAME)
    if isinstance(content, dict) and content.get("format_version", VERSION) != VERSION:
        problem = "is of a later version; pip install --upgrade embedcache-bench"
        raise SchemaError(NAME, "format_version", problem)
    return from_plain(WeightsLock, content, NAME)


def pin(folder: Path, encoder: str, made: Pin) -> None:
    """Write down which file an encoder's weights are."""
    _change(folder, weights={encoder: made})


def accept(folder: Path, encoder: str, licence: str) -> None:
    """Write down that an encoder's licence was accepted."""
    _change(folder, licences={encoder: Acceptance(licence=licence, accepted=today())})


def accepted(lock: WeightsLock, encoder: str, licence: str) -> bool:
    """Whether this very licence was accepted; a new one is asked for again."""
    found = lock.licences.get(encoder)
    return found is not None and found.licence == licence


def pinned_file(encoder: str) -> Path | None:
    """The file that the lock names for an encoder, if the weights folder holds it.

    Raises:
        SchemaError: as `read_lock`, or if the lock names a file outside the folder.
    """
    made = read_lock().weights.get(encoder)
    if made is None or not made.file:
        return None
    inside = PurePosixPath(made.file)
    if inside.is_absolute() or ".." in inside.parts:
        raise SchemaError(NAME, f"weights.{encoder}.file", "leads out of the weights folder")
    path = weights_folder() / inside
    return path if os.path.isfile(path) else None  # noqa: PTH113  # takes a name of any length


def require_pinned(encoder: str, file: Path, digest: str, published: str | None) -> None:
    """Compare a file's digest with what its publisher states, else with what is pinned.

    Raises:
        DigestDiffersError: if it is another one.
    """
    made = read_lock().weights.get(encoder)
    expected = published or (made and made.sha256)
    if expected in (None, digest):
        return
    mend = f"delete it and run embedcache encoders fetch {encoder}"
    if published is None:
        mend += f", or take {encoder} out of {NAME} if the new file is meant"
    raise DigestDiffersError(file.name, str(expected), digest, mend)


def today() -> str:
    """The date, UTC, ISO 8601."""
    return datetime.now(UTC).date().isoformat()


def _change(
    folder: Path,
    weights: Mapping[str, Pin] | None = None,
    licences: Mapping[str, Acceptance] | None = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f".{NAME}.guard"):
        lock = read_lock(folder)
        changed = replace(
            lock,
            weights={**lock.weights, **(weights or {})},
            licences={**lock.licences, **(licences or {})},
        )
        text = json.dumps(plain(changed), indent=2, sort_keys=True)
        write_file(folder / NAME, text.encode() + b"\n")
