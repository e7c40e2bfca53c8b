"""All that is known of one encoder, whether or not its weights are here."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path

from embedcache import registry
from embedcache.contract import Contract, Preprocessing
from embedcache.encoders.catalogue import Weights, size_of, weights_here
from embedcache.encoders.named import specify
from embedcache.encoders.plugin import read_plugin
from embedcache.encoders.reference import EncoderRef, parse_encoder
from embedcache.encoders.resolve import resolve
from embedcache.encoders.resolved import FILE, contract_from, varied
from embedcache.encoders.spec import PRECISIONS, ArithmeticSpec, EncoderSpec, Variant
from embedcache.encoders.text import NoText, text_half
from embedcache.errors import WeightsMissingError
from embedcache.provenance import Overlap

#: Stands for weights whose digest nobody published and whose file is not here.
NOT_YET = f"{FILE}… of the file, once it is here"
_PRECISE = {
    "bf16": "forward pass in bfloat16 (autocast)",
    "fp16": "forward pass in float16 (autocast)",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceLine:
    """Where weights lie.

    Attributes:
        place: an address, or the package that holds them.
        file: name of the file.
        size: bytes of the published file; None if nobody says.
        sha256: of the published file; None if nobody says.
    """

    place: str
    file: str
    size: int | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class VariantLine:
    """One variant.

    Attributes:
        name: behind the `@`.
        about: what it is, in a line.
        changes: which parts of the contract it changes, and to what.
        feature_id: with the encoder's weights; empty while these are not known.
    """

    name: str
    about: str
    changes: dict[str, object]
    feature_id: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """An encoder in full.

    Attributes:
        name: the reference without weights.
        contract: all that decides its numbers.
        feature_id: of the contract; empty while the weights' digest is not known.
        argued: why it is what it is by default, from the module that defines it.
        variants: its own, then the precisions.
        parameters: numbers that its feature rests on; 0 if not known.
        domain: what pictures it was trained on.
        zero_shot: whether prompts meet its vectors, and how long they may be, or why none do.
        pretraining: the data sets it was trained on.
        overlap: of these with cohorts.
        licence: of the weights; empty if not known.
        citation: how to cite it; empty if not known.
        sources: where its weights lie, first choice first.
        weights: whether they are here.
        notes: what whoever uses it must know.
    """

    name: str
    contract: Contract
    feature_id: str
    argued: str
    variants: tuple[VariantLine, ...]
    parameters: int
    domain: str
    zero_shot: str
    pretraining: tuple[str, ...]
    overlap: tuple[Overlap, ...]
    licence: str
    citation: str
    sources: tuple[SourceLine, ...]
    weights: Weights
    notes: tuple[str, ...]


def describe(reference: str) -> Described:
    """Find all that is known of an encoder; a weight file that is here is read and hashed.

    Raises:
        ReferenceSyntaxError, UnknownNameError, VariantUnknownError, PathMissingError,
        PluginUnusableError: as `resolve` raises them.
    """
    ref = parse_encoder(reference)
    if ref.encoder_file is not None:
        return _held(ref, ref.encoder_file)
    plain = _specified(ref)
    return _described(ref, plain, *_contract(ref, plain))


def describe_without_weights(reference: str) -> Described:
    """The same on every machine: as `describe` where no weights are."""
    ref = parse_encoder(reference)
    plain = _specified(ref)
    if isinstance(plain, ArithmeticSpec):
        return describe(reference)
    elsewhere = Weights(state="missing", missing="not looked for")
    return _described(ref, plain, _unresolved(ref, plain), plain.notes, elsewhere)


def _described(
    ref: EncoderRef,
    plain: EncoderSpec | ArithmeticSpec,
    contract: Contract,
    notes: tuple[str, ...],
    weights: Weights,
) -> Described:
    network = plain if isinstance(plain, EncoderSpec) else None
    known = contract.weights != NOT_YET
    return Described(
        name="@".join((ref.name, *ref.variants)),
        contract=contract,
        feature_id=contract.feature_id if known else "",
        argued=_argued(ref, plain),
        variants=_variants(network, contract) if network else (),
        parameters=network.parameters if network else 0,
        domain=network.domain if network else "",
        zero_shot=_zero_shot(ref, plain),
        pretraining=network.pretraining if network else (),
        overlap=network.overlap if network and not contract.random_weights else (),
        licence=plain.licence,
        citation=plain.citation,
        sources=_sources(network) if network else (),
        weights=weights,
        notes=notes,
    )


def _held(ref: EncoderRef, file: Path) -> Described:
    """What an encoder file holds; its origin's variants are not its own."""
    one = resolve(ref)
    assert isinstance(one.spec, EncoderSpec)  # a file of tensors
    weights = Weights(state="here", file=file.name, size=file.stat().st_size)
    plain = replace(one.spec, variants={}, licence=one.licence, citation=one.citation)
    found = _described(ref, plain, one.contract, one.notes, weights)
    return replace(found, name=one.name, overlap=one.overlap)


