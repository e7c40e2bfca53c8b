"""From bytes to an 8-bit picture, or to the reason why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from embedcache.images.source import RawImage

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What an image says of itself before a pixel is decoded.

    Attributes:
        width: pixels.
        height: pixels.
        format: `PNG`, `JPEG`, …; `raw` for bare pixels with a layout.
        mode: PIL's name of the mode found in the file (`L`, `RGB`, `P`, `RGBA`, …).
    """

    width: int
    height: int
    format: str
    mode: str


def header(raw: RawImage) -> Header:
    """Read an image's header; decodes no pixel.

    Raises:
        ImageUnreadableError: if it is no image of a known format, or refused (see `decode`).
    """
    raise NotImplementedError


def decode(raw: RawImage) -> Image:
    """Decode to a PIL image of mode L or RGB, 8 bit.

    Raises:
        ImageUnreadableError: with one of a fixed list of short reasons.
    """
    raise NotImplementedError
