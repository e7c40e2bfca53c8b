"""Tiny fakes in the publishers' layouts, written by tests/data/<reader>/make.py."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture
def made(tmp_path: Path) -> Callable[[str], Path]:
    """Make the fake of a reader, and say where it lies."""

    def make(reader: str) -> Path:
        place = tmp_path / reader
        runpy.run_path(str(DATA / reader / "make.py"))["make"](place)
        return place

    return make
