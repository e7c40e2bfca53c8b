"""What is read without PIL is what PIL would say."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from embedcache.images import formats

#: PNG knows no CMYK, JPEG no alpha and no palette.
KINDS = [("PNG", mode) for mode in ("L", "LA", "P", "RGB", "RGBA")]
KINDS += [("JPEG", mode) for mode in ("L", "RGB", "CMYK")]
FILES: dict[tuple[str, str, bool], bytes] = {}


def file(form: str, mode: str, *, more: bool) -> bytes:
    """A small file of 37 x 23 pixels; with `more`, progressive or interlaced, with metadata."""
    if (form, mode, more) not in FILES:
        out = io.BytesIO()
        exif = Image.Exif()
        exif[270] = "fetal head"
        settings = {"exif": exif, "dpi": (72, 72), "progressive": True} if more else {}
        picture = Image.linear_gradient("L").resize((37, 23)).convert(mode)
        picture.save(out, form, **settings)
        FILES[form, mode, more] = out.getvalue()
    return FILES[form, mode, more]


def by_pil(form: str, data: bytes) -> tuple[int, int, str] | None:
    try:
        picture = formats.READERS[form](io.BytesIO(data))
    except Exception:  # noqa: BLE001  # damaged bytes raise any of a dozen types in PIL
        return None
    return (*picture.size, picture.mode)


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize(("form", "mode"), KINDS)
def test_the_common_kinds_are_read_without_pil(form: str, mode: str, more: bool) -> None:
    data = file(form, mode, more=more)
    assert formats.plain(form, data) == (37, 23, mode) == by_pil(form, data)


@given(
    st.sampled_from(KINDS),
    st.booleans(),
    st.integers(3, 400),
    st.integers(0, 255),
    st.integers(1, 400),
)
def test_a_damaged_header_is_never_read_as_another(kind, more, at, byte, end) -> None:
    form, mode = kind
    data = bytearray(file(form, mode, more=more))
    data[at % len(data)] = byte
    for damaged in (bytes(data), bytes(data[:end])):
        found, there = formats.plain(form, damaged), by_pil(form, damaged)
        assert found is None or there is None or found == there


def test_what_is_uncommon_is_left_to_pil() -> None:
    deep, empty = io.BytesIO(), b"\xff\xd8\xff"
    Image.new("I;16", (5, 5)).save(deep, "PNG")
    assert formats.plain("PNG", deep.getvalue()) is None
    assert formats.plain("JPEG", empty) is None
    assert formats.plain("GIF", b"GIF89a") is None
