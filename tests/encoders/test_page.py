"""docs/encoders.md says what the registry says."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedcache.encoders.page import BEGIN, generated, rewritten

PAGE = Path(__file__).parents[2] / "docs" / "encoders.md"


def test_the_page_is_the_registry_s() -> None:
    page = PAGE.read_text("utf-8")
    assert rewritten(page) == page, "run: python -m embedcache.encoders.page docs/encoders.md"


def test_the_page_does_not_depend_on_what_this_machine_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = generated()
    monkeypatch.setenv("EMBEDCACHE_WEIGHTS", str(tmp_path))
    (tmp_path / "usfm").mkdir()
    (tmp_path / "usfm" / "USFM_latest.pth").write_bytes(b"x")
    assert generated() == before


def test_a_page_without_its_marks_is_not_written_over() -> None:
    with pytest.raises(ValueError, match="lacks"):
        rewritten(f"prose\n{BEGIN}\nno end")