def _specified(ref: EncoderRef) -> EncoderSpec | ArithmeticSpec:
    return specify(ref) if ref.file is None else read_plugin(ref.file, ref.name).specify()


def _contract(
    ref: EncoderRef, spec: EncoderSpec | ArithmeticSpec
) -> tuple[Contract, tuple[str, ...], Weights]:
    """The contract, with the published digest where the file is not here."""
    here = weights_here(spec)
    try:
        resolved = resolve(ref)
    except WeightsMissingError:
        if isinstance(spec, ArithmeticSpec):
            raise
        return _unresolved(ref, spec), spec.notes, here
    if ref.weights is not None and resolved.file is not None:
        size = resolved.file.stat().st_size
        here = Weights(state="here", file=resolved.file.name, size=size)
    elif resolved.contract.random_weights:
        here = Weights(state="unneeded")
    return resolved.contract, resolved.notes, here


def _unresolved(ref: EncoderRef, spec: EncoderSpec) -> Contract:
    halves = [PRECISIONS[name] for name in ref.variants if name in PRECISIONS]
    return contract_from(varied(spec, ref.variants), _published(spec), *halves[:1])


def _published(spec: EncoderSpec) -> str:
    digest = getattr(spec.sources[0], "sha256", None) if spec.sources else None
    return NOT_YET if digest is None else f"{FILE}{digest}"


def _zero_shot(ref: EncoderRef, plain: EncoderSpec | ArithmeticSpec) -> str:
    network = varied(plain, ref.variants) if isinstance(plain, EncoderSpec) else plain
    text = text_half(network)
    if isinstance(text, NoText):
        return f"no: {text.reason}"
    return f"yes: prompts of at most {text.context} tokens"


def _argued(ref: EncoderRef, spec: EncoderSpec | ArithmeticSpec) -> str:
    if ref.name in registry.names("encoders"):
        module = registry.module_of("encoders", ref.name)
    else:
        made = spec.build if isinstance(spec, EncoderSpec) else spec.compute
        # A family's `build` is a `functools.partial` as often as not.
        module = getattr(made, "func", made).__module__
    return inspect.cleandoc(sys.modules[module].__doc__ or "")


def _variants(spec: EncoderSpec, contract: Contract) -> tuple[VariantLine, ...]:
    known = contract.weights != NOT_YET
    plain = contract_from(spec, contract.weights)
    lines = []
    for name, variant in {**spec.variants, **dict.fromkeys(PRECISIONS, Variant())}.items():
        precision = PRECISIONS.get(name, "fp32")
        of_it = contract_from(varied(spec, (name,)), contract.weights, precision)
        lines.append(
            VariantLine(
                name=name,
                about=variant.about or _PRECISE.get(name, ""),
                changes=changes(plain, of_it),
                feature_id=of_it.feature_id if known else "",
            )
        )
    return tuple(lines)


def changes(one: Contract | Preprocessing, other: Contract | Preprocessing) -> dict[str, object]:
    """Fields of the second that differ from the first's, preprocessing taken apart."""
    found: dict[str, object] = {}
    for field in fields(other):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(theirs, Preprocessing):
            found |= changes(mine, theirs)
        elif mine != theirs:
            found[field.name] = theirs
    return found


def _sources(spec: EncoderSpec) -> tuple[SourceLine, ...]:
    return tuple(
        SourceLine(
            # A package holds the file under its own name; what is remote has an address.
            place=getattr(source, "address", "") or getattr(source, "distribution", ""),
            file=getattr(source, "file", "").rpartition("/")[2],
            size=size_of(source),
            sha256=getattr(source, "sha256", None),
        )
        for source in spec.sources
    )
