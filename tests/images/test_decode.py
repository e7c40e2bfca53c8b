"""What decodes to what, and what is refused with which reason."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import fit
from embedcache.errors import ImageUnreadableError, TruncatedAllowedError
from embedcache.images import decode as room
from embedcache.images.decode import MAX_PIXELS, Header, decode, header
from embedcache.images.source import ImageFile as Source
from embedcache.images.source import Layout, RawImage

GREY = np.random.default_rng(0).integers(0, 256, (20, 30), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
ALPHA = np.tile(np.array([0, 128, 255], np.uint8), (20, 10))


def saved(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def png(depth: int, colour: int, rows: bytes, size: tuple[int, int] = (2, 1)) -> bytes:
    """A PNG written by the specification alone, for what PIL does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(samples: int, bits: int, body: bytes, **more: int) -> bytes:
    """An uncompressed little-endian TIFF of one row and one column (TIFF 6.0, section 2)."""
    tags = {256: 1, 257: 1, 258: bits, 259: 1, 262: 1 if samples == 1 else 2, 273: 0, 277: samples}
    tags |= {278: 1, 279: len(body)} | {int(key.removeprefix("t")): v for key, v in more.items()}
    count = len(tags)
    after = 8 + 2 + 12 * count + 4
    tags[273] = after + 2 * samples
    entries = b""
    for tag, value in sorted(tags.items()):
        if tag == 258 and samples > 1:
            entries += struct.pack("<HHII", tag, 3, samples, after)
        else:
            entries += struct.pack("<HHII", tag, 4, 1, value)
    head = b"II*\0" + struct.pack("<IH", 8, count)
    return head + entries + b"\0\0\0\0" + struct.pack(f"<{samples}H", *[bits] * samples) + body


def grey_alpha() -> Image.Image:
    return Image.merge("LA", (Image.fromarray(GREY), Image.fromarray(ALPHA)))


def colour_alpha() -> Image.Image:
    return Image.merge("RGBA", (*Image.fromarray(COLOUR).split(), Image.fromarray(ALPHA)))


def palette() -> tuple[Image.Image, np.ndarray]:
    index = GREY % 4
    colours = np.array([[0, 0, 0], [255, 0, 0], [10, 20, 30], [9, 9, 9]], np.uint8)
    picture = Image.frombytes("P", (30, 20), index.tobytes())
    picture.putpalette(colours.tobytes())
    return picture, colours[index]


@dataclass(frozen=True)
class Expect:
    id: str
    given: bytes
    mode: str
    pixels: np.ndarray


def expectations() -> list[Expect]:
    indexed, resolved = palette()
    bits = GREY > 127
    grey, colour = Image.fromarray(GREY), Image.fromarray(COLOUR)
    grey_palette = Image.frombytes("P", (30, 20), GREY.tobytes())
    grey_palette.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    return [
        Expect("1 becomes L", saved(Image.fromarray(bits)), "L", bits.astype(np.uint8) * 255),
        Expect("L stays", saved(grey), "L", GREY),
        Expect("LA drops alpha", saved(grey_alpha()), "L", GREY),
        Expect("P resolves its palette", saved(indexed), "RGB", resolved),
        Expect("P drops one clear colour", saved(indexed, transparency=2), "RGB", resolved),
        Expect("P drops alpha bytes", saved(indexed, transparency=b"\0\x80"), "RGB", resolved),
        Expect("a grey palette is RGB", saved(grey_palette), "RGB", np.dstack([GREY] * 3)),
        Expect("RGB stays", saved(colour), "RGB", COLOUR),
        Expect("RGBA drops alpha", saved(colour_alpha()), "RGB", COLOUR),
        Expect("2-bit grey spreads to 0..255", png(2, 0, b"\0\x40"), "L", np.array([[85, 0]])),
        Expect("BMP", saved(colour, "BMP"), "RGB", COLOUR),
        Expect("TIFF", saved(grey, "TIFF"), "L", GREY),
        Expect("compressed TIFF", saved(colour, "TIFF", compression="tiff_lzw"), "RGB", COLOUR),
        Expect("WEBP", saved(colour, "WEBP", lossless=True), "RGB", COLOUR),
        Expect("GIF", saved(indexed, "GIF"), "RGB", resolved),
        Expect("PGM", saved(grey, "PPM"), "L", GREY),
        Expect("PPM", saved(colour, "PPM"), "RGB", COLOUR),
        Expect("JPEG 2000", saved(grey, "JPEG2000", irreversible=False), "L", GREY),
        Expect("bare grey", GREY.tobytes(), "L", GREY),
        Expect("bare RGB", COLOUR.tobytes(), "RGB", COLOUR),
    ]


LAYOUTS = {
    "bare grey": Layout(shape=(20, 30), dtype="uint8", photometric="grey"),
    "bare RGB": Layout(shape=(20, 30, 3), dtype="uint8", photometric="rgb"),
}


