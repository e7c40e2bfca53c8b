"""Take a weight file that the user got by hand into the weights folder."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from embedcache.durable import PARTIAL, publish
from embedcache.encoders.checkpoint import require_no_page
from embedcache.encoders.named import specify
from embedcache.encoders.offers import Fetchable
from embedcache.encoders.reference import parse_encoder
from embedcache.encoders.resolve import resolve
from embedcache.encoders.spec import ArithmeticSpec, EncoderSpec
from embedcache.encoders.weights import WeightFile, sha256_file, weights_folder
from embedcache.encoders.weights_lock import Pin, pin, read_lock, today
from embedcache.errors import DigestDiffersError, ReferenceSyntaxError, WeightsUnwantedError


def add(encoder: str, file: Path) -> Pin:
    """Check that a file is the weights of an encoder, copy it into the weights folder, pin it.

    Args:
        encoder: its name, without variants.
        file: what its owners publish, unchanged.

    Raises:
        PathMissingError: if there is no such file.
        WeightsUnwantedError: if the encoder has no weights.
        DigestDiffersError: if the publisher states, or `weights.lock` pins, another file.
        WeightsUnreadableError, WeightsMismatchError: if it is no checkpoint, or another network's.
    """
    ref = parse_encoder(encoder)
    if ref.variants or ref.weights or ref.file or ref.encoder_file:
        raise ReferenceSyntaxError("name of an encoder", encoder, "NAME alone, as in the list")
    spec = specify(ref)
    if isinstance(spec, ArithmeticSpec):
        raise WeightsUnwantedError(spec.name, file.name, "it has no weights: leave that out")
    path = WeightFile(file).find(encoder)
    require_no_page(path)  # before the digest: nobody needs to hear that of a web page
    digest = sha256_file(path)
    published = _require_expected(spec, path, digest)
    resolve(f"{encoder}={path}").build()  # strictly: a file that does not fit ends here
    place = _copied(spec, path, digest)
    made = Pin(
        sha256=digest,
        size=place.stat().st_size,
        source="file",
        published=published,
        pinned=today(),
        file=place.relative_to(weights_folder()).as_posix(),
    )
    pin(weights_folder(), encoder, made)
    return made


def _require_expected(spec: EncoderSpec, file: Path, digest: str) -> bool:
    """Whether the publisher states this digest; an error if they, or the lock, state another."""
    stated = [source.sha256 for source in spec.sources if isinstance(source, Fetchable)]
    known = [sha256 for sha256 in stated if sha256]
    own = f"as weights of your own it is {spec.name}={file.name}"
    if known and digest not in known:
        raise DigestDiffersError(file.name, known[0], digest, own)
    made = read_lock().weights.get(spec.name)
    if made is not None and made.sha256 != digest and not known:
        mend = f"take {spec.name} out of weights.lock if the new file is meant; {own}"
        raise DigestDiffersError(file.name, made.sha256, digest, mend)
    return bool(known)


def _copied(spec: EncoderSpec, file: Path, digest: str) -> Path:
    """A copy, not a link: what happens to the original later must not happen to it.

    Raises:
        DigestDiffersError: if the file changed meanwhile.
    """
    names = [source.file for source in spec.sources if isinstance(source, Fetchable)]
    place = weights_folder() / spec.name / (names[0] if names else file.name)
    if place.exists() and place.samefile(file):
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_name(f"{place.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        shutil.copyfile(file, partial)
        found = sha256_file(partial)
        if found != digest:
            raise DigestDiffersError(file.name, digest, found, "add it again once it rests")
        publish(partial, place)
    finally:
        partial.unlink(missing_ok=True)
    return place
