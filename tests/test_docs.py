"""What the documents tell people to type exists and works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from embedcache.cli import app
from embedcache.cohorts.cohort_file import read_cohort_file

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Contents of the page's code blocks of one language; "" has none named."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [content for named, content in fenced if named == language]


def commands(page: Path) -> list[list[str]]:
    """Command lines of embedcache in the page's plain code blocks, continuation lines joined."""
    lines = "\n".join(blocks(page, "")).replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.startswith("embedcache ")]


def options(words: list[str]) -> tuple[str, set[str]]:
    """The command that words name, and the options it knows."""
    found: Any = typer.main.get_command(app)
    name = "embedcache"
    while hasattr(found, "commands"):
        name = words.pop(0)
        assert name in found.commands, f"no command {name!r}"
        found = found.commands[name]
    known = {option for parameter in found.params for option in parameter.opts}
    return name, known | {option for p in found.params for option in p.secondary_opts}


SHOWN = [(page, words) for page in PAGES for words in commands(page)]


@pytest.mark.parametrize(
    ("page", "words"), SHOWN, ids=[f"{page.stem}: {' '.join(words)}"[:60] for page, words in SHOWN]
)
def test_a_command_in_the_documents_exists_with_its_options(page: Path, words: list[str]) -> None:
    rest = words[1:]
    _, known = options(rest)
    used = {word.split("=")[0] for word in rest if word.startswith("-")}
    assert used <= known | {"--help", "--debug"}, page.name


def test_there_are_commands_to_check() -> None:
    assert len(SHOWN) >= 10


@pytest.mark.parametrize("number", [0, 1])
def test_the_tutorial_s_cohort_files_are_read(number: int, tmp_path: Path) -> None:
    file = tmp_path / "cohort.toml"
    file.write_text(blocks(ROOT / "docs" / "tutorial.md", "toml")[number])
    assert read_cohort_file(file).kind in {"folder", "table"}


def test_the_tutorial_s_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = blocks(ROOT / "docs" / "tutorial.md", "python")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["vectors"].shape == (240, 256)


def test_links_between_documents_lead_somewhere() -> None:
    broken = [
        (page.name, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)", page.read_text("utf-8"))
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not broken