@pytest.mark.parametrize("case", expectations(), ids=lambda case: case.id)
def test_each_mode_decodes_as_the_table_says(case: Expect) -> None:
    picture = decode(RawImage(case.given, LAYOUTS.get(case.id)))
    assert picture.mode == case.mode
    assert np.array_equal(np.asarray(picture), case.pixels)


MODES = {
    "1": Image.fromarray(GREY > 127),
    "L": Image.fromarray(GREY),
    "LA": grey_alpha(),
    "P": palette()[0],
    "RGB": Image.fromarray(COLOUR),
    "RGBA": colour_alpha(),
}


@pytest.mark.parametrize("mode", MODES)
def test_an_rgb_encoder_sees_what_upstream_loaders_convert_to(mode: str) -> None:
    picture = MODES[mode]
    assert picture.mode == mode
    how = Preprocessing(height=8, width=8, mean=(0.0,) * 3, std=(1.0,) * 3)
    expected = np.asarray(picture.convert("RGB").resize((8, 8), Image.Resampling.BICUBIC))
    found = fit(decode(RawImage(saved(picture))), how)
    assert np.array_equal(found, expected.transpose(2, 0, 1))


def test_lossy_colour_spaces_become_rgb_close_to_what_was_saved() -> None:
    flat = Image.new("RGB", (16, 16), (200, 40, 90))
    for data in (saved(flat, "JPEG", quality=95), saved(flat.convert("CMYK"), "JPEG", quality=95)):
        picture = decode(RawImage(data))
        assert picture.mode == "RGB"
        assert np.abs(np.asarray(picture, int) - [200, 40, 90]).max() < 6


def test_exif_orientation_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by a quarter
    data = saved(Image.new("L", (30, 20)), "JPEG", exif=exif)
    assert decode(RawImage(data)).size == (30, 20)


def test_a_header_tells_size_format_and_the_mode_in_the_file() -> None:
    assert header(RawImage(saved(colour_alpha()))) == Header(
        width=30, height=20, format="PNG", mode="RGBA"
    )
    assert header(RawImage(png(16, 2, bytes(13)))).mode == "RGB;16"
    assert header(RawImage(COLOUR.tobytes(), LAYOUTS["bare RGB"])) == Header(
        width=30, height=20, format="raw", mode="RGB"
    )


def test_a_header_needs_no_pixels() -> None:
    data = saved(Image.fromarray(COLOUR))
    assert header(RawImage(data[:60])).width == 30


def animated(form: str) -> bytes:
    frames = [Image.new("L", (8, 8), value) for value in (0, 90, 200)]
    return saved(frames[0], form, save_all=True, append_images=frames[1:])


