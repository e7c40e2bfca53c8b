"""Links read from a CSV of two digests a row."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedcache.errors import LinkInvalidError, PathMissingError, SchemaError
from embedcache.protocol.links import read_links
from embedcache.protocol.protocol import Protocol, Tuning

A, B, C = ("a" * 64, "b" * 64, "c" * 64)


def written(folder: Path, text: str) -> Path:
    file = folder / "links.csv"
    file.write_text(text, "utf-8")
    return file


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"{A},{B}\n{B},{C}\n", id="bare pairs"),
        pytest.param(f"{C},{B}\n\n{B},{A}\n{A},{B}\n", id="order, blank lines and repeats"),
        pytest.param(f"image,other,distance\n{A.upper()},{B},3\n{B},{C},0\n", id="a header"),
        pytest.param(f"\ufeff{A}, {B}\r\n{B}, {C}\r\n", id="saved by a spreadsheet"),
    ],
)
def test_equal_sets_of_links_read_equal(tmp_path: Path, text: str) -> None:
    assert read_links(written(tmp_path, text)) == ((A, B), (B, C))


@pytest.mark.parametrize("row", ["patient001.png,patient002.png", A, f"{A},{B[:-1]}"])
def test_what_is_no_pair_of_digests_is_refused_by_its_line(tmp_path: Path, row: str) -> None:
    with pytest.raises(LinkInvalidError, match=r"links.csv line 2"):
        read_links(written(tmp_path, f"{A},{B}\n{row}\n"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PathMissingError, match="links file"):
        read_links(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ({"external": ("spain",)}, "external"),
        ({"external": ("africa", "africa")}, "external"),
        ({"folds": 1}, "folds"),
        ({"seed": -1}, "seed"),
        ({"links": (("x", A),)}, r"links\[0\]"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_refused(values, path) -> None:
    with pytest.raises(SchemaError, match=f"the protocol: {path} "):
        Protocol(train="spain", **values)


@pytest.mark.parametrize("grid", [(), (1.0, 0.1), (0.0, 1.0), (1.0, 1.0)])
def test_a_grid_rises_from_above_zero(grid) -> None:
    with pytest.raises(SchemaError, match=r"tuning\.grid"):
        Tuning(grid=grid)
