"""`embedcache report`: one sentence for every mistake, one line for success."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from embedcache.evaluation.foreign import evaluate_table

TABLE = """image,patient,label,predicted,encoder,fold
{rows}
"""


def command(*words: str | Path) -> subprocess.CompletedProcess[str]:
    line = [
        sys.executable,
        "-c",
        "from embedcache.cli import main; main()",
        "report",
        *map(str, words),
    ]
    return subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    rows = [
        f"{i},{i // 2},{'ab'[i % 2]},{'ab'[(i % 2) ^ (i % 7 == 0)]},{encoder},{i // 2 % 2}"
        for encoder in ("one", "two")
        for i in range(60)
    ]
    table = tmp_path / "table.csv"
    table.write_text(TABLE.format(rows="\n".join(rows)), "utf-8")
    evaluate_table(table, tmp_path / "results")
    return tmp_path / "results"


def test_the_command_says_where_the_page_lies(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    done = command(results, "--out", out, "--json")
    assert (done.returncode, done.stderr.count("error")) == (0, 0)
    assert json.loads(done.stdout) == {"report": str(out)}
    assert "cannot say whether results hold elsewhere" in out.read_text("utf-8")


def test_a_stranger_s_file_is_one_sentence_and_code_two(results: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("mine", "utf-8")
    done = command(results, "--out", mine)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: ")
    assert "is no embedcache report" in done.stderr
    assert mine.read_text("utf-8") == "mine"
