"""The repair mends exactly one defect, and leaves a healthy torchvision alone.

An import is what is tested, so most cases run in a fresh process. Stand-ins for torchvision are
packages in a folder of their own, which raise what the real one raises.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedcache.encoders.torchvision_repair import repair_torchvision

REPAIR = "from embedcache.encoders.torchvision_repair import _declared, repair_torchvision\n"
#: What torchvision/_meta_registrations.py does, and its failure where the operators are unknown.
REGISTERS = """
import torch
import torchvision.early
for operator in ("nms", "qnms"):
    torch.library.register_fake("torchvision::" + operator)(lambda dets, scores, threshold: dets)
"""


def ran(code: str, folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if folder is not None:
        environment["PYTHONPATH"] = str(folder)
    return subprocess.run(
        [sys.executable, "-c", REPAIR + code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def stand_in(folder: Path, source: str) -> Path:
    package = folder / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(source)
    (package / "early.py").write_text("")
    return folder


def test_the_torchvision_installed_here_can_be_imported() -> None:
    repair_torchvision()
    import timm
    import torchvision.transforms

    assert timm.is_model("resnet50")
    assert torchvision.transforms.CenterCrop(3).size == (3, 3)


def test_a_torchvision_without_its_operators_is_mended_and_imported_anew(tmp_path: Path) -> None:
    folder = stand_in(tmp_path, REGISTERS)
    counts = "import builtins\nbuiltins.tries = getattr(builtins, 'tries', 0) + 1\n"
    (folder / "torchvision" / "early.py").write_text(counts)
    code = (
        "repair_torchvision()\n"
        "import torch\n"
        "print(len(_declared), 'declared,', tries, 'tries')\n"
        "print(torch.ops.torchvision.nms.default._schema)\n"
    )
    done = ran(code, folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        # Twice: what the failed import had loaded by then was dropped too.
        "1 declared, 2 tries",
        "torchvision::nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    ]


def test_a_healthy_torchvision_is_imported_and_nothing_is_declared(tmp_path: Path) -> None:
    code = (
        "repair_torchvision()\n"
        "import sys\n"
        "print(_declared, sys.modules['torchvision'].healthy, 'torch' in sys.modules)\n"
    )
    done = ran(code, stand_in(tmp_path, "healthy = 'untouched'\n"))
    assert done.stdout == "[] untouched False\n", done.stderr


@pytest.mark.parametrize(
    "failure", ["RuntimeError('no kernel image is available')", "ImportError('libcudart')"]
)
def test_any_other_failure_of_torchvision_is_passed_on(tmp_path: Path, failure: str) -> None:
    done = ran("repair_torchvision()", stand_in(tmp_path, f"raise {failure}\n"))
    assert done.returncode == 1
    assert failure.split("'")[1] in done.stderr.splitlines()[-1]
