"""Strict reading and canonical writing of frozen dataclasses."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedcache.errors import PathMissingError, SchemaError
from embedcache.schema import (
    LATER,
    canonical_json,
    from_json,
    from_plain,
    plain,
    read_csv_rows,
    read_toml,
    sha256_json,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    count: int = 1
    kind: Literal["a", "b"] = "a"
    classes: Literal["shared"] | tuple[str, ...] = "shared"
    pair: tuple[int, int] = (0, 0)
    table: dict[str, int] = field(default_factory=dict)
    parent: str | None = None


GOOD = {"inner": {"rate": 0.5, "names": ["x"]}, "count": 2, "classes": ["u", "v"], "pair": [1, 2]}

REFUSED = [
    ("an unknown key", {"inner": {"rate": 1.0, "raet": 1}}, "inner.raet", "is unknown"),
    ("a missing key", {"inner": {}}, "inner.rate", "is missing"),
    ("text for a number", {"inner": {"rate": "1"}}, "inner.rate", "not a number"),
    ("true for a whole number", {"inner": {"rate": 1.0}, "count": True}, "count", "whole number"),
    ("more than a float holds", {"inner": {"rate": 10**400}}, "inner.rate", "too large a number"),
    ("a number that is none", {"inner": {"rate": float("nan")}}, "inner.rate", "not a finite"),
    ("more than 64 bits", {"inner": {"rate": 1}, "count": 1 << 20_000}, "count", "too large"),
    ("true for a word", {"inner": {"rate": 1.0}, "kind": True}, "kind", "not one of 'a'"),
    ("a fraction for a whole number", {"inner": {"rate": 1.0}, "count": 1.5}, "count", "whole"),
    ("a word that is no choice", {"inner": {"rate": 1.0}, "kind": "c"}, "kind", "not one of 'a'"),
    ("three for a pair", {"inner": {"rate": 1.0}, "pair": [1, 2, 3]}, "pair", "3 entries, not 2"),
    ("text inside a list of text", {"inner": {"rate": 1, "names": [1]}}, "inner.names[0]", "text"),
    ("a list for a table", {"inner": []}, "inner", "not a table"),
]


def test_a_dataclass_survives_the_way_to_json_and_back() -> None:
    value = from_plain(Outer, GOOD, where="test")
    assert value.classes == ("u", "v")
    assert from_plain(Outer, plain(value), where="test") == value


@dataclass(frozen=True, kw_only=True)
class Grown:
    rate: float
    names: tuple[str, ...] = ()
    unit: str = field(default="mm", metadata=LATER)


def test_a_field_that_joined_later_is_written_only_where_it_says_something() -> None:
    assert sha256_json(Grown(rate=1.0)) == sha256_json(Inner(rate=1.0))
    assert plain(Grown(rate=1.0, unit="cm")) == {"rate": 1.0, "names": [], "unit": "cm"}
    for value in (Grown(rate=1.0), Grown(rate=1.0, unit="cm")):
        assert from_plain(Grown, plain(value), where="test") == value


def test_a_whole_number_is_read_as_a_float_where_a_float_is_asked() -> None:
    value = from_plain(Inner, {"rate": 1}, where="test")
    assert type(value.rate) is float


@pytest.mark.parametrize(
    ("_name", "given", "path", "problem"), REFUSED, ids=[r[0] for r in REFUSED]
)
def test_what_does_not_fit_is_refused_with_its_path(
    _name: str, given: object, path: str, problem: str
) -> None:
    with pytest.raises(SchemaError) as caught:
        from_plain(Outer, given, where="file.toml")
    assert caught.value.path == path
    assert problem in str(caught.value)
    assert str(caught.value).startswith("file.toml: ")


NO_JSON: list[str | bytes] = [
    "{",
    '{"rate": 1' + "0" * 5000 + "}",
    "[" * 100_000,
    b"\xff",
    '{"rate": NaN}',
    '{"rate": -Infinity}',
    '{"rate": 1e999}',
    '{"rate": 1, "rate": 2}',
    '{"rate": 1, "names": ["\\uD800"]}',
    '{"rate": 1}'.encode("utf-16"),
]


@pytest.mark.parametrize("text", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_no_json_is_refused_by_name(text: str | bytes) -> None:
    with pytest.raises(SchemaError, match=r"^file\.json: .*is not valid JSON"):
        from_json(Inner, text, "file.json")


NO_TOML = ["rate = 1" + "0" * 5000, "rate = " + "[" * 20_000, "rate = ", "rate = 1\nrate = 2"]


@pytest.mark.parametrize("text", NO_TOML, ids=range(len(NO_TOML)))
def test_what_is_no_toml_is_refused_by_name(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(SchemaError, match=r"^a\.toml: .*is not valid TOML"):
        read_toml(Inner, tmp_path / "a.toml")


@pytest.mark.parametrize("value", ["nan", "-inf", "0x" + "f" * 5000])
def test_numbers_that_toml_has_and_json_lacks_are_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(f"rate = {value}")
    with pytest.raises(SchemaError, match=r"^a\.toml: rate is "):
        read_toml(Inner, tmp_path / "a.toml")


@pytest.mark.parametrize("key", ["a\nb", "x" * 100_000, "\x1b[2J"])
def test_a_stranger_s_key_is_shown_in_a_line(key: str) -> None:
    with pytest.raises(SchemaError) as caught:
        from_plain(Inner, {"rate": 1, key: 1}, where="f")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_a_table_of_other_bytes_is_no_csv(tmp_path: Path) -> None:
    for content in (b"\xff\xfe", b"x" * 200_000):
        (tmp_path / "a.csv").write_bytes(content)
        with pytest.raises(SchemaError, match=r"^a\.csv: .*is not valid CSV"):
            read_csv_rows(tmp_path / "a.csv")


def test_a_dataclass_is_read_from_json() -> None:
    assert from_json(Inner, b'{"rate": 2, "names": ["x"]}', "f") == Inner(rate=2.0, names=("x",))


def test_canonical_json_sorts_keys_and_drops_spaces() -> None:
    assert canonical_json({"b": (1, 2.5), "a": "é"}) == b'{"a":"\\u00e9","b":[1,2.5]}'


def test_canonical_json_refuses_what_json_lacks() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


@given(st.dictionaries(st.text(), st.integers()), st.randoms())
def test_the_hash_does_not_depend_on_the_order_of_keys(content, random) -> None:
    items = list(content.items())
    random.shuffle(items)
    assert sha256_json(dict(items)) == sha256_json(content)


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError, match="absent"):
        read_toml(Inner, tmp_path / "absent.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("rate = ")
    with pytest.raises(SchemaError, match=r"broken\.toml.*not valid TOML"):
        read_toml(Inner, broken)
