"""An encoder that is known in full and not yet built."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedcache.contract import RANDOM, Contract, Precision
from embedcache.encoders.arithmetic import ArithmeticEncoder
from embedcache.encoders.blanks import blank, fill
from embedcache.encoders.device import pick_device
from embedcache.encoders.encoder_file import Blank
from embedcache.encoders.network import NetworkEncoder, seeded
from embedcache.encoders.plugin import PluginFile
from embedcache.encoders.reference import parse_encoder
from embedcache.encoders.spec import PRECISIONS, ArithmeticSpec, Encoder, EncoderSpec
from embedcache.encoders.text import TextEncoder, require_text
from embedcache.errors import WeightsMismatchError, WeightsMissingError
from embedcache.provenance import Overlap

if TYPE_CHECKING:
    from torch import Tensor

#: Starts `weights` of a contract whose weights come from a file.
FILE = "sha256:"


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedEncoder:
    """An encoder that is known in full and not yet built; it crosses process pools.

    Attributes:
        name: the reference without weights: `efficientnet-lite0`, `usfm@cls`.
        contract: all that decides its numbers.
        spec: what it is made from.
        file: its weight file; None for random weights and for none.
        licence: SPDX name or the licence's own name; empty if not known.
        citation: how to cite it; empty if not known.
        notes: sentences that whoever uses it should see.
        overlap: of what its weights were trained on with cohorts; none for untrained ones.
        plugin: the Python file that makes `spec`, or None.
        tensors: digest of what `file` holds, where it is an encoder file; else empty.
        blanks: where `file` holds a tuned network's own tensors: what `spec` builds it from.
        origin: of an encoder file, the reference whose family builds it; else empty.
    """

    name: str
    contract: Contract
    spec: EncoderSpec | ArithmeticSpec
    file: Path | None
    licence: str
    citation: str
    notes: tuple[str, ...] = ()
    overlap: tuple[Overlap, ...] = ()
    plugin: PluginFile | None = None
    tensors: str = ""
    blanks: tuple[Blank, ...] = ()
    origin: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Cross a process pool; what a Python file of the user's defines is made anew there."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.plugin is not None:
            del values["spec"]
        return _unpickled, (values,)

    def build(self, device: str = "cpu") -> Encoder:
        """Read the weights and put the network on a device (`auto`, `cpu`, `cuda:0`, `mps`).

        Raises:
            DeviceMissingError: if there is no such device.
            WeightsUnreadableError: if the file holds no weights.
            WeightsMismatchError: if they are another network's.
            WeightsChangedError: if the file is not the one that was resolved.
        """
        if isinstance(self.spec, ArithmeticSpec):
            return ArithmeticEncoder(
                self.spec, self.contract, self.name, self.licence, self.citation
            )
        place = pick_device(device)
        return self.build_from(self.state(), place)

    def build_from(self, state: dict[str, Tensor], device: str = "cpu") -> NetworkEncoder:
        """Put the network on a device with the tensors given, in place of its weight file's.

        Raises:
            DeviceMissingError: if there is no such device.
            WeightsMismatchError: if the tensors are another network's.
        """
        assert isinstance(self.spec, EncoderSpec)  # arithmetic has none
        place = pick_device(device)
        # Seeded, so that nothing random outside the checkpoint, if any, depends on the caller.
        given = blank(self.blanks) if self.blanks else state
        with self.naming_mismatch(), seeded(0):
            module = self.spec.build(given)
            pool = self.spec.pool and self.spec.pool(given)
            if self.blanks:
                fill(module, pool, state)
        return NetworkEncoder(
            module,
            pool,
            name=self.name,
            contract=self.contract,
            licence=self.licence,
            citation=self.citation,
            device=place,
        )

    def build_text(self) -> TextEncoder:
        """Read the text half of an image-text model, on the CPU; raises as `build`.

        Raises:
            NoTextError: if it has none, or a variant's vectors are not those that prompts meet.
        """
        text = require_text(self.name, self.spec)
        assert isinstance(self.spec, EncoderSpec)  # what has no weights has no text half
        state = self.state()
        with self.naming_mismatch(), seeded(0):
            module = text.build(state)
        return TextEncoder(
            module,
            name=self.name,
            context=text.context,
            dim=self.contract.dim,
            scale=text.scale(state),
        )

    @contextmanager
    def naming_mismatch(self) -> Iterator[None]:
        """Let a checkpoint that does not fit say which file it is, and for which encoder."""
        try:
            yield
        except WeightsMismatchError as error:
            named = "its random start" if self.file is None else self.file.name
            raise replace(error, encoder=self.spec.name, file=named) from error

    def state(self) -> dict[str, Tensor]:
        """The tensors that `build_from` takes, on the CPU; raises as `build`."""
        from embedcache.encoders.checkpoint import read_state
        from embedcache.encoders.encoder_file import read_encoder_file

        assert isinstance(self.spec, EncoderSpec)  # arithmetic has none
        weights = self.contract.weights
        if self.file is not None and self.tensors:
            return read_encoder_file(self.file, self.tensors)
        if self.file is not None:
            digest = weights.removeprefix(FILE)
            return read_state(self.file, sha256=digest, wrapper=self.spec.wrapper)
        if self.spec.untrained is None:
            raise WeightsMissingError(self.name, "no file was resolved", "resolve it again")
        return self.spec.untrained(int(weights.removeprefix(RANDOM)))


def contract_from(
    spec: EncoderSpec | ArithmeticSpec, weights: str, precision: Precision = "fp32"
) -> Contract:
    """The contract of a specification whose variants are applied, with such weights."""
    return Contract(
        architecture=spec.architecture,
        code=spec.code,
        weights=weights,
        preprocessing=spec.preprocessing,
        pooling=spec.pooling,
        dim=spec.dim,
        precision=precision,
    )


def varied(spec: EncoderSpec, variants: tuple[str, ...]) -> EncoderSpec:
    """Apply the variants that are the encoder's own, precisions aside.

    Raises:
        VariantUnknownError: if it has no such variant.
    """
    # Sorted, so that two spellings of one encoder have one contract.
    for variant in sorted(set(variants).difference(PRECISIONS)):
        spec = spec.varied(variant)
    return spec


def _unpickled(values: dict[str, Any]) -> ResolvedEncoder:
    plugin: PluginFile | None = values["plugin"]
    if plugin is None:
        return ResolvedEncoder(**values)
    spec = plugin.specify()
    if isinstance(spec, EncoderSpec):
        spec = varied(spec, parse_encoder(values["name"]).variants)
    return ResolvedEncoder(**values, spec=spec)
