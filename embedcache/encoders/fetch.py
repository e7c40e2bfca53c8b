"""Get the weights of encoders: sizes and licences first, then one file after the other.

One that fails does not stop the others. Whatever comes is compared with the size and the sha256
that its publisher states, else with what `weights.lock` pinned when it first came.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedcache.download import Remote, discard, download
from embedcache.durable import publish, refusal
from embedcache.encoders.drive import by_hand, fetch_from_drive
from embedcache.encoders.finding import find_weights
from embedcache.encoders.hub import fetch_from_hub
from embedcache.encoders.meter import Meter, metered
from embedcache.encoders.named import specify
from embedcache.encoders.offers import Fetchable, Offer, offer_of, part_of, require_space
from embedcache.encoders.reference import EncoderRef, parse_encoders
from embedcache.encoders.spec import ArithmeticSpec, EncoderSpec
from embedcache.encoders.weights import (
    DriveFile,
    HttpsFile,
    HubFile,
    how_to_fetch,
    sha256_file,
    weights_folder,
)
from embedcache.encoders.weights_lock import Pin, accept, accepted, pin, read_lock, today
from embedcache.errors import (
    DigestDiffersError,
    DownloadFailedError,
    EmbedcacheError,
    ReferenceSyntaxError,
    UnknownNameError,
    WeightsMissingError,
)
from embedcache.progress import Progress, Silent

State = Literal["fetched", "here", "failed", "none needed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """How the weights of one encoder stand after a run.

    Attributes:
        name: of the encoder.
        state: `fetched` now; `here` before; `failed`; `none needed`.
        size: bytes of the file; 0 without one.
        sha256: of the file, 64 hex digits; empty without one.
        licence: of the weights; empty if their owners state none.
        problem: why it failed, one sentence; else empty.
    """

    name: str
    state: State
    size: int = 0
    sha256: str = ""
    licence: str = ""
    problem: str = ""


#: Shows an offer's licence and says whether it is accepted.
Consent = Callable[[Offer], bool]


def refuse(_: Offer) -> bool:
    """The consent of a script that says nothing."""
    return False


def fetch(
    encoders: Sequence[str],
    *,
    licences: Sequence[str] = (),
    consent: Consent = refuse,
    progress: Progress | None = None,
) -> tuple[Fetched, ...]:
    """Bring the weights of encoders to this machine.

    Args:
        encoders: names; `@paper` and commas as `--encoder` takes them.
        licences: encoders whose licences are accepted beforehand; `@paper` and commas too.
        consent: asked once for each licence that nobody accepted yet.
        progress: what reports the work.

    Raises:
        UnknownNameError: if there is no such encoder, or one whose licence is accepted is not
            among them.
        DiskFullError: if not all of it fits; nothing has been fetched then.
        SchemaError: if `weights.lock` cannot be read.
    """
    return carry_out(agree(plan(encoders), licences, consent), progress or Silent())


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What a run would do; a command shows it, or asks about it, before anything moves.

    Attributes:
        names: of the encoders, in the order asked for.
        settled: those of which nothing will be fetched, and why.
        offers: for each other one what its sources have, first choice first.
    """

    names: tuple[str, ...]
    settled: dict[str, Fetched]
    offers: dict[str, list[Offer]]


def plan(encoders: Sequence[str]) -> Plan:
    """Look what is here, and ask the servers about the rest; nothing is fetched or written.

    Raises:
        UnknownNameError: if there is no such encoder.
        ReferenceSyntaxError: if one is a file, or comes with weights.
    """
    settled: dict[str, Fetched] = {}
    offers: dict[str, list[Offer]] = {}
    specs = {ref.name: specify(ref) for ref in _published(encoders)}
    for name, spec in specs.items():
        held = _held(name, spec)
        if held is not None:
            settled[name] = held
        elif isinstance(spec, EncoderSpec):
            found, problems = _offers(spec)
            if found:
                offers[name] = found
            else:
                settled[name] = _failed(spec.name, spec.licence, problems[0])
    return Plan(names=tuple(specs), settled=settled, offers=offers)


def _published(encoders: Sequence[str]) -> tuple[EncoderRef, ...]:
    """The encoders asked for; their variants have the same weights."""
    refs = parse_encoders(encoders)
    for ref in refs:
        if ref.weights is not None or ref.file is not None or ref.encoder_file is not None:
            grammar = "NAME, as in the list; a file that is here needs no fetching"
            raise ReferenceSyntaxError("encoder to fetch", str(ref), grammar)
    return refs


def agree(planned: Plan, licences: Sequence[str], consent: Consent) -> Plan:
    """Ask about each licence that nobody accepted yet; what is refused is settled thereby.

    Raises:
        UnknownNameError: if a licence is accepted of an encoder that was not asked for.
    """
    agreed = {ref.name for ref in parse_encoders(licences)}
    for name in agreed.difference(planned.names):
        raise UnknownNameError("encoder to fetch", name, planned.names)
    firsts = {name: offers[0] for name, offers in planned.offers.items()}
    refused = {
        name: _failed(name, offer.licence, _unaccepted(offer))
        for name, offer in firsts.items()
        if not _may(offer, agreed, consent)
    }
    left = {name: offers for name, offers in planned.offers.items() if name not in refused}
    return Plan(names=planned.names, settled=planned.settled | refused, offers=left)


