"""From a reference to an encoder, in two steps: what it is (cheap, fails on a typo), then itself.

A command resolves all its encoders first, so that the last one's typo costs no work, and builds
each when its turn comes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from embedcache.contract import NO_WEIGHTS, RANDOM, Contract
from embedcache.encoders.encoder_file import read_header
from embedcache.encoders.finding import find_or_fetch
from embedcache.encoders.named import specify
from embedcache.encoders.plugin import read_plugin
from embedcache.encoders.preprocessing import require_libraries
from embedcache.encoders.reference import GRAMMAR, OPEN_CLIP, EncoderRef, parse_encoder
from embedcache.encoders.resolved import FILE, contract_from, varied
from embedcache.encoders.resolved import ResolvedEncoder as ResolvedEncoder  # noqa: PLC0414  # what `resolve` gives
from embedcache.encoders.spec import PRECISIONS, ArithmeticSpec, Encoder, EncoderSpec
from embedcache.encoders.text import NoText
from embedcache.encoders.weights import WeightFile, sha256_file
from embedcache.encoders.weights_lock import require_pinned
from embedcache.errors import (
    EncoderFileError,
    ReferenceSyntaxError,
    VariantUnknownError,
    WeightsUnwantedError,
)

_RANDOM_ASKED = re.compile(r"random(?::([0-9]{1,18}))?")


def resolve(reference: str | EncoderRef) -> ResolvedEncoder:
    """Find all that a reference means: its contract, its weight file, its licence.

    Named encoders need no torch for it; `timm:` and `open-clip:` do, and may download weights.
    A Python file is run.

    Raises:
        ReferenceSyntaxError: if it is no reference.
        UnknownNameError: if there is no such encoder or architecture.
        VariantUnknownError: if the encoder has no such variant.
        WeightsMissingError: if its weights are not to be had.
        WeightsUnwantedError: if it cannot take the weights named.
        PathMissingError: if the weight file named does not exist.
        DigestDiffersError: if the weight file found is not the published or pinned one.
        EncoderUnusableError: if a library's model asks for what is not here.
        PackageMissingError: if its preprocessing runs on a package that is not installed.
        PluginUnusableError: if the Python file named makes no encoder.
        EncoderFileError: if the encoder file named is none, or of other code than there is now.
    """
    ref = parse_encoder(reference) if isinstance(reference, str) else reference
    if ref.encoder_file is not None:
        return _from_file(ref, ref.encoder_file)
    if ref.file is not None:
        plugin = read_plugin(ref.file, ref.name)
        return replace(_resolved(ref, plugin.specify()), plugin=plugin)
    return _resolved(ref, specify(ref))


def contract_of(reference: str | EncoderRef) -> Contract:
    """The contract of a reference; see `resolve`."""
    return resolve(reference).contract


def load_encoder(reference: str | EncoderRef, device: str = "cpu") -> Encoder:
    """Resolve and build in one step; see `resolve` and `ResolvedEncoder.build`."""
    return resolve(reference).build(device)


def _resolved(ref: EncoderRef, spec: EncoderSpec | ArithmeticSpec) -> ResolvedEncoder:
    return _arithmetic(ref, spec) if isinstance(spec, ArithmeticSpec) else _network(ref, spec)


def _from_file(ref: EncoderRef, path: Path) -> ResolvedEncoder:
    """The encoder that a file holds; a precision is all that may be asked of it besides."""
    held = read_header(path)
    if ref.weights is not None:
        raise WeightsUnwantedError(path.name, ref.weights, "it holds its own: leave that out")
    origin = parse_encoder(held.encoder)
    spec = specify(origin)
    if not isinstance(spec, EncoderSpec):
        raise EncoderFileError(path.name, f"{held.encoder} has no weights", "write it again")
    for variant in ref.variants:
        if variant not in PRECISIONS:
            raise VariantUnknownError(path.name, variant, tuple(PRECISIONS))
    spec = varied(spec, origin.variants)
    require_libraries(spec.name, spec.preprocessing)
    now = contract_from(spec, held.contract.weights, held.contract.precision)
    if replace(now, parent=held.contract.parent) != held.contract:
        problem = f"{held.encoder} is run in another way by now"
        raise EncoderFileError(path.name, problem, "convert or tune its origin again")
    halves = ref.variants[:1]
    if held.blanks:
        spec = replace(spec, text=NoText("its image half was tuned on, away from its prompts"))
    return ResolvedEncoder(
        name="@".join((held.name, *halves)),
        contract=replace(held.contract, precision=PRECISIONS[halves[0]])
        if halves
        else held.contract,
        spec=spec,
        file=path,
        licence=held.licence,
        citation=held.citation,
        notes=spec.notes,
        overlap=() if held.contract.random_weights else held.overlap or spec.overlap,
        tensors=held.tensors,
        blanks=held.blanks,
        origin=held.encoder,
    )


def _arithmetic(ref: EncoderRef, spec: ArithmeticSpec) -> ResolvedEncoder:
    if ref.weights is not None:
        raise WeightsUnwantedError(spec.name, ref.weights, "it has no weights: leave that out")
    for variant in ref.variants:
        if variant not in PRECISIONS:
            raise VariantUnknownError(spec.name, variant, tuple(PRECISIONS))
    # `--precision bf16` is added to every encoder of a command, and must not stop this one.
    notes = tuple(
        f"{spec.name} has no network, so @{variant} changes nothing" for variant in ref.variants
    )
    return resolved(spec, notes)


def resolved(spec: ArithmeticSpec, notes: tuple[str, ...] = ()) -> ResolvedEncoder:
    """An encoder without weights, registered or not: nothing about it is left to find."""
    return ResolvedEncoder(
        name=spec.name,
        contract=contract_from(spec, NO_WEIGHTS),
        spec=spec,
        file=None,
        licence=spec.licence,
        citation=spec.citation,
        notes=notes,
    )


def _network(ref: EncoderRef, spec: EncoderSpec) -> ResolvedEncoder:
    halves = [variant for variant in ref.variants if variant in PRECISIONS]
    # Sorted, so that two spellings of one encoder have one name.
    own = sorted(variant for variant in ref.variants if variant not in PRECISIONS)
    if len(halves) > 1:
        raise ReferenceSyntaxError("encoder", str(ref), f"{GRAMMAR}, and one precision at most")
    if contested := spec.contested(own):
        one = " or ".join(f"@{variant}" for variant in contested)
        raise ReferenceSyntaxError("encoder", str(ref), f"{GRAMMAR}, and {one}, not both")
    spec = varied(spec, ref.variants)
    require_libraries(spec.name, spec.preprocessing)
    weights, file = _weights(ref, spec)
    contract = contract_from(spec, weights, PRECISIONS[halves[0]] if halves else "fp32")
    return ResolvedEncoder(
        name="@".join((ref.name, *own, *halves)),
        contract=contract,
        spec=spec,
        file=file,
        licence=spec.licence,
        citation=spec.citation,
        notes=spec.notes,
        overlap=() if contract.random_weights else spec.overlap,
    )


def _weights(ref: EncoderRef, spec: EncoderSpec) -> tuple[str, Path | None]:
    """The contract's word for the weights, and their file."""
    asked = _RANDOM_ASKED.fullmatch(ref.weights or "")
    if asked and spec.untrained is None:
        mend = f"it names trained weights; for untrained ones ask for {spec.architecture}=random"
        raise WeightsUnwantedError(spec.name, asked[0], mend)
    if asked:
        return f"{RANDOM}{int(asked[1] or 0)}", None
    if ref.weights is not None and not ref.name.startswith(OPEN_CLIP):
        file = WeightFile(Path(ref.weights)).find(spec.name)
        return FILE + sha256_file(file), file
    # open_clip's WEIGHTS may be a tag, which its family has looked up by now.
    file, published = find_or_fetch(ref, spec.sources)
    digest = sha256_file(file)
    if ref.weights is None:
        require_pinned(spec.name, file, digest, published)
    return FILE + digest, file
