"""What a file's first bytes say: its format, and what PIL hides or would allocate for too early.

PIL opens 16-bit RGB as 8-bit RGB without a word, and its WebP and GIF plugins allocate the canvas
while they open; so depth, and these two sizes, are read here.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

#: PIL's reader of each format. They are called directly: `Image.open` would try every plugin
#: that any package has registered, and warns of large images through a global setting.
READERS: dict[str, type[ImageFile.ImageFile]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
    "JPEG2000": Jpeg2KImagePlugin.Jpeg2KImageFile,
}

#: File names that end so are taken for images where a folder is searched.
SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
    | {".ppm", ".pgm", ".pbm", ".jp2", ".j2k", ".jpx"}
)

_MAGIC = (
    ("PNG", re.compile(rb"\x89PNG\r\n\x1a\n")),
    ("JPEG", re.compile(rb"\xff\xd8\xff")),
    ("BMP", re.compile(rb"BM")),
    ("TIFF", re.compile(rb"II[*+]\0|MM\0[*+]")),
    ("WEBP", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("GIF", re.compile(rb"GIF8[79]a")),
    # The plain-text kinds P1 to P3 are left out: nobody stores pictures so.
    ("PPM", re.compile(rb"P[456]\s")),
    ("JPEG2000", re.compile(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51")),
)

#: PIL's modes by number of components, and by colour type.
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
_PNG_MODES = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}
#: Segments before a frame that say nothing of it: DHT, DQT, DRI, APPn, COM (T.81, table B.1).
_JPEG_SKIPPED = frozenset({0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})

#: TIFF 6.0: BitsPerSample, TileWidth, TileLength.
_BITS, _TILE_WIDTH, _TILE_LENGTH = 258, 322, 323


def sniff(data: bytes) -> str | None:
    """Name the format by its magic bytes; None if it is none of ours."""
    return next((name for name, magic in _MAGIC if magic.match(data)), None)


def plain(form: str, data: bytes) -> tuple[int, int, str] | None:
    """Width, height and PIL's mode of a common JPEG or PNG, as PIL gives them; else None.

    PIL's own reader takes 80 us for it, with the GIL held: more than reading and hashing.
    """
    if form == "JPEG":
        return _plain_jpeg(data)
    return _plain_png(data) if form == "PNG" else None


def _plain_jpeg(data: bytes) -> tuple[int, int, str] | None:
    """By the frame header (T.81, B.2.2) of the first frame; baseline, extended or progressive."""
    at = 2
    while data[at : at + 1] == b"\xff" and at + 10 <= len(data):
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xC2:
            depth, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            mode = _JPEG_MODES.get(components)
            sound = depth == 8 and width and height and length == 8 + 3 * components
            return (width, height, mode) if mode and sound else None
        if marker not in _JPEG_SKIPPED or length < 2:
            return None
        at += 2 + length
    return None


def _plain_png(data: bytes) -> tuple[int, int, str] | None:
    """By IHDR (RFC 2083, 4.1.1), which must be the first chunk and whole."""
    if len(data) < 33 or data[8:16] != b"\0\0\0\rIHDR":
        return None
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    mode = _PNG_MODES.get(colour)
    sound = zlib.crc32(data[12:29]) == struct.unpack_from(">I", data, 29)[0]
    return (width, height, mode) if mode and depth == 8 and width and height and sound else None


def canvas(form: str, data: bytes) -> tuple[int, int]:
    """Width and height that opening would allocate; (0, 0) where it allocates nothing.

    Raises:
        struct.error: if the header is cut off.
        IndexError: likewise.
    """
    if form == "WEBP":
        return _webp_canvas(data)
    return _gif_canvas(data) if form == "GIF" else (0, 0)


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Size by the container's first chunk (RFC 9649, sections 2.5 to 2.7; RFC 6386, 9.1)."""
    kind = data[12:16]
    if kind == b"VP8X":
        wide, high = data[24:27], data[27:30]
        return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _gif_canvas(data: bytes) -> tuple[int, int]:
    """The screen, or the first frame's far corner where that lies outside (GIF89a, 18 to 20)."""
    width, height = struct.unpack_from("<HH", data, 6)
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[at] == 0x21:  # an extension: a label, then sub-blocks up to an empty one
        at += 2
        while data[at]:
            at += data[at] + 1
        at += 1
    if data[at] != 0x2C:
        return width, height
    left, top, wide, high = struct.unpack_from("<HHHH", data, at + 1)
    return max(width, left + wide), max(height, top + high)


def depth(form: str, data: bytes, picture: ImageFile.ImageFile) -> int:
    """Bits of one sample as the file stores it (1 to 32).

    Raises:
        struct.error: if the header is cut off.
    """
    if form == "PNG":
        return data[24]
    if form == "TIFF" and isinstance(picture, TiffImagePlugin.TiffImageFile):
        return max(_tag(picture, _BITS), default=1)
    if form == "PPM":
        return 16 if _largest_value(data) > 255 else 8
    return _jpeg2000_depth(data) if form == "JPEG2000" else 8


def tile(picture: ImageFile.ImageFile) -> tuple[int, int]:
    """Width and height of a TIFF's tile, which may exceed the image's; else (0, 0)."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return 0, 0
    return max(_tag(picture, _TILE_WIDTH), default=0), max(_tag(picture, _TILE_LENGTH), default=0)


def _tag(picture: TiffImagePlugin.TiffImageFile, tag: int) -> tuple[int, ...]:
    value = picture.tag_v2.get(tag, ())
    return tuple(int(each) for each in (value if isinstance(value, tuple) else (value,)))


def _largest_value(data: bytes) -> int:
    """The maxval of a binary PGM or PPM; a bitmap (P4) has none."""
    if data.startswith(b"P4"):
        return 1
    gap = rb"(?:\s|#[^\r\n]*[\r\n])+"
    found = re.match(rb"P[56]" + gap + rb"\d+" + gap + rb"\d+" + gap + rb"(\d{1,6})", data)
    return int(found[1]) if found else 0


def _jpeg2000_depth(data: bytes) -> int:
    """Largest Ssiz of the SIZ segment, which follows the start of the code stream (T.800 A.5.1)."""
    siz = data.index(b"\xff\x4f\xff\x51") + 4
    (components,) = struct.unpack_from(">H", data, siz + 36)
    return max((byte & 0x7F) + 1 for byte in data[siz + 38 : siz + 38 + 3 * components : 3])


def png_chunks(data: bytes) -> Iterator[bytes]:
    """Names of a PNG's chunks up to IEND; each IDAT's checksum is proved, which PIL leaves out.

    Raises:
        EOFError: if the file ends before IEND.
        ValueError: if the checksum of an IDAT is wrong.
    """
    view, at = memoryview(data), 8
    while True:
        if at + 12 > len(data):
            raise EOFError
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if end + 4 > len(data):
            raise EOFError
        if (
            name == b"IDAT"
            and zlib.crc32(view[at + 4 : end]) != struct.unpack_from(">I", data, end)[0]
        ):
            raise ValueError(name)
        yield name
        if name == b"IEND":
            return
        at = end + 4
