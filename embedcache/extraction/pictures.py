"""From an image to the uint8 planes that each preprocessing asks for: read and decoded once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import fit_narrow
from embedcache.errors import ImageUnreadableError
from embedcache.executor import some_at_once
from embedcache.extraction.clock import Clock
from embedcache.extraction.scratch import Scratch
from embedcache.images.decode import decode
from embedcache.images.source import Source

if TYPE_CHECKING:
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
#: A picture by the shape it was fitted to, or why there is none.
Fitted = dict[Preprocessing, Pixels] | str
#: Images that a worker takes at once.
_AT_ONCE = 8
CHANGED = "the file changed during the run"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One image of a run.

    Attributes:
        row: in the image table.
        digest: which its bytes must still have.
        source: where to read it.
    """

    row: int
    digest: bytes
    source: Source


@dataclass(frozen=True, slots=True)
class Shapes:
    """Which pictures an image is wanted as.

    Attributes:
        now: by the pass under way.
        later: by passes after it, and worth keeping.
    """

    now: tuple[Preprocessing, ...]
    later: tuple[Preprocessing, ...] = ()


def fitting(preprocessing: Preprocessing) -> Preprocessing:
    """The part of a preprocessing that decides its uint8 planes; equal parts share one picture."""
    return dataclasses.replace(preprocessing, mean=(), std=(), standardise="channel")


def prepare(image: Wanted, shapes: Shapes, scratch: Scratch, clock: Clock) -> Fitted:
    """Fit one image to shapes, from what an earlier pass kept or from the image itself."""
    kept = scratch.take(image.row, shapes.now)
    if kept is not None:
        return kept
    picture = _decoded(image, clock)
    if isinstance(picture, str):
        return picture
    with clock.on("fit"):
        if any(shape.colour != "grey" for shape in (*shapes.now, *shapes.later)):
            picture = without_colour(picture)  # else PIL's own conversion is all there is to do
        fitted = {shape: fit_narrow(picture, shape) for shape in shapes.now}
        if shapes.later and scratch.has_room:
            for shape in shapes.later:
                kept_one = fitted[shape] if shape in fitted else fit_narrow(picture, shape)
                scratch.keep(image.row, shape, kept_one)
    return fitted


def without_colour(picture: Image) -> Image:
    """Make a picture grey whose channels are equal: a third of the work, and the same bytes.

    Channels are resized apart, and PIL's weights of red, green and blue add up to one.
    """
    if picture.mode != "RGB":
        return picture
    from PIL.ImageChops import difference

    red, *others = picture.split()
    # PIL compares faster than numpy: its channels are planes already.
    equal = all(difference(red, other).getbbox() is None for other in others)
    return red if equal else picture


def ahead(
    pool: ThreadPoolExecutor,
    images: Sequence[Wanted],
    job: Callable[[Wanted], Fitted],
    window: int,
    clock: Clock,
) -> Iterator[tuple[Wanted, Fitted]]:
    """Prepare images in threads, `window` ahead of the one that is yielded, in order."""
    for some, future in some_at_once(pool, images, job, at_once=_AT_ONCE, window=window):
        with clock.on("wait for pictures"):
            found = future.result()
        yield from zip(some, found, strict=True)


def _decoded(image: Wanted, clock: Clock) -> Image | str:
    try:
        with clock.on("read"):
            raw = image.source.read()
            if raw.digest != image.digest:
                return CHANGED
        with clock.on("decode"):
            return decode(raw)
    except ImageUnreadableError as error:
        return error.reason
