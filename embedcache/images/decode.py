"""From bytes to an 8-bit picture, or to the reason why not.

What upstream loaders do through PIL's `convert`, made explicit:

| in the file                   | decoded                                                         |
|-------------------------------|-----------------------------------------------------------------|
| 1, L                          | L                                                               |
| LA                            | L, alpha dropped                                                |
| P                             | RGB by the palette, transparency dropped; a grey palette too    |
| RGB, YCbCr, CMYK              | RGB                                                             |
| RGBA                          | RGB, alpha dropped: what lies under transparent pixels shows    |
| more than 8 bits, I, F, other | refused: how to squeeze the values is a choice of the user's    |

EXIF orientation is not applied, as upstream loaders do not apply it (PIL itself turns a TIFF by
its own Orientation tag). Of a JPEG with attached pictures (MPO: previews, gain maps) the main
picture is taken. A JPEG damaged in its middle decodes without an error in libjpeg: its bytes, and
so its digest, are another image's.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from PIL import Image, ImageFile

from embedcache.errors import ImageUnreadableError, TruncatedAllowedError
from embedcache.images import formats
from embedcache.images.source import Layout, RawImage

#: Most pixels of one image: 8192 x 8192, 268 MB as PIL holds RGB. The largest mammograms and
#: radiographs have a third of it; whole-slide scans are not images in our sense.
MAX_PIXELS = 1 << 26

NOT_AN_IMAGE = "not an image of a known format"
TOO_LARGE = f"more than {MAX_PIXELS:,} pixels"
TOO_DEEP = "more than 8 bits a sample: a windowing choice is needed, convert to 8 bit first"
MANY_FRAMES = "more than one frame"
OTHER_MODE = "a colour mode that has no plain grey or RGB"
TRUNCATED = "truncated"
CORRUPT = "corrupt"
NO_MEMORY = "not enough memory to decode it"
WRONG_LENGTH = "its bytes do not fill its layout"
OTHER_LAYOUT = "a layout that is neither 8-bit grey nor 8-bit RGB"

_TARGET = {
    "1": "L",
    "L": "L",
    "LA": "L",
    "P": "RGB",
    "PA": "RGB",
    "RGB": "RGB",
    "RGBA": "RGB",
    "CMYK": "RGB",
    "YCbCr": "RGB",
}
#: PIL's names for more than 8 bits a sample.
_DEEP = re.compile(r"I|F|I;16.*")

#: Warnings of these modules concern metadata that we do not read.
_MUTED = ("ignore", None, Warning, re.compile(r"PIL\.(Tiff|Png)ImagePlugin"), 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What an image says of itself before a pixel is decoded.

    Attributes:
        width: pixels.
        height: pixels.
        format: `PNG`, `JPEG`, …; `raw` for bare pixels with a layout.
        mode: PIL's name of the mode found in the file (`L`, `RGB`, `P`, `RGBA`, …), with `;16`
            added where the samples are deeper than PIL's mode tells.
    """

    width: int
    height: int
    format: str
    mode: str


def header(raw: RawImage) -> Header:
    """Read an image's header; decodes no pixel. Deep or many-framed images have one too.

    Of a common JPEG or PNG nothing behind size and mode is looked at: what is damaged there shows
    when it is decoded.

    Raises:
        ImageUnreadableError: if it is no image of a known format, its header is damaged, or it
            has more than `MAX_PIXELS`.
    """
    if raw.layout is not None:
        height, width = _bare_size(raw.data, raw.layout)
        mode = "L" if len(raw.layout.shape) == 2 else "RGB"
        return Header(width=width, height=height, format="raw", mode=mode)
    with _reasons():
        common = _common_header(raw.data)
        if common is not None:
            return common
        form, picture = _open(raw.data)
        deep = formats.depth(form, raw.data, picture) > 8 and not _DEEP.fullmatch(picture.mode)
        return Header(
            width=picture.width,
            height=picture.height,
            format=form,
            mode=f"{picture.mode};16" if deep else picture.mode,
        )


