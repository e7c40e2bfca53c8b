"""Patients become 16 bytes of HMAC-SHA256 under the owner's key: pseudonymous, never anonymous."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnerKey:
    """The secret behind pseudonyms.

    Attributes:
        secret: the key; not shown by `repr`.
        place: where it lies, for people: a file, or `EMBEDCACHE_KEY`.
    """

    secret: bytes = field(repr=False)
    place: str

    @property
    def key_id(self) -> str:
        """Tells keys apart without telling them, 8 hex digits."""
        raise NotImplementedError

    def pseudonyms(self, namespace: str, patient: Sequence[str]) -> NDArray[np.uint8]:
        """Pseudonym of each patient, (m, 16) uint8."""
        raise NotImplementedError


def owner_key() -> OwnerKey:
    """The key of `EMBEDCACHE_KEY`, else of the user's configuration folder, made on first use.

    Raises:
        KeyUnusableError: if it is no key, or others may read the file.
    """
    raise NotImplementedError
