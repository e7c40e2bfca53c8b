"""Let PyPI's torchvision be imported beside a CPU build of torch.

PyPI offers torchvision for Linux as a CUDA build only. Its compiled part needs CUDA's libraries,
does not load without them, and leaves torchvision's operators undefined; most of its Python code
minds that, but `torchvision/_meta_registrations.py` registers shape functions for `nms` and `qnms`
unasked, and the import ends in `RuntimeError: operator torchvision::nms does not exist`
(torchvision 0.17 to 0.28). timm and open_clip import torchvision and fall with it.

Declaring the two operators is all that the import lacks. They stay without an implementation:
calling `torchvision.ops.nms` still fails, and no encoder calls it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Operators that torchvision registers shape functions for without asking whether they exist.
UNGUARDED = ("nms", "qnms")
#: Their signature (torchvision/csrc/ops/nms.cpp).
SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"

#: torch forgets the operators of a library that is collected.
_declared: list[torch.library.Library] = []


def repair_torchvision() -> None:
    """Import torchvision, declaring what it lacks if it must; call it before timm or open_clip.

    Does nothing where torchvision is healthy.

    Raises:
        RuntimeError: as torchvision raised it, if something else is wrong.
    """
    if "torchvision" in sys.modules:
        return
    try:
        import torchvision
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
        _forget_half_imported()
        _declare()
        import torchvision  # noqa: F401  # the import is the point


def _forget_half_imported() -> None:
    """Python drops the module that failed, not the submodules that it had imported by then."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def _declare() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]  # torch leaves it untyped
    for operator in UNGUARDED:
        library.define(operator + SIGNATURE)  # type: ignore[no-untyped-call]  # likewise
    _declared.append(library)
