"""`embedcache doctor` tells what is broken and the command that mends it, whatever is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from embedcache import doctor
from embedcache.cli import app
from embedcache.doctor import VARIABLES, Diagnosis, diagnose
from embedcache.encoders.catalogue import Broken, catalogue
from embedcache.encoders.libraries import Asking, Libraries

HERE = Libraries(
    torch="2.13.0", build="CPU", devices=("cpu",), torchvision="repaired", wanted="2.13.0"
)


class Answered:
    """Stands where torch's process is asked; importing torch takes seconds."""

    def __init__(self, found: Libraries = HERE) -> None:
        self.found = found

    def answer(self) -> Libraries:
        return self.found


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of this machine's own, and a home without a key."""
    for name in (*VARIABLES, "EMBEDCACHE_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(doctor, "Asking", Answered)
    monkeypatch.setattr(doctor, "LITTLE_DISK", 0)
    monkeypatch.setattr(doctor, "LITTLE_MEMORY", 0)


def asked_of(monkeypatch: pytest.MonkeyPatch, found: Libraries) -> Diagnosis:
    monkeypatch.setattr(doctor, "Asking", lambda: Answered(found))
    return diagnose()


def test_a_machine_that_is_ready_has_nothing_wrong() -> None:
    found = diagnose()
    assert found.problems == ()
    assert found.sound
    assert {"pixels", "efficientnet-lite0"} <= set(found.ready)
    assert set(found.ready) | set(found.missing) == {one.name for one in catalogue()[0]}
    assert found.key == "not made yet"
    assert found.memory
    assert all(free > 0 for free in found.disk.values())
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 0


def test_torch_is_asked_in_a_process_of_its_own() -> None:
    found = Asking().answer()
    assert found.torch == version("torch")
    assert found.devices[-1] == "cpu"
    assert found.problem == ""
    # The pair that constraints.txt pins.
    assert found.torchvision in {"healthy", "repaired"}


def test_a_torch_that_ends_its_process_leaves_the_doctor_standing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "torch"
    fake.mkdir()
    (fake / "__init__.py").write_text("import os, sys\nsys.stderr.write('boom\\n')\nos.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = Asking().answer()
    assert found.torch == ""
    assert "ends the process" in found.problem


def test_a_torch_that_is_damaged_is_said_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libtorch_cpu.so: no such file')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = Asking().answer()
    assert found.problem == "OSError: libtorch_cpu.so: no such file"
    diagnosis = asked_of(monkeypatch, found)
    (problem,) = diagnosis.problems
    assert problem.fatal
    assert "libtorch_cpu.so" in problem.what
    assert problem.mend.startswith("pip install --force-reinstall torch torchvision")


def test_the_whole_command_works_without_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('none here')\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "embedcache", "doctor"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 1
    assert "torch cannot be imported: ImportError: none here" in done.stdout
    assert "efficientnet-lite0" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("state", "torch", "mend"),
    [
        # github.com/pytorch/vision, README: 0.15 belongs to torch 2.0, 0.28 to 2.13.
        ("absent", "2.13.0+cpu", "pip install --no-deps torchvision==0.28.*"),
        ("mismatched", "2.0.1", "pip install --no-deps torchvision==0.15.*"),
    ],
)
def test_a_torchvision_that_does_not_fit_is_mended_by_the_one_that_does(
    state: str, torch: str, mend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Libraries(torch=torch, devices=("cpu",), torchvision=state, wanted="2.12.0")  # type: ignore[arg-type]  # parametrised
    (problem,) = asked_of(monkeypatch, found).problems
    assert problem.mend == mend
    assert problem.fatal


def test_values_of_variables_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://doe:secret@proxy:3128")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for words in (["doctor"], ["doctor", "--json"]):
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0
        assert "HTTPS_PROXY" in done.stdout
        assert "HF_TOKEN" in done.stdout
        assert "secret" not in done.stdout


def test_json_names_no_folder_of_this_machine(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["doctor", "--json", "--store", str(tmp_path / "s.zarr")])
    assert str(tmp_path) not in done.stdout
    assert str(Path.home()) not in done.stdout
    assert json.loads(done.stdout)["problems"] == []


def test_certificates_that_are_not_there_are_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "absent.pem"))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Path(__file__)))
    (problem,) = diagnose().problems
    assert problem.mend == "unset SSL_CERT_FILE"
    assert not problem.fatal


def test_a_key_that_others_may_read_is_mended_by_its_mode(tmp_path: Path) -> None:
    file = tmp_path / "config" / "embedcache" / "key"
    file.parent.mkdir(parents=True)
    file.write_text("ab" * 32)
    file.chmod(0o644)
    found = diagnose()
    assert found.key == "unusable"
    (problem,) = found.problems
    assert problem.mend == f"chmod 600 {file}".replace(str(Path.home()), "~")
    file.chmod(0o600)
    assert diagnose().key == "file"


def test_looking_makes_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose()
    assert not (tmp_path / "config").exists()
    monkeypatch.setenv("EMBEDCACHE_KEY", "no key")
    (problem,) = diagnose().problems
    assert problem.mend == "unset EMBEDCACHE_KEY"


def test_little_room_is_said_before_it_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LITTLE_DISK", 1 << 62)
    monkeypatch.setattr(doctor, "LITTLE_MEMORY", 1 << 62)
    mends = [problem.mend for problem in diagnose().problems]
    assert any("EMBEDCACHE_WEIGHTS" in mend for mend in mends)
    assert any("--batch-size" in mend for mend in mends)


def test_a_store_that_is_not_there_yet_has_its_parent_s_room(tmp_path: Path) -> None:
    free = diagnose(tmp_path / "a" / "b" / "s.zarr").disk["store"]
    # Others write to this disk too.
    assert free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)


def test_a_package_that_cannot_be_loaded_is_named_with_its_mend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = Broken(name="theirs", package="their-encoders", problem="ImportError: x")
    monkeypatch.setattr(doctor, "catalogue", lambda: ((), (theirs,)))
    (problem,) = diagnose().problems
    assert problem.mend == "pip install -U their-encoders"
    assert not problem.fatal


def test_a_required_package_that_is_gone_stops_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    known = doctor.installed_version
    monkeypatch.setattr(
        doctor, "installed_version", lambda name: "" if name == "timm" else known(name)
    )
    (problem,) = diagnose().problems
    assert (problem.mend, problem.fatal) == ("pip install timm", True)
    assert CliRunner().invoke(app, ["doctor"]).exit_code == 1
