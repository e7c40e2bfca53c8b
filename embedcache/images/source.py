"""Where an image comes from, and the bytes that identify it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from embedcache.errors import ImageUnreadableError
from embedcache.schema import canonical_json

Photometric = Literal["grey", "rgb"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """How bare pixel bytes are laid out (an HDF5 item, a DICOM frame, a drawn picture).

    Attributes:
        shape: (height, width) or (height, width, 3).
        dtype: numpy's name, little-endian; `uint8` is all that decodes.
        photometric: what the values mean.
    """

    shape: tuple[int, ...]
    dtype: str
    photometric: Photometric


@dataclass(frozen=True, slots=True)
class RawImage:
    """An image as it was read: a file's bytes, or pixel bytes with their layout.

    Attributes:
        data: the bytes.
        layout: None for the bytes of an image file.
    """

    data: bytes
    layout: Layout | None = None

    @property
    def digest(self) -> bytes:
        """What the image is known by: sha256 over layout (if any) and bytes, 32 bytes."""
        head = b"" if self.layout is None else canonical_json(self.layout)
        return hashlib.sha256(head + self.data).digest()


class Source(Protocol):
    """Gives an image's bytes when asked; a frozen value, never stored."""

    def read(self) -> RawImage:
        """Read the image.

        Raises:
            ImageUnreadableError: if it is missing, empty, or the system refuses.
        """


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file on a local disk."""

    path: Path

    def read(self) -> RawImage:
        """Read the whole file; see `Source.read`."""
        try:
            with self.path.open("rb", buffering=0) as file:  # a third of the system calls
                data = file.read()
        except FileNotFoundError as error:
            raise ImageUnreadableError("the file is missing") from error
        except OSError as error:
            raise ImageUnreadableError(f"the system refused ({error.strerror})") from error
        if not data:
            raise ImageUnreadableError("the file is empty")
        return RawImage(data)
