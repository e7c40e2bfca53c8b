"""Read every image of a cohort once, before anything is planned: digests, headers, and what fails.

Validity is by content, so that files are read again on every run; a changed file is another image.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.cohort import Cohort
from embedcache.errors import ImageUnreadableError
from embedcache.executor import some_at_once
from embedcache.images.decode import Header, header
from embedcache.images.source import Source
from embedcache.progress import Progress

#: Images in flight: small ones take microseconds, and a slow disk likes to be asked for many.
WINDOW = 256
#: Of those, what a worker takes at once.
_AT_ONCE = 8
#: Digest and header of an image, or why it has none.
_Identity = tuple[bytes, Header] | str


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Survey:
    """What the images of one cohort are; m rows as in the cohort, 42 bytes each.

    Attributes:
        cohort: whose images.
        digest: of each image, (m, 32) uint8; zeros where unreadable.
        size: width and height in pixels, (m, 2) int32; zeros where unreadable.
        kind: index into `kinds`, (m,) int16; -1 where unreadable.
        kinds: format and mode, such as `PNG` and `RGB`; see `Header`.
        unreadable: reason by row, for images without a digest or a header.
    """

    cohort: Cohort
    digest: NDArray[np.uint8]
    size: NDArray[np.int32]
    kind: NDArray[np.int16]
    kinds: tuple[tuple[str, str], ...]
    unreadable: dict[int, str]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """Which rows have a digest, (m,) bool."""
        return self.kind >= 0


def survey(cohort: Cohort, workers: int, progress: Progress) -> Survey:
    """Hash all images of a cohort and read their headers, in threads."""
    digest = np.zeros((len(cohort), 32), np.uint8)
    size = np.zeros((len(cohort), 2), np.int32)
    kind = np.full(len(cohort), -1, np.int16)
    kinds: dict[tuple[str, str], int] = {}
    unreadable: dict[int, str] = {}
    with (
        progress.stage(f"reading {cohort.name}", len(cohort), "images") as stage,
        ThreadPoolExecutor(workers) as pool,
    ):
        for row, found in enumerate(_in_order(pool, cohort.images)):
            if isinstance(found, str):
                unreadable[row] = found
            else:
                digest[row] = np.frombuffer(found[0], np.uint8)
                size[row] = found[1].width, found[1].height
                kind[row] = kinds.setdefault((found[1].format, found[1].mode), len(kinds))
            stage.advance()
    return Survey(
        cohort=cohort,
        digest=digest,
        size=size,
        kind=kind,
        kinds=tuple(kinds),
        unreadable=unreadable,
    )


def _in_order(pool: ThreadPoolExecutor, sources: tuple[Source, ...]) -> Iterator[_Identity]:
    for _, found in some_at_once(pool, sources, _identity, at_once=_AT_ONCE, window=WINDOW):
        yield from found.result()


def _identity(source: Source) -> _Identity:
    try:
        raw = source.read()
        return raw.digest, header(raw)
    except ImageUnreadableError as error:
        return error.reason
