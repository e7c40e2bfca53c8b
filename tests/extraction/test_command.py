"""`embedcache extract` shows what would run, what ran and where the time went."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedcache.cli import app
from embedcache.errors import SchedulerError
from embedcache.testing.paced_run import KEY


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch) -> list[str]:
    monkeypatch.setenv("EMBEDCACHE_KEY", KEY)
    (tmp_path / "small.toml").write_text('kind = "synthetic"\nplace = "home"\nsize = 40\n')
    cohort = f"home={tmp_path / 'small.toml'}"
    return [
        "extract",
        str(tmp_path / "s.zarr"),
        "--cohort",
        cohort,
        "--encoder",
        "pixels",
    ]


def test_a_dry_run_names_passes_images_time_and_bytes_and_writes_nothing(
    arguments: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, [*arguments, "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    planned = json.loads(done.stdout)
    (encoder,), (one,) = planned["encoders"], planned["passes"]
    assert encoder["bytes"] == encoder["missing"] * 256 * 4
    assert (encoder["in_pass"], one["encoders"]) == (1, ["pixels"])
    assert one["images"] == encoder["missing"]
    assert not (tmp_path / "s.zarr").exists()
    shown = CliRunner().invoke(app, [*arguments, "--dry-run"]).stdout
    assert f"pass 1: {one['images']:,} images through one encoder" in shown


def test_a_dry_run_marks_what_nobody_trained(arguments: list[str]) -> None:
    asked = [*arguments[:-1], "pixels,tinyusfm=random", "--dry-run"]
    lines = CliRunner().invoke(app, asked).stdout.splitlines()
    (tiny,) = [line for line in lines if " tinyusfm" in line]
    (pixels,) = [line for line in lines if " pixels" in line]
    assert "RANDOM WEIGHTS" in tiny
    assert "RANDOM WEIGHTS" not in pixels


def test_a_run_shows_its_passes_and_a_rerun_none(arguments: list[str]) -> None:
    first = CliRunner().invoke(app, arguments)
    assert first.exit_code == 0, first.output
    assert "of bare forward" in first.stdout
    again = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert again["passes"] == []
    assert again["encoders"][0]["encoded"] == 0


def test_processes_of_several_devices_fill_the_same_store(arguments: list[str]) -> None:
    first = CliRunner().invoke(app, [*arguments, "--device", "cpu,cpu", "--json"])
    assert first.exit_code == 0, first.output
    (encoder,) = json.loads(first.stdout)["encoders"]
    assert (encoder["encoded"], encoder["failed"]) == (encoder["images"], 0)
    again = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert again["encoders"][0]["encoded"] == 0


def test_what_is_no_scheduler_is_refused_and_a_plan_says_that_it_asks_none(
    arguments: list[str], tmp_path: Path
) -> None:
    done = CliRunner().invoke(app, [*arguments, "--scheduler", "cluster"])
    assert isinstance(done.exception, SchedulerError)
    assert not (tmp_path / "s.zarr").exists()
    refused = CliRunner().invoke(app, [*arguments, "--scheduler", "cluster", "--dry-run"])
    assert isinstance(refused.exception, SchedulerError)
    planned = [*arguments, "--scheduler", "local:2", "--dry-run"]
    shown = CliRunner().invoke(app, planned).stdout
    assert "timed on cpu of this machine alone: the plan asks no scheduler" in shown
    assert json.loads(CliRunner().invoke(app, [*planned, "--json"]).stdout)["devices"] is None


def test_a_plan_of_several_devices_says_that_one_was_timed_and_what_all_take_at_best(
    arguments: list[str], monkeypatch
) -> None:
    # Stands for two devices of one machine; arithmetic without a network needs none of them.
    monkeypatch.setattr(
        "embedcache.extraction.plan.pick_devices", lambda _: ("cuda:0", "cuda:1", "cuda:1")
    )
    asked = [*arguments, "--device", "cuda:0,cuda:1,cuda:1", "--dry-run"]
    shown = CliRunner().invoke(app, asked).stdout
    # How many seconds, the machine's other work decides.
    assert re.search(r"timed on cpu alone: 2 devices, each as fast, take \d+ s at best", shown)
    assert "alone" not in CliRunner().invoke(app, [*arguments, "--dry-run"]).stdout
