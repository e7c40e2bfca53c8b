"""Every encoder that is installed here, at a glance: no torch, no network, no weight file read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from embedcache import registry
from embedcache.encoders.finding import find_weights
from embedcache.encoders.named import OURS, registered
from embedcache.encoders.spec import ArithmeticSpec, EncoderSpec
from embedcache.encoders.weights import WeightSource
from embedcache.errors import WeightsMissingError
from embedcache.provenance import Overlap

#: Answers about a cohort, what weighs most first.
ANSWERS = ("yes", "selection", "unknown", "not listed")


@dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Whether an encoder's weights are on this machine.

    Attributes:
        state: `here`; `unneeded`: it has none; `missing`.
        file: name of the file that is here, without its folder.
        size: bytes of the file that is here, or of the published one; None if nobody says.
        how: what brings a missing one, in a word: `fetch`, `install` a package, or give a `file`.
        missing: why it is not here.
        mend: the command that brings it.
    """

    state: Literal["here", "unneeded", "missing"]
    file: str = ""
    size: int | None = None
    how: Literal["", "fetch", "install", "file"] = ""
    missing: str = ""
    mend: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Listing:
    """One encoder of the list.

    Attributes:
        name: what it is asked for by.
        dim: length of its vector.
        height: rows of its input.
        width: columns of its input.
        parameters: numbers that its feature rests on; 0 if not known.
        domain: what pictures it was trained on.
        licence: of the weights; empty if not known.
        overlap: of its training pictures with cohorts; empty: nobody looked, or it has no weights.
        weights: whether they are here.
        citation: how to cite it.
        variants: names of its own variants.
        package: distribution that offers it.
    """

    name: str
    dim: int
    height: int
    width: int
    parameters: int
    domain: str
    licence: str
    overlap: tuple[Overlap, ...]
    weights: Weights
    citation: str
    variants: tuple[str, ...]
    package: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Broken:
    """An encoder that an installed package offers and that cannot be loaded.

    Attributes:
        name: what it is asked for by.
        package: distribution that offers it; empty where several do.
        problem: what loading it says.
    """

    name: str
    package: str
    problem: str


def catalogue() -> tuple[tuple[Listing, ...], tuple[Broken, ...]]:
    """All encoders that installed packages offer, by name, and those that cannot be loaded."""
    listed, broken = [], []
    for name in registry.names("encoders"):
        package = (registry.offered_by("encoders", name) or ("", ""))[0]
        try:
            listed.append(_listing(registered(name), name, package))
        except Exception as error:  # noqa: BLE001  # one stranger's package must not hide the others
            problem = f"{type(error).__name__}: {error}"
            broken.append(Broken(name=name, package=package, problem=problem))
    return tuple(listed), tuple(broken)


def ours(listing: Listing) -> bool:
    """Whether an encoder comes with embedcache itself."""
    return listing.package == OURS


def weights_here(spec: EncoderSpec | ArithmeticSpec) -> Weights:
    """Look for an encoder's weights on this machine alone."""
    if isinstance(spec, ArithmeticSpec):
        return Weights(state="unneeded")
    try:
        file, _ = find_weights(spec.name, spec.sources)
    except WeightsMissingError as refusal:
        return _missing(spec, refusal)
    return Weights(state="here", file=file.name, size=file.stat().st_size)


def _missing(spec: EncoderSpec, first: WeightsMissingError) -> Weights:
    if not spec.sources:
        mend = f"give a file: {spec.name}=PATH"
        return Weights(state="missing", how="file", missing="nobody publishes them", mend=mend)
    source = spec.sources[0]
    return Weights(
        state="missing",
        how="fetch" if hasattr(source, "address") else "install",
        size=size_of(source),
        missing=first.reason,
        mend=first.mend,
    )


def size_of(source: WeightSource) -> int | None:
    """Bytes of a source's published file; None if nobody says."""
    size: int | None = getattr(source, "size", None)
    return size


def gravest(overlap: tuple[Overlap, ...]) -> str:
    """The answer about some cohort that weighs most; `unknown` where nobody looked."""
    return min((one.answer for one in overlap), key=ANSWERS.index, default="unknown")


def _listing(spec: EncoderSpec | ArithmeticSpec, name: str, package: str) -> Listing:
    network = spec if isinstance(spec, EncoderSpec) else None
    return Listing(
        name=name,
        dim=spec.dim,
        height=spec.preprocessing.height,
        width=spec.preprocessing.width,
        parameters=network.parameters if network else 0,
        domain=network.domain if network else "",
        licence=spec.licence,
        overlap=network.overlap if network else (),
        weights=weights_here(spec),
        citation=spec.citation,
        variants=tuple(network.variants) if network else (),
        package=package,
    )
