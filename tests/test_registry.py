"""Parts are found by name; two of one name are an error."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from embedcache import registry
from embedcache.errors import NameTakenError, UnknownNameError


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """Entry points that stand in for installed packages; the registry reads them afresh."""
    entries: list[EntryPoint] = []
    monkeypatch.setattr(registry, "entry_points", lambda **_: entries)
    registry._entries.cache_clear()
    yield entries
    registry._entries.cache_clear()


def test_our_parts_enter_as_anyone_s_do() -> None:
    assert {"fetal-planes-db", "african-planes", "folder", "table", "synthetic"} <= set(
        registry.names("cohorts")
    )


def test_an_unknown_name_lists_those_that_are_known() -> None:
    with pytest.raises(UnknownNameError, match=r"no metric 'f2'.*macro-f1"):
        registry.load("metrics", "f2")


def test_two_parts_of_one_name_are_refused(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("mine", "json:loads", "embedcache.encoders"))
    installed.append(EntryPoint("mine", "json:dumps", "embedcache.encoders"))
    with pytest.raises(NameTakenError, match="json:loads and json:dumps"):
        registry.load("encoders", "mine")


def test_one_package_seen_twice_is_one_part(installed: list[EntryPoint]) -> None:
    import json

    installed.append(EntryPoint("mine", "json:loads", "embedcache.encoders"))
    installed.append(EntryPoint("mine", "json:loads", "embedcache.encoders"))
    assert registry.load("encoders", "mine") is json.loads