JPEG = saved(Image.fromarray(COLOUR).resize((300, 200)), "JPEG")
PNG = saved(Image.fromarray(COLOUR))
REFUSED = [
    ("16-bit grey PNG", png(16, 0, bytes(5)), room.TOO_DEEP),
    ("16-bit RGB PNG", png(16, 2, bytes(13)), room.TOO_DEEP),
    ("16-bit RGBA PNG", png(16, 6, bytes(17)), room.TOO_DEEP),
    ("16-bit grey and alpha PNG", png(16, 4, bytes(9)), room.TOO_DEEP),
    ("16-bit grey TIFF", tiff(1, 16, b"\1\2"), room.TOO_DEEP),
    ("16-bit RGB TIFF", tiff(3, 16, bytes(6)), room.TOO_DEEP),
    ("32-bit float TIFF", saved(Image.new("F", (4, 4)), "TIFF"), room.TOO_DEEP),
    ("32-bit integer TIFF", saved(Image.new("I", (4, 4)), "TIFF"), room.TOO_DEEP),
    ("16-bit PGM", b"P5 1 1 65535\n\1\2", room.TOO_DEEP),
    ("16-bit PPM with a remark", b"P6\n# by hand\n1 1\n1023\n" + bytes(6), room.TOO_DEEP),
    ("16-bit JPEG 2000", saved(Image.new("I;16", (8, 8)), "JPEG2000"), room.TOO_DEEP),
    ("LAB TIFF", saved(Image.new("LAB", (4, 4)), "TIFF"), room.OTHER_MODE),
    ("animated GIF", animated("GIF"), room.MANY_FRAMES),
    ("animated PNG", animated("PNG"), room.MANY_FRAMES),
    ("animated WEBP", animated("WEBP"), room.MANY_FRAMES),
    ("TIFF of three pages", animated("TIFF"), room.MANY_FRAMES),
    ("half a PNG", PNG[: len(PNG) // 2], room.TRUNCATED),
    ("a PNG that lacks its last byte", PNG[:-1], room.TRUNCATED),
    ("half a JPEG", JPEG[: len(JPEG) // 2], room.TRUNCATED),
    ("a PNG with a damaged pixel", PNG[:100] + bytes([PNG[100] ^ 1]) + PNG[101:], room.CORRUPT),
    ("nothing", b"", room.NOT_AN_IMAGE),
    ("a web page", b"<!doctype html>", room.NOT_AN_IMAGE),
    ("an icon, which PIL reads", b"\0\0\1\0\1\0" + bytes(60), room.NOT_AN_IMAGE),
    ("a huge PNG", png(8, 0, b"\0", size=(1 << 14, 1 << 13)), room.TOO_LARGE),
    ("a huge TIFF tile", tiff(1, 8, b"\0", t322=1 << 14, t323=1 << 13, t324=8), room.TOO_LARGE),
    ("a huge GIF frame", b"GIF89a\1\0\1\0\0\0\0,\0\0\0\0\xff\xff\xff\xff\0\2", room.TOO_LARGE),
    ("a huge WEBP", b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x3f\0" * 2, room.TOO_LARGE),
]


@pytest.mark.parametrize(
    ("data", "reason"), [case[1:] for case in REFUSED], ids=[r[0] for r in REFUSED]
)
def test_what_cannot_be_used_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ImageUnreadableError) as caught:
        decode(RawImage(data))
    assert caught.value.reason == reason


def test_the_pixel_limit_is_exact() -> None:
    side = 1 << 13
    assert side * side == MAX_PIXELS
    assert header(RawImage(png(8, 0, b"", size=(side, side)))).width == side
    with pytest.raises(ImageUnreadableError, match="67,108,864"):
        header(RawImage(png(8, 0, b"", size=(side, side + 1))))


BARE = [
    ((20, 31), "uint8", "grey", room.WRONG_LENGTH),
    ((0, 0), "uint8", "grey", room.WRONG_LENGTH),
    ((-20, -30), "uint8", "grey", room.WRONG_LENGTH),
    ((20, 30), "uint16", "grey", room.OTHER_LAYOUT),
    ((20, 30), "uint8", "rgb", room.OTHER_LAYOUT),
    ((20, 30, 3), "uint8", "grey", room.OTHER_LAYOUT),
    ((600,), "uint8", "grey", room.OTHER_LAYOUT),
    ((), "uint8", "grey", room.OTHER_LAYOUT),
]


@pytest.mark.parametrize(("shape", "dtype", "photometric", "reason"), BARE)
def test_bare_pixels_that_do_not_fit_their_layout_are_refused(
    shape: tuple[int, ...], dtype: str, photometric: Any, reason: str
) -> None:
    raw = RawImage(GREY.tobytes(), Layout(shape=shape, dtype=dtype, photometric=photometric))
    for read in (header, decode):
        with pytest.raises(ImageUnreadableError) as caught:
            read(raw)
        assert caught.value.reason == reason


def test_a_process_that_fills_truncated_images_with_grey_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(TruncatedAllowedError, match="set it to False"):
        decode(RawImage(PNG))


VICTIMS = [
    *(saved(Image.fromarray(COLOUR), form) for form in ("PNG", "JPEG", "WEBP", "TIFF", "BMP")),
    *(saved(palette()[0], form) for form in ("PNG", "GIF")),
    saved(Image.fromarray(GREY), "PPM"),
    saved(Image.fromarray(GREY), "JPEG2000"),
    saved(Image.fromarray(GREY), "TIFF", compression="tiff_deflate"),
]


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(VICTIMS),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6),
    st.integers(0, 4000),
)
def test_damaged_bytes_give_a_picture_or_a_reason(
    data: bytes, damage: list[tuple[int, int]], cut: int
) -> None:
    broken = bytearray(data)
    for place, value in damage:
        broken[place % len(data)] = value
    raw = RawImage(bytes(broken[: len(data) - cut % len(data)] if cut % 3 == 0 else broken))
    for read in (header, decode):
        with suppress(ImageUnreadableError):
            read(raw)


def test_a_real_image_decodes_as_pil_opens_it(shared_cohorts: Path) -> None:
    folders = ("african_planes/Egypt", "fetal_planes_db_four_planes/Images")
    for folder in folders:
        path = min((shared_cohorts / folder).iterdir())
        with Image.open(path) as upstream:
            assert np.array_equal(np.asarray(decode(Source(path).read())), np.asarray(upstream))


def test_threads_decode_without_a_warning_and_leave_other_warnings_alone() -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\xff\x00\0\0\0\0"
    data = saved(Image.fromarray(COLOUR), "JPEG", exif=exif)
    with ThreadPoolExecutor(8) as pool:
        sizes = set(pool.map(lambda _: decode(RawImage(data)).size, range(200)))
    assert sizes == {(30, 20)}
    with pytest.raises(UserWarning, match="ours"):
        warnings.warn("ours", UserWarning, stacklevel=1)
