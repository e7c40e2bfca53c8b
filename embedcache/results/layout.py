"""Where everything of one protocol lies, and its protocol.json (ARCHITECTURE: results on disk)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from embedcache.durable import write_file
from embedcache.errors import (
    NewerResultsError,
    NoResultsError,
    PathMissingError,
    ProtocolDiffersError,
)
from embedcache.results.record import FORMAT_VERSION, Record
from embedcache.schema import from_plain, parse_json, plain

#: What a folder name may not hold on some system; `:` and `/` of encoder references among them.
_UNSAFE = re.compile(r"[^\w.@#+=-]|^\.")


@dataclass(frozen=True, slots=True)
class ResultsFolder:
    """Paths inside one results folder; whether they exist is another matter.

    Attributes:
        path: the folder.
    """

    path: Path

    @property
    def protocol_file(self) -> Path:
        """The record: protocol, classes, cohorts, provenance."""
        return self.path / "protocol.json"

    @property
    def folds_file(self) -> Path:
        """Which fold tests which image."""
        return self.path / "folds.parquet"

    @property
    def predictions(self) -> Path:
        """Parent of all arms' predictions."""
        return self.path / "predictions"

    @property
    def metrics_file(self) -> Path:
        """Every metric with its interval."""
        return self.path / "metrics.csv"

    @property
    def reliability_file(self) -> Path:
        """Confidence against accuracy, bin by bin."""
        return self.path / "reliability.csv"

    @property
    def near_duplicates_file(self) -> Path:
        """Images of different patients that look alike: two digests a row, and a score."""
        return self.path / "near_duplicates.csv"

    @property
    def comparisons_file(self) -> Path:
        """Every paired difference."""
        return self.path / "comparisons.csv"

    def predictions_of(self, arm: str, encoder: str) -> Path:
        """Folder of one encoder's prediction units in one arm."""
        return self.predictions / folder_name(arm) / folder_name(encoder)

    def prediction_files(self) -> tuple[Path, ...]:
        """Every finished prediction unit, sorted."""
        return tuple(sorted(self.predictions.glob("*/*/*.parquet")))


def folder_name(reference: str) -> str:
    """Write an encoder reference as one folder name: `:` and `/` become `-`, `#ID` stays."""
    return _UNSAFE.sub("-", reference)


def open_results(path: Path) -> ResultsFolder:
    """Open a folder that a verb has made.

    Raises:
        PathMissingError: if there is no such folder.
        NoResultsError: if it has no protocol.json.
        NewerResultsError: if a newer embedcache wrote it.
        SchemaError: if its protocol.json is damaged.
    """
    if not path.is_dir():
        raise PathMissingError("the results folder", path)
    folder = ResultsFolder(path)
    read_record(folder)
    return folder


def read_record(folder: ResultsFolder) -> Record:
    """Read protocol.json; raises as `open_results` does."""
    if not folder.protocol_file.is_file():
        raise NoResultsError(folder.path)
    where = folder.protocol_file.name
    content = parse_json(folder.protocol_file.read_bytes(), where)
    version = content.get("format_version") if isinstance(content, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise NewerResultsError(folder.path, version, FORMAT_VERSION)
    return from_plain(Record, content, where)


def write_record(folder: ResultsFolder, record: Record) -> None:
    """Write protocol.json, once: a folder that has one keeps it, and must have the same.

    Raises:
        ProtocolDiffersError: if the folder was made under another protocol, on other classes,
            folds or cohorts; when and with which versions it was made may differ.
    """
    if folder.protocol_file.is_file():
        _check_same(folder, plain(read_record(folder)), plain(record))
        return
    text = json.dumps(plain(record), indent=2, sort_keys=True, allow_nan=False)
    write_file(folder.protocol_file, f"{text}\n".encode("ascii"))


def _check_same(folder: ResultsFolder, kept: object, asked: object) -> None:
    difference = _first_difference(kept, asked, "")
    if difference is not None:
        field, there, here = difference
        raise ProtocolDiffersError(folder.path, field, _shown(there), _shown(here))


def _shown(value: object) -> str:
    text = json.dumps(value)
    if len(text) <= 80:
        return text
    return f"{len(value)} entries" if isinstance(value, list | dict) else f"{text[:77]}…"


def _first_difference(kept: object, asked: object, path: str) -> tuple[str, object, object] | None:
    if isinstance(kept, dict) and isinstance(asked, dict) and kept.keys() == asked.keys():
        parts = [
            (f"{path}.{key}".removeprefix("."), kept[key], asked[key])
            for key in kept
            if (path, key) != ("", "provenance")
        ]
    elif isinstance(kept, list) and isinstance(asked, list) and len(kept) == len(asked):
        parts = [(f"{path}[{i}]", *pair) for i, pair in enumerate(zip(kept, asked, strict=True))]
    else:
        return None if kept == asked else (path, kept, asked)
    found = (_first_difference(there, here, inner) for inner, there, here in parts)
    return next((difference for difference in found if difference is not None), None)
