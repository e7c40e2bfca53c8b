"""What an encoder's name stands for: one that is listed, or one that a library defines."""

from __future__ import annotations

import difflib
from dataclasses import replace

from embedcache import registry
from embedcache.encoders.families import open_clip_generic, timm_generic
from embedcache.encoders.reference import OPEN_CLIP, TIMM, EncoderRef
from embedcache.encoders.spec import ArithmeticSpec, EncoderSpec
from embedcache.errors import UnknownNameError

#: Our own distribution; its encoders state the version of their code themselves.
OURS = "embedcache-bench"


def specify(ref: EncoderRef) -> EncoderSpec | ArithmeticSpec:
    """What a name stands for, variants and weights aside; a Python file's is `read_plugin`'s.

    Raises:
        UnknownNameError: if there is no such encoder or architecture; names those that are close.
    """
    if ref.name.startswith(TIMM):
        return timm_generic.specify(ref)
    if ref.name.startswith(OPEN_CLIP):
        return open_clip_generic.specify(ref)
    return registered(ref.name)


def registered(name: str) -> EncoderSpec | ArithmeticSpec:
    """A listed encoder; a third party's has its distribution and version for `code`.

    Raises:
        UnknownNameError: if no installed package offers it.
        NameTakenError: if two do.
    """
    known = registry.names("encoders")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=8)
        raise UnknownNameError("encoder", name, tuple(close) or known)
    spec: EncoderSpec | ArithmeticSpec = registry.load("encoders", name)
    offered = registry.offered_by("encoders", name)
    return spec if offered is None or offered[0] == OURS else replace(spec, code=" ".join(offered))
