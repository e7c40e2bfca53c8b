"""The command line starts fast and speaks in sentences."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

from typer.testing import CliRunner

from embedcache.cli import app

HEAVY = (
    "torch",
    "timm",
    "open_clip",
    "torchvision",
    "sklearn",
    "pyarrow",
    "matplotlib",
    "dask",
    "zarr",
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "embedcache", *words], capture_output=True, text=True, check=False
    )


def test_the_version_is_told() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"embedcache {version('embedcache-bench')}\n")


def test_help_imports_none_of_the_heavy_libraries() -> None:
    code = (
        "import sys\n"
        "sys.argv = ['embedcache', '--help']\n"
        "from embedcache.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "extract" in done.stdout


def test_every_command_explains_itself() -> None:
    for command in ("extract", "probe", "evaluate", "compare", "report", "quickstart"):
        done = CliRunner().invoke(app, [command, "--help"])
        assert done.exit_code == 0, done.output
        assert "Example" in done.output, command


def test_an_error_is_one_sentence_and_exit_code_2() -> None:
    done = run("probe", "absent.zarr", "--train", "home", "--out", "nowhere")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "absent.zarr" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_where() -> None:
    done = run("probe", "absent.zarr", "--train", "home", "--out", "nowhere", "--debug")
    assert done.returncode != 0
    assert "Traceback" in done.stderr


def test_a_name_cannot_break_the_line_or_move_the_cursor() -> None:
    for name in ("a\nb\x1b[2J", "x" * 10_000, "x" * 300):
        done = run("compare", name)
        assert done.returncode in (1, 2)
        (line,) = done.stderr.splitlines()
        assert line.isprintable()
        assert len(line) < 5_000
