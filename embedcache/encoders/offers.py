"""What a source offers: the file, its size, what it must hash to; and whether there is room."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from embedcache.download import Remote, ask_size
from embedcache.encoders.hub import ask_hub
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import DriveFile, HttpsFile, HubFile, weights_folder
from embedcache.encoders.weights_lock import read_lock
from embedcache.errors import DiskFullError

Fetchable = HubFile | HttpsFile | DriveFile


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """A file that could be fetched.

    Attributes:
        encoder: whose weights it is.
        licence: of the weights; empty if their owners state none.
        citation: how to cite the encoder.
        source: where it lies.
        size: its bytes; None if nobody says.
        sha256: what it must hash to; None if nobody says.
        published: whether its publisher states that sha256.
    """

    encoder: str
    licence: str
    citation: str
    source: Fetchable
    size: int | None
    sha256: str | None
    published: bool


def offer_of(spec: EncoderSpec, source: Fetchable) -> Offer:
    """Ask a source what it has; the hub states sizes and digests itself.

    Raises:
        WeightsMissingError, DownloadFailedError: if it does not answer, or refuses.
    """
    size, sha256 = source.size, source.sha256
    if isinstance(source, HubFile):
        told, tag = ask_hub(spec.name, source)
        size, sha256 = size or told, sha256 or tag
    elif isinstance(source, HttpsFile):
        size = size or ask_size(Remote(url=source.url))
    pinned = read_lock().weights.get(spec.name)
    return Offer(
        encoder=spec.name,
        licence=spec.licence,
        citation=spec.citation,
        source=source,
        size=size,
        sha256=sha256 or (pinned.sha256 if pinned else None),
        published=sha256 is not None,
    )


def require_space(offers: list[Offer]) -> None:
    """Look before the first byte: a disk that is full after an hour helps nobody.

    Raises:
        DiskFullError: if not all of it fits.
    """
    needed: dict[Path, int] = {}
    for offer in offers:
        place = _existing(_place(offer.source))
        needed[place] = needed.get(place, 0) + max((offer.size or 0) - _begun(offer), 0)
    for place, size in needed.items():
        free = shutil.disk_usage(place).free
        if size > free:
            raise DiskFullError(str(place), size, free)


def _begun(offer: Offer) -> int:
    """Bytes that an interrupted run left, of which the hub's client keeps none."""
    part = part_of(offer)
    return part.stat().st_size if part.is_file() else 0


def part_of(offer: Offer) -> Path:
    """Where a file is gathered."""
    return weights_folder() / offer.encoder / f"{offer.source.file}.part"


def _place(source: Fetchable) -> Path:
    if not isinstance(source, HubFile):
        return weights_folder()
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def _existing(folder: Path) -> Path:
    return next(
        place for place in (folder.absolute(), *folder.absolute().parents) if place.exists()
    )
