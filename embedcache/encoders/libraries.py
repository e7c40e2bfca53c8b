"""What torch and torchvision are on this machine, asked in a process of its own.

A broken torch may not raise but end the process that imports it, and a doctor outlives that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from embedcache.schema import from_plain, plain

#: Seconds after which an import that does not end counts as broken.
PATIENCE = 60
_CODE = "from embedcache.encoders.libraries import tell; tell()"


@dataclass(frozen=True, kw_only=True, slots=True)
class Libraries:
    """What runs networks here.

    Attributes:
        torch: its version; empty if it cannot be imported.
        build: `CPU`, or what the build computes with, such as `CUDA 12.8`.
        devices: names of the devices that `--device auto` chooses among, first choice first.
        problem: why torch cannot be imported; empty if it can.
        torchvision: `healthy`; `repaired`: its compiled part does not load, and embedcache
            declares what the import lacks; `mismatched`: it wants another torch; `absent`.
        wanted: the torch that an installed torchvision asks for; empty if it does not say.
    """

    torch: str = ""
    build: str = ""
    devices: tuple[str, ...] = ()
    problem: str = ""
    torchvision: Literal["healthy", "repaired", "mismatched", "absent"] = "absent"
    wanted: str = ""


class Asking:
    """The question, put to another process; the answer is waited for where it is needed."""

    def __init__(self) -> None:
        """Put the question."""
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and our own words
            [sys.executable, "-c", _CODE],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> Libraries:
        """Wait for the answer; a process that died without one is an answer too."""
        try:
            told, complaint = self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            return Libraries(problem=f"importing it takes more than {PATIENCE} s")
        if self._process.returncode == 0 and told:
            return from_plain(Libraries, json.loads(told.splitlines()[-1]), "torch's process")
        last = (complaint.strip().splitlines() or ["it says nothing"])[-1]
        return Libraries(problem=f"importing it ends the process: {last}")


def tell() -> None:
    """Print the answer as a line of JSON; the other process does this."""
    print(json.dumps(plain(_look())))  # noqa: T201  # the pipe to `Asking`


def _look() -> Libraries:
    if find_spec("torch") is None:
        return Libraries(problem="it is not installed")
    try:
        import torch
    except Exception as error:  # noqa: BLE001  # whatever is broken: that is the question
        return Libraries(problem=f"{type(error).__name__}: {error}".splitlines()[0])
    from embedcache.encoders.device import _devices, device_name

    cuda = torch.version.cuda
    state, wanted = _torchvision(torch.__version__)
    return Libraries(
        torch=torch.__version__,
        build=f"CUDA {cuda}" if cuda else "CPU",
        devices=tuple(device_name(device) for device in _devices()),
        torchvision=state,
        wanted=wanted,
    )


def _torchvision(
    torch_version: str,
) -> tuple[Literal["healthy", "repaired", "mismatched", "absent"], str]:
    """State of torchvision, without the second and a half that importing it takes."""
    found = find_spec("torchvision")
    if found is None or found.origin is None:
        return "absent", ""
    wanted = _wanted_torch()
    if wanted and wanted != torch_version.partition("+")[0]:
        return "mismatched", wanted
    import torch

    compiled = next(Path(found.origin).parent.glob("_C*"), None)
    if compiled is None:
        return "repaired", wanted
    try:
        # What torchvision itself does first.
        torch.ops.load_library(str(compiled))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except OSError:
        return "repaired", wanted
    return "healthy", wanted


def _wanted_torch() -> str:
    """The one version of torch that torchvision's metadata asks for; empty if it names none."""
    for line in requires("torchvision") or ():
        name, exactly, number = line.replace(" ", "").replace("(", "").partition("==")
        if name == "torch" and exactly:
            return number.partition(")")[0].partition(";")[0]
    return ""


def installed_version(package: str) -> str:
    """Version of a distribution; empty if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