def carry_out(planned: Plan, progress: Progress) -> tuple[Fetched, ...]:
    """Fetch what a plan offers, if all of it fits on the disk.

    Raises:
        DiskFullError: if not; nothing has been fetched then.
    """
    require_space([offers[0] for offers in planned.offers.values()])
    fetched = {name: _fetch_one(offers, progress) for name, offers in planned.offers.items()}
    done = planned.settled | fetched
    return tuple(done[name] for name in planned.names)


def _held(name: str, spec: EncoderSpec | ArithmeticSpec) -> Fetched | None:
    """What is here already; None if it has to be fetched."""
    if isinstance(spec, ArithmeticSpec):
        return Fetched(name=name, state="none needed", licence=spec.licence)
    try:
        file, _ = find_weights(name, spec.sources)
    except WeightsMissingError as error:
        if any(isinstance(source, Fetchable) for source in spec.sources):
            return None
        return _failed(spec.name, spec.licence, str(error))
    digest, size = sha256_file(file), file.stat().st_size
    return Fetched(name=name, state="here", size=size, sha256=digest, licence=spec.licence)


def _offers(spec: EncoderSpec) -> tuple[list[Offer], list[str]]:
    """What the sources offer, and why others offer nothing."""
    offers, problems = [], []
    for source in spec.sources:
        if isinstance(source, Fetchable):
            try:
                offers.append(offer_of(spec, source))
            except EmbedcacheError as error:
                problems.append(str(error))
    return offers, problems


def _may(offer: Offer, agreed: set[str], consent: Consent) -> bool:
    if accepted(read_lock(), offer.encoder, offer.licence):
        return True
    if offer.encoder not in agreed and not consent(offer):
        return False
    accept(weights_folder(), offer.encoder, offer.licence)
    return True


def _unaccepted(offer: Offer) -> str:
    licence = offer.licence or "none stated by its owners"
    return (
        f"the licence of {offer.encoder} ({licence}) was not accepted; "
        f"read it at {offer.source.address} and add --accept-licence {offer.encoder}"
    )


def _fetch_one(offers: list[Offer], progress: Progress) -> Fetched:
    """The first source that gives the file; if none does, what the first one says."""
    problems = []
    for offer in offers:
        try:
            return _fetch(offer, progress)
        except EmbedcacheError as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(str(refusal(error) or error))
    return _failed(offers[0].encoder, offers[0].licence, problems[0])


def _failed(name: str, licence: str, problem: str) -> Fetched:
    return Fetched(name=name, state="failed", licence=licence, problem=problem)


def _fetch(offer: Offer, progress: Progress) -> Fetched:
    with metered(progress, f"fetching {offer.encoder}", offer.size) as meter:
        if isinstance(offer.source, HubFile):
            file = fetch_from_hub(offer.encoder, offer.source, meter.advance)
            digest, inside = _require(offer, file), ""
        else:
            file, digest = _gathered(offer, offer.source, meter)
            inside = file.relative_to(weights_folder()).as_posix()
    size = file.stat().st_size
    made = Pin(
        sha256=digest,
        size=size,
        source=offer.source.address,
        published=offer.published,
        pinned=today(),
        file=inside,
    )
    pin(weights_folder(), offer.encoder, made)
    return Fetched(
        name=offer.encoder, state="fetched", size=size, sha256=digest, licence=offer.licence
    )


def _gathered(offer: Offer, source: HttpsFile | DriveFile, meter: Meter) -> tuple[Path, str]:
    """The file in the weights folder, checked before it has its name, and its digest."""
    part = part_of(offer)
    path = part.with_suffix("")
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, DriveFile):
        if not part.exists():  # whole, and not yet looked at, where a run was killed right then
            fetch_from_drive(offer.encoder, source, part, meter.report)
        digest = _require(offer, part)
    else:
        mend = f"open it in a browser, then run embedcache encoders add {offer.encoder} FILE"
        remote = Remote(url=source.url, size=offer.size, sha256=offer.sha256, mend=mend)
        digest = download(remote, part, meter.advance)
    publish(part, path)
    discard(part)
    return path, digest


def _require(offer: Offer, file: Path) -> str:
    """The digest of a file that a library fetched, once it is the one expected.

    Raises:
        DownloadFailedError: if it is a web page, or has another size.
        DigestDiffersError: if it is another file.
    """
    source, size = offer.source, file.stat().st_size
    mend = (
        by_hand(offer.encoder, source)
        if isinstance(source, DriveFile)
        else how_to_fetch(offer.encoder, source)
    )
    with file.open("rb") as opened:
        page = opened.read(64).lstrip().startswith(b"<")
    digest = sha256_file(file)
    sound = not page and offer.size in (None, size) and offer.sha256 in (None, digest)
    if not sound:
        # A link's target too: the hub's cache would hand out the same bytes again.
        file.resolve().unlink()
        file.unlink(missing_ok=True)
    if page:
        raise DownloadFailedError(source.file, "a web page came in place of the file", mend)
    if offer.size not in (None, size):
        reason = f"it has {size:,} bytes where {offer.size:,} are expected"
        raise DownloadFailedError(source.file, reason, mend)
    if not sound:
        raise DigestDiffersError(source.file, str(offer.sha256), digest, mend)
    return digest
