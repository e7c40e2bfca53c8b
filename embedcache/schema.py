"""Frozen dataclasses to TOML or JSON and back; an unknown key or a wrong type is an error.

JSON that is hashed is *canonical*: sorted keys, no spaces, ASCII, and no float that JSON lacks
(RFC 8785 in spirit; numbers are printed as Python prints them, which round-trips).
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import math
import re
import reprlib
import tomllib
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from embedcache.errors import PathMissingError, SchemaError

T = TypeVar("T")

#: Metadata of a field that joined a record after records of it had been hashed: it is written only
#: where it differs from its default, so that what was hashed before it hashes to the same.
LATER: Mapping[str, bool] = types.MappingProxyType({"later": True})


def canonical_json(value: object) -> bytes:
    """Serialise to the one JSON text that hashes are taken of.

    Raises:
        ValueError: if a float is NaN or infinite.
    """
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def sha256_json(value: object) -> str:
    """Sha256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def plain(value: object) -> Any:
    """Turn dataclasses into dicts and tuples into lists, all the way down; see `LATER`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            each.name: plain(getattr(value, each.name))
            for each in dataclasses.fields(value)
            if not (each.metadata.get("later") and getattr(value, each.name) == each.default)
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def read_toml(cls: type[T], path: Path) -> T:
    """Read a dataclass from a TOML file.

    Raises:
        PathMissingError: if there is no such file.
        SchemaError: if it is no TOML, or does not fit the dataclass.
    """
    return from_plain(cls, read_toml_table(path), where=path.name)


def read_toml_table(path: Path) -> dict[str, Any]:
    """Read a TOML file as it stands, for `from_plain` after other values have joined it.

    Raises:
        PathMissingError: if there is no such file.
        SchemaError: if it is no TOML.
    """
    if not path.is_file():
        raise PathMissingError("the file", path)
    try:
        return tomllib.loads(path.read_text("utf-8"))
    # A number of 5,000 digits and a thousand brackets are no `TOMLDecodeError`.
    except (ValueError, RecursionError) as error:
        raise SchemaError(path.name, "", f"is not valid TOML: {error}") from error


def read_csv_rows(file: Path) -> list[list[str]]:
    """Cells of a CSV file, header and all, as they stand; a byte order mark is none.

    Raises:
        SchemaError: if it is no UTF-8, or no CSV.
    """
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            return list(csv.reader(text))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SchemaError(file.name, "", f"is not valid CSV: {error}") from error


def from_json(cls: type[T], text: str | bytes, where: str) -> T:
    """Build a frozen dataclass from JSON.

    Args:
        cls: as `from_plain` takes.
        text: the JSON.
        where: names the file in errors.

    Raises:
        SchemaError: if it is no JSON, or does not fit the dataclass.
    """
    return from_plain(cls, parse_json(text, where), where)


def parse_json(text: str | bytes, where: str) -> object:
    """Parse JSON strictly, for `from_plain` after a look at its version.

    What readers could take for different things is refused: NaN, a number past the largest float,
    a key twice, half a surrogate pair, and bytes that are not UTF-8.

    Raises:
        SchemaError: if it is no such JSON.
    """
    try:
        content = text.decode() if isinstance(text, bytes) else text
        value = json.loads(
            content,
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_distinct,
        )
        if _SURROGATE.search(content):  # half a pair is no text: this raises
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise SchemaError(where, "", f"is not valid JSON: {error}") from error
    return value


_SURROGATE = re.compile(r"\\u[dD]|[\ud800-\udfff]")


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"{digits[:20]} is too large a number")
    return number


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key stands in one table twice")
    return table


def from_plain(cls: type[T], value: object, where: str) -> T:
    """Build a frozen dataclass from parsed TOML or JSON.

    Args:
        cls: a dataclass of str, int, float, bool, tuple, dict, None, Literal or dataclasses.
        value: what the parser gave.
        where: names the file in errors.

    Raises:
        SchemaError: on an unknown key, a missing key or a wrong type, with its path.
    """
    return typing.cast("T", _read(cls, value, where, ""))


def _read(kind: Any, value: object, where: str, path: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return _read_dataclass(kind, value, where, path)
    composite = _COMPOSITES.get(typing.get_origin(kind))
    if composite is not None:
        return composite(kind, value, where, path)
    if type(value) is not kind and not (kind is float and type(value) is int):
        # `is`: True is no int here
        raise SchemaError(where, path, f"is {shown(value)}, not {_named(kind)}")
    return _NUMBERS[kind](value, where, path) if kind in _NUMBERS else value


def _whole(value: int, where: str, path: str) -> int:
    if not -(1 << 63) <= value < 1 << 63:  # nothing of ours counts further, and numpy cannot
        raise SchemaError(where, path, f"is {shown(value)}, too large a number")
    return value


def _number(value: float, where: str, path: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        raise SchemaError(where, path, f"is {shown(value)}, too large a number") from None
    if not math.isfinite(number):  # TOML has words for these
        raise SchemaError(where, path, f"is {number}, not a finite number")
    return number


_NUMBERS: dict[Any, Any] = {int: _whole, float: _number}


def _read_dataclass(kind: Any, value: object, where: str, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise SchemaError(where, path, f"is {shown(value)}, not a table")
    hints = _hints(kind)
    known = {field.name: field for field in dataclasses.fields(kind) if field.init}
    for key in value:
        if key not in known:
            raise SchemaError(where, _join(path, key), f"is unknown (known: {', '.join(known)})")
    for name, field in known.items():
        required = field.default is dataclasses.MISSING
        if required and field.default_factory is dataclasses.MISSING and name not in value:
            raise SchemaError(where, _join(path, name), "is missing")
    given = {key: _read(hints[key], item, where, _join(path, key)) for key, item in value.items()}
    return kind(**given)


@cache
def _hints(kind: type) -> dict[str, Any]:
    # Evaluating annotations costs 100 us, and a manifest holds thousands of one kind.
    return typing.get_type_hints(kind)


def _read_union(kind: Any, value: object, where: str, path: str) -> Any:
    options = typing.get_args(kind)
    if value is None and type(None) in options:
        return None
    others = [option for option in options if option is not type(None)]
    for option in others[:-1]:
        try:
            return _read(option, value, where, path)
        except SchemaError:
            continue
    return _read(others[-1], value, where, path)


def _read_tuple(kind: Any, value: object, where: str, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise SchemaError(where, path, f"is {shown(value)}, not a list")
    inner = typing.get_args(kind)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_read(inner[0], v, where, f"{path}[{i}]") for i, v in enumerate(value))
    if len(inner) != len(value):
        raise SchemaError(where, path, f"has {len(value)} entries, not {len(inner)}")
    pairs = enumerate(zip(inner, value, strict=True))
    return tuple(_read(k, v, where, f"{path}[{i}]") for i, (k, v) in pairs)


def _read_dict(kind: Any, value: object, where: str, path: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise SchemaError(where, path, f"is {shown(value)}, not a table")
    _, inner = typing.get_args(kind)
    return {str(key): _read(inner, v, where, _join(path, key)) for key, v in value.items()}


def _read_literal(kind: Any, value: object, where: str, path: str) -> Any:
    choices = typing.get_args(kind)
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        raise SchemaError(
            where,
            path,
            f"is {shown(value)}, not one of {', '.join(repr(choice) for choice in choices)}",
        )
    return value


_COMPOSITES: dict[Any, Any] = {
    typing.Union: _read_union,
    types.UnionType: _read_union,
    tuple: _read_tuple,
    dict: _read_dict,
    typing.Literal: _read_literal,
}


class _Short(reprlib.Repr):
    """How much of a value an error shows: a stranger's may be long, or nested a thousand deep."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxlong, self.maxother = 3, 100, 100, 100

    def repr_int(self, x: int, level: int) -> str:
        # Python prints no number of more than 4,300 digits, and TOML can write one in hex.
        return super().repr_int(x, level) if x.bit_length() < 10_000 else "a number"


_SHORT = _Short()


def shown(value: object) -> str:
    """A value as an error shows it: in one line, and not at any length."""
    return _SHORT.repr(value)


def _join(path: str, key: object) -> str:
    name = str(key)
    word = name if name.isprintable() and len(name) <= 100 else shown(name)
    return f"{path}.{word}" if path else word


def _named(kind: Any) -> str:
    words = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return words.get(kind, str(kind))
