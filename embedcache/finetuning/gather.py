"""Fit every picture that an encoder is tuned or tested on, once, into a file that nobody can name.

The file lies on the disk of the results and is gone with the process, killed or not; it holds
pixels and nothing that says whose they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import fit, fit_narrow
from embedcache.executor import cores
from embedcache.finetuning.prepare import Prepared, read_picture
from embedcache.finetuning.task import Pictures
from embedcache.images.source import Source
from embedcache.protocol.judged import Judged

if TYPE_CHECKING:
    from PIL.Image import Image

#: Pictures handed to the threads at once.
_WINDOW = 256


class Gallery:
    """The judged pictures of a protocol as one preprocessing wants them."""

    def __init__(self, planes: NDArray[np.uint8], place: NDArray[np.int64]) -> None:
        self._planes = planes
        self._place = place

    def of(self, judged: Judged, which: NDArray[np.bool_]) -> Pictures:
        """Some of a cohort's judged pictures; `which` is (n,) bool."""
        return Pictures(
            planes=self._planes,
            row=self._place[judged.row[which]],
            label=judged.label[which].astype(np.int64),
            digest=judged.image[which],
        )


@contextmanager
def gallery(prepared: Prepared, how: Preprocessing, beside: Path) -> Iterator[Gallery]:
    """Read, decode and fit the judged pictures of all cohorts; the disk is given back on leaving.

    Args:
        prepared: which they are and where they lie.
        how: the contract's preprocessing.
        beside: a folder on the disk that has room for them.

    Raises:
        ImageUnreadableError: if one has changed since it was surveyed.
    """
    cohorts = (prepared.train, *prepared.external)
    rows = np.unique(np.concatenate([judged.row for judged in cohorts]))
    place = np.full(len(prepared.source), -1, np.int64)
    place[rows] = np.arange(len(rows))
    # Pictures without colour are kept as one plane where all are: a third of the disk.
    grey = how.colour == "rgb" and not prepared.coloured[rows].any()
    job = partial(_fitted, how=how, grey=grey)
    with tempfile.TemporaryFile(dir=beside) as file, ThreadPoolExecutor(cores()) as pool:
        planes: NDArray[np.uint8] | None = None
        for start in range(0, len(rows), _WINDOW):
            part = rows[start : start + _WINDOW]
            sources = [prepared.source[row] for row in part]
            for number, one in enumerate(pool.map(job, sources, prepared.digest[part]), start):
                if planes is None:
                    shape = (len(rows), *one.shape)
                    planes = np.memmap(file, np.uint8, "w+", shape=shape)
                planes[number] = one
        assert planes is not None, "a cohort without images is refused before"
        yield Gallery(planes, place)


def _fitted(
    source: Source, digest: NDArray[np.uint8], *, how: Preprocessing, grey: bool
) -> NDArray[np.uint8]:
    picture = read_picture(source, digest)
    return fit_narrow(_first_channel(picture), how) if grey else fit(picture, how)


def _first_channel(picture: Image) -> Image:
    return picture if picture.mode == "L" else picture.getchannel(0)