def _common_header(data: bytes) -> Header | None:
    form = formats.sniff(data)
    found = None if form is None else formats.plain(form, data)
    if form is None or found is None:
        return None
    width, height, mode = found
    _limit((width, height))
    return Header(width=width, height=height, format=form, mode=mode)


def decode(raw: RawImage) -> Image.Image:
    """Decode to a PIL image of mode L or RGB, 8 bit; see the table above. Safe in many threads.

    Raises:
        ImageUnreadableError: with one of this module's fixed reasons.
        TruncatedAllowedError: if this process lets PIL fill truncated images with grey.
    """
    if raw.layout is not None:
        height, width = _bare_size(raw.data, raw.layout)
        mode = "L" if len(raw.layout.shape) == 2 else "RGB"
        return Image.frombytes(mode, (width, height), raw.data)
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise TruncatedAllowedError
    with _reasons():
        form, picture = _open(raw.data)
        _refuse(form, raw.data, picture)
        picture.load()
        # Left in, it would make `convert` warn for P, and change no pixel.
        picture.info.pop("transparency", None)
        target = _TARGET[picture.mode]
        # `convert` would copy a picture that is right already: up to half of the decoding time.
        return picture if picture.mode == target else picture.convert(target)


def _open(data: bytes) -> tuple[str, ImageFile.ImageFile]:
    """Parse the header; no memory is taken for an image beyond the limit."""
    form = formats.sniff(data)
    if form is None:
        raise ImageUnreadableError(NOT_AN_IMAGE)
    _limit(formats.canvas(form, data))
    _mute()
    picture = formats.READERS[form](io.BytesIO(data))
    _limit(picture.size)
    return form, picture


def _refuse(form: str, data: bytes, picture: ImageFile.ImageFile) -> None:
    """Raise for what is an image, but not one that can be used."""
    if form == "PNG" and b"acTL" in list(formats.png_chunks(data)):
        raise ImageUnreadableError(MANY_FRAMES)
    if getattr(picture, "is_animated", False):
        raise ImageUnreadableError(MANY_FRAMES)
    if _DEEP.fullmatch(picture.mode) or formats.depth(form, data, picture) > 8:
        raise ImageUnreadableError(TOO_DEEP)
    if picture.mode not in _TARGET:
        raise ImageUnreadableError(OTHER_MODE)
    _limit(formats.tile(picture))


def _limit(size: tuple[int, int]) -> None:
    if math.prod(size) > MAX_PIXELS:
        raise ImageUnreadableError(TOO_LARGE)


def _bare_size(data: bytes, layout: Layout) -> tuple[int, int]:
    channels = {"grey": (), "rgb": (3,)}[layout.photometric]
    height, width = (*layout.shape, 0, 0)[:2]
    if layout.dtype != "uint8" or layout.shape != (height, width, *channels):
        raise ImageUnreadableError(OTHER_LAYOUT)
    if min(height, width) < 1 or math.prod(layout.shape) != len(data):
        raise ImageUnreadableError(WRONG_LENGTH)
    _limit((height, width))
    return height, width


@contextmanager
def _reasons() -> Iterator[None]:
    """Turn whatever hostile bytes make PIL raise into one of our reasons, here and only here."""
    try:
        yield
    except ImageUnreadableError:
        raise
    except MemoryError as error:
        raise ImageUnreadableError(NO_MEMORY) from error
    except Exception as error:  # damaged bytes raise any of a dozen types in PIL
        ended = isinstance(error, EOFError) or "truncated" in str(error).lower()
        raise ImageUnreadableError(TRUNCATED if ended else CORRUPT) from error


def _mute() -> None:
    """Keep PIL's plugins from warning of metadata, whatever filters the process has set.

    `warnings.catch_warnings` restores filters that another thread may have changed; a filter that
    stays, for these two modules alone, needs no restoring.
    """
    if warnings.filters[:1] != [_MUTED]:
        warnings.filterwarnings("ignore", module=_MUTED[3].pattern)
