"""What an encoder is called on the command line: `NAME[@VARIANT…][=WEIGHTS]`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from embedcache.errors import ReferenceSyntaxError

GRAMMAR = (
    "NAME[@VARIANT…][=WEIGHTS], each variant once and before the weights; "
    "NAME is a named encoder, timm:ARCH or open-clip:ARCH"
)

#: Starts the name of an encoder that timm defines.
TIMM = "timm:"
#: Starts the name of an encoder that open_clip defines.
OPEN_CLIP = "open-clip:"

#: A listed name, or an architecture; dots part timm's tags. No slash: a path is never a name.
_NAME = re.compile(r"(?:timm:|open-clip:)?[A-Za-z0-9][A-Za-z0-9._+-]*")
#: A variant behind the weights; a path may hold `@`, but this is none.
_MISPLACED = re.compile(r"random(:\d+)?@")
_VARIANT = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True, slots=True)
class EncoderRef:
    """An encoder as it was asked for.

    Attributes:
        name: a listed name, `timm:ARCH` or `open-clip:ARCH`.
        variants: in the order given, each once.
        weights: a path (`~` expanded), `random`, `random:SEED` or a library's tag; None if not
            given.
    """

    name: str
    variants: tuple[str, ...] = ()
    weights: str | None = None

    def __str__(self) -> str:
        weights = "" if self.weights is None else f"={self.weights}"
        return "@".join((self.name, *self.variants)) + weights


def parse_encoder(text: str) -> EncoderRef:
    """Read a reference; whether the encoder exists is not looked at.

    Raises:
        ReferenceSyntaxError: if it is none.
    """
    head, equals, weights = text.strip().partition("=")
    name, *variants = head.split("@")
    sound = (
        _NAME.fullmatch(name)
        and all(_VARIANT.fullmatch(variant) for variant in variants)
        and len(set(variants)) == len(variants)
        and bool(weights) == bool(equals)
        and not _MISPLACED.match(weights)
    )
    if not sound:
        raise ReferenceSyntaxError("encoder", text, GRAMMAR)
    return EncoderRef(name, tuple(variants), _expanded(weights) if equals else None)


def _expanded(weights: str) -> str:
    # A shell leaves `~` alone behind `=`, so we expand it ourselves.
    return str(Path(weights).expanduser()) if weights.startswith("~") else weights
