"""All references that `encoders validate` knows."""

from __future__ import annotations

from embedcache.encoders.validation import fetalclip_five_planes
from embedcache.encoders.validation.reference import ValidationReference
from embedcache.errors import UnknownNameError

REFERENCES: tuple[ValidationReference, ...] = (fetalclip_five_planes.REFERENCE,)


def reference_of(encoder: str) -> ValidationReference:
    """The reference that an encoder's authors published.

    Raises:
        UnknownNameError: if we know of none.
    """
    for reference in REFERENCES:
        if reference.encoder == encoder:
            return reference
    known = tuple(reference.encoder for reference in REFERENCES)
    raise UnknownNameError("published reference of", encoder, known)
