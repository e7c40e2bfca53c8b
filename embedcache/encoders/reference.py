"""What an encoder is called on the command line: `NAME[@VARIANT…][=WEIGHTS]`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from embedcache.encoders.paper import expand_paper
from embedcache.errors import ReferenceSyntaxError

GRAMMAR = (
    "NAME[@VARIANT…][=WEIGHTS], each variant once and before the weights; "
    "NAME is a named encoder, timm:ARCH, open-clip:ARCH, FILE.py:FACTORY or an encoder file "
    "(FILE.safetensors)"
)

#: Starts the name of an encoder that timm defines.
TIMM = "timm:"
#: Starts the name of an encoder that open_clip defines.
OPEN_CLIP = "open-clip:"

#: A listed name, or an architecture; dots part timm's tags. No slash: a path is never a name.
_NAME = re.compile(
    r"(?:timm:|open-clip:)?[A-Za-z0-9][A-Za-z0-9._+-]*|[A-Za-z0-9_][A-Za-z0-9._+-]*\.py:[A-Za-z_]\w*"
)
#: The path in front of a factory's file or of an encoder file; it may hold anything but the `=`
#: that starts weights.
_FOLDER = re.compile(r"(?P<folder>[^=]*[/\\])(?=[^/\\=]+(\.py:|\.safetensors(@|=|$)))")
#: A variant behind the weights; a path may hold `@`, but this is none.
_MISPLACED = re.compile(r"random(:\d+)?@")
_VARIANT = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True, slots=True)
class EncoderRef:
    """An encoder as it was asked for.

    Attributes:
        name: a listed name, `timm:ARCH`, `open-clip:ARCH`, or `FILE.py:FACTORY` or
            `FILE.safetensors` without folder.
        variants: in the order given, each once.
        weights: a path (`~` expanded), `random`, `random:SEED` or a library's tag; None if not
            given.
        folder: where FILE lies, with a slash at its end (`~` expanded); it is no part of any
            name that is stored.
    """

    name: str
    variants: tuple[str, ...] = ()
    weights: str | None = None
    folder: str = ""

    def __str__(self) -> str:
        weights = "" if self.weights is None else f"={self.weights}"
        return self.folder + "@".join((self.name, *self.variants)) + weights

    @property
    def file(self) -> Path | None:
        """The Python file that makes it; None for any other kind of name."""
        name, _, factory = self.name.rpartition(":")
        return Path(self.folder + name) if factory and name.endswith(".py") else None

    @property
    def encoder_file(self) -> Path | None:
        """The encoder file that holds it; None for any other kind of name."""
        return Path(self.folder + self.name) if self.name.endswith(".safetensors") else None


def parse_encoder(text: str) -> EncoderRef:
    """Read a reference; whether the encoder exists is not looked at.

    Raises:
        ReferenceSyntaxError: if it is none.
    """
    stripped = text.strip()
    found = _FOLDER.match(stripped)
    folder = found["folder"] if found else ""
    head, equals, weights = stripped.removeprefix(folder).partition("=")
    name, *variants = head.split("@")
    sound = (
        _NAME.fullmatch(name)
        and (":" in name or not name.endswith(".py"))  # a file of one's own lacks its factory
        and all(_VARIANT.fullmatch(variant) for variant in variants)
        and len(set(variants)) == len(variants)
        and bool(weights) == bool(equals)
        and not _MISPLACED.match(weights)
    )
    if not sound:
        raise ReferenceSyntaxError("encoder", text, GRAMMAR)
    return EncoderRef(
        name,
        tuple(variants),
        weights=_expanded(weights) if equals else None,
        folder=f"{_expanded(folder).rstrip('/')}/" if folder.startswith("~") else folder,
    )


def parse_encoders(words: Iterable[str]) -> tuple[EncoderRef, ...]:
    """Read references as they stand behind `--encoder`: commas part them, `@paper` is seven.

    Raises:
        ReferenceSyntaxError: if one is none.
    """
    parts = (part.strip() for word in words for part in word.split(","))
    return tuple(parse_encoder(text) for text in expand_paper(part for part in parts if part))


def _expanded(weights: str) -> str:
    # A shell leaves `~` alone behind `=`, so we expand it ourselves.
    return str(Path(weights).expanduser()) if weights.startswith("~") else weights
