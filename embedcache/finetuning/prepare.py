"""From cohorts and a protocol to what every unit is trained and judged on: as a probe settles it.

The same rules over the same images (protocol/judging.py): a results folder that a probe began is
joined where, and only where, images, patients and folds are the same to the byte. What a probe
learns while it encodes, that an image cannot be decoded or normalised, is found out here first.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embedcache.cohorts.cohort import Cohort
from embedcache.cohorts.reference import read_all
from embedcache.cohorts.survey import survey
from embedcache.contract import Preprocessing
from embedcache.encoders.preprocessing import fit, normalise
from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.errors import ImageUnreadableError
from embedcache.executor import cores
from embedcache.finetuning.listing import Listing, list_rows, named_first
from embedcache.images.decode import decode
from embedcache.images.source import Source
from embedcache.progress import Progress
from embedcache.protocol.classes import check_merges
from embedcache.protocol.folds import Folds
from embedcache.protocol.judged import Judged
from embedcache.protocol.judging import judge_cohorts
from embedcache.protocol.protocol import Protocol
from embedcache.results.layout import ResultsFolder, write_record
from embedcache.results.record import Record, record_of

if TYPE_CHECKING:
    from PIL.Image import Image

CHANGED = "the file changed during the run"
#: What extraction says of a vector that an image without contrast would have.
NOT_FINITE = "the encoder's output is not finite"
#: Images handed to the threads at once.
_WINDOW = 1024


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Prepared:
    """What every unit of one fine-tuning reads.

    Attributes:
        record: the content of protocol.json.
        folds: of the training cohort, in the order of its images.
        train: the training cohort's judged images; their `row` indexes `source`.
        external: each external cohort's, in the protocol's order.
        source: where each image is read.
        digest: that its bytes must still have, (n, 32) uint8.
        coloured: whether it has channels that differ, (n,) bool.
        notes: what a person should know, one sentence each.
    """

    record: Record
    folds: Folds
    train: Judged
    external: tuple[Judged, ...]
    source: tuple[Source, ...]
    digest: NDArray[np.uint8]
    coloured: NDArray[np.bool_]
    notes: tuple[str, ...]


def prepare(
    cohorts: Sequence[Cohort | str],
    protocol: Protocol,
    encoders: Sequence[ResolvedEncoder],
    *,
    progress: Progress,
) -> Prepared:
    """Settle images, classes and folds. Reads and decodes every image once.

    Raises:
        UnknownNameError: if a cohort of the protocol is not among those given.
        CohortTwiceError: if two have one name.
        MergeUnknownError: as `check_merges`.
        BadInputError: as readers and `judge_cohorts` raise it.
    """
    read = read_all(cohorts)
    named = [read[index] for index in named_first(protocol, [one.name for one in read])]
    check_merges(protocol.merges, {cohort.name: cohort.classes for cohort in named})
    listing = list_rows([survey(cohort, cores(), progress) for cohort in named], protocol.merges)
    found = _look_at(listing, encoders, progress)
    failed = {row: one.problem for row, one in enumerate(found) if one.problem}
    # One entry for all encoders: what cannot be decoded cannot be for any.
    judging = judge_cohorts(protocol, listing.cohorts, {"": failed})
    return Prepared(
        record=record_of(protocol, judging),
        folds=judging.folds,
        train=judging.train,
        external=judging.external,
        source=listing.source,
        digest=listing.image,
        coloured=np.array([one.coloured for one in found], np.bool_),
        notes=judging.notes,
    )


def check_beside(folder: ResultsFolder, prepared: Prepared) -> None:
    """Make sure that a results folder, where there is one, is of these images and folds.

    Raises:
        ProtocolDiffersError: if it was made under another protocol, or on other classes, folds or
            images; it says what differs.
    """
    if folder.protocol_file.is_file():
        write_record(folder, prepared.record)  # a folder that has one is only compared


def read_picture(source: Source, digest: NDArray[np.uint8]) -> Image:
    """Read and decode one image, mode L or RGB.

    Raises:
        ImageUnreadableError: if it cannot be had, or is another image by now.
    """
    raw = source.read()
    if raw.digest != digest.tobytes():
        raise ImageUnreadableError(CHANGED)
    return decode(raw)


@dataclass(frozen=True, slots=True)
class _Look:
    """What decoding an image shows: why no network could read it, as extraction words it."""

    problem: str = ""
    coloured: bool = False


def _look_at(
    listing: Listing, encoders: Sequence[ResolvedEncoder], progress: Progress
) -> list[_Look]:
    shapes = dict.fromkeys(one.contract.preprocessing for one in encoders)
    # Only a picture's own deviation can be zero; a contract's are positive.
    job = partial(_look, shapes=[how for how in shapes if how.standardise == "picture"])
    found: list[_Look] = []
    with (
        progress.stage("decoding", len(listing.source), "images") as stage,
        ThreadPoolExecutor(cores()) as pool,
    ):
        for start in range(0, len(listing.source), _WINDOW):
            part = slice(start, start + _WINDOW)
            found += pool.map(job, listing.source[part], listing.image[part])
            stage.advance(len(listing.source[part]))
    return found


def _look(source: Source, digest: NDArray[np.uint8], shapes: Sequence[Preprocessing]) -> _Look:
    import torch

    try:
        picture = read_picture(source, digest)
    except ImageUnreadableError as error:
        return _Look(error.reason)
    for how in shapes:
        normal = normalise(torch.from_numpy(fit(picture, how))[None], how)
        if not bool(torch.isfinite(normal).all()):
            return _Look(NOT_FINITE)
    return _Look(coloured=_is_coloured(picture))


def _is_coloured(picture: Image) -> bool:
    from PIL.ImageChops import difference

    if picture.mode != "RGB":
        return False
    red, *others = picture.split()
    # PIL compares faster than numpy: its channels are planes already.
    return any(difference(red, other).getbbox() is not None for other in others)
