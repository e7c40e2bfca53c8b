"""Every error is one sentence and crosses a process pool."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
import types
import typing
from pathlib import Path
from typing import Any

import pytest

from embedcache import errors

EVERY = [
    error
    for _, error in inspect.getmembers(errors, inspect.isclass)
    if issubclass(error, errors.EmbedcacheError) and dataclasses.is_dataclass(error)
]


def made_up(kind: Any) -> Any:
    """A value of a field's type, with words that must show in the sentence's grammar."""
    if typing.get_origin(kind) is tuple:
        return (made_up(typing.get_args(kind)[0]),)
    if typing.get_origin(kind) is dict:
        return {made_up(typing.get_args(kind)[0]): made_up(typing.get_args(kind)[1])}
    if type(None) in typing.get_args(kind):
        return None
    if isinstance(kind, types.UnionType):
        return made_up(typing.get_args(kind)[0])
    return {str: "word", int: 3, float: 0.5, bool: True, Path: Path("folder/file.csv")}[kind]


def made(error: type[errors.EmbedcacheError]) -> errors.EmbedcacheError:
    hints = typing.get_type_hints(error)
    return error(*(made_up(hints[field.name]) for field in dataclasses.fields(error)))  # type: ignore[arg-type]  # every one is a dataclass


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_an_error_survives_pickling(error: type[errors.EmbedcacheError]) -> None:
    before = made(error)
    after = pickle.loads(pickle.dumps(before))
    assert type(after) is error
    assert str(after) == str(before)


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.__name__)
def test_an_error_is_one_line_without_an_object_s_address(
    error: type[errors.EmbedcacheError],
) -> None:
    text = str(made(error))
    assert "\n" not in text
    assert " at 0x" not in text
    assert not text.endswith(".")


def test_bad_input_and_failed_work_have_their_exit_codes() -> None:
    assert errors.BadInputError.exit_code == 2
    assert errors.FailedWorkError.exit_code == 1


def test_a_long_list_is_counted_and_not_hidden() -> None:
    assert errors.listed(tuple(range(12))) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert errors.listed(("a", "b")) == "a, b"
