"""What an encoder is before it runs (no torch), and what it offers once built."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from embedcache.contract import Contract, Precision, Preprocessing
from embedcache.encoders.text import NoText, TextSpec
from embedcache.encoders.weights import WeightSource
from embedcache.errors import VariantUnknownError
from embedcache.provenance import Overlap as Overlap  # noqa: PLC0414  # re-exported: families name it beside their spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image
    from torch import Tensor, nn

#: Variants that every network has: the forward pass in half precision (autocast).
PRECISIONS: dict[str, Precision] = {"bf16": "bf16", "fp16": "fp16"}


class Encoder(Protocol):
    """A built encoder on its device.

    Attributes:
        contract: all that decides its numbers.
        name: the reference that asked for it, without weights: `efficientnet-lite0`,
            `timm:vit_tiny_patch16_224`.
        licence: SPDX name or the licence's own name; empty if not known.
        citation: how to cite it; empty if not known.
    """

    contract: Contract
    name: str
    licence: str
    citation: str

    def prepare(self, picture: Image) -> NDArray[np.uint8]:
        """Fit one decoded picture (mode L or RGB): (planes, height, width) uint8, C order.

        Everything but the arithmetic on values: colour, fit, resample. Shared by encoders whose
        `Preprocessing` agrees in these. Planes are channels, or see `preprocessing`.
        """

    def encode(self, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Normalise, run, pool: (b, planes, height, width) uint8 -> (b, dim) float32."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Variant:
    """What a variant changes of its encoder; None where it changes nothing.

    Variants that leave `build` and `preprocessing` alone share one forward pass with their encoder.

    Attributes:
        about: what it is, and whose way that is, in a line.
        preprocessing: another one; or what to make of the encoder's, where this variant must go
            together with one that changes something else of it.
        pooling: another rule's name.
        dim: another length of the vector.
        build: makes another network.
        pool: makes another pooling.
    """

    about: str = ""
    preprocessing: Preprocessing | Callable[[Preprocessing], Preprocessing] | None = None
    pooling: str | None = None
    dim: int | None = None
    build: Callable[[dict[str, Tensor]], nn.Module] | None = None
    pool: Callable[[dict[str, Tensor]], nn.Module] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderSpec:
    """An image network with its preprocessing and pooling, before any weight is read.

    Attributes:
        name: what it is asked for by.
        dim: length of its vector.
        architecture: the network, such as `timm:tf_efficientnet_lite0`.
        code: raised whenever `build` comes to give other numbers for the same weights.
        preprocessing: how a picture becomes a tensor.
        pooling: how tokens or maps become one vector.
        build: makes the network from a checkpoint's tensors, strictly; its forward takes the
            normalised (b, c, h, w) float32 and gives what `pool` takes, or (b, dim) without one.
        pool: makes what turns the network's output into (b, dim), from the same tensors; None
            where the network does.
        text: the text half of an image-text model, or why it is not offered; None: it has none.
        sources: where its weights lie, first choice first.
        wrapper: the key of its file that holds the tensors; None where only one can.
        untrained: a checkpoint that nobody trained, from a seed; None where `=random` is refused.
        variants: what each of its own variants changes; precisions come on top.
        licence: of the weights: SPDX name or the licence's own; empty if not known.
        citation: how to cite it; empty if not known.
        pretraining: the data sets it was trained on.
        overlap: of these with cohorts that it may be tested on.
        domain: what pictures it was trained on, in two or three words.
        parameters: numbers that its feature rests on, pooling included; 0 if not known.
        notes: what whoever uses it must know.
    """

    name: str
    dim: int
    architecture: str
    preprocessing: Preprocessing
    pooling: str
    build: Callable[[dict[str, Tensor]], nn.Module]
    pool: Callable[[dict[str, Tensor]], nn.Module] | None = None
    text: TextSpec | NoText | None = None
    code: str = "1"
    sources: tuple[WeightSource, ...] = ()
    wrapper: str | None = None
    untrained: Callable[[int], dict[str, Tensor]] | None = None
    variants: Mapping[str, Variant] = field(default_factory=dict)
    licence: str = ""
    citation: str = ""
    pretraining: tuple[str, ...] = ()
    overlap: tuple[Overlap, ...] = ()
    domain: str = ""
    parameters: int = 0
    notes: tuple[str, ...] = ()

    def contested(self, names: Collection[str]) -> tuple[str, ...]:
        """The variants among `names` of which one would undo what another changes, sorted."""
        contested: set[str] = set()
        for part in ("preprocessing", "pooling", "build", "pool"):
            changes = {
                name: change
                for name in names
                if name in self.variants
                and (change := getattr(self.variants[name], part)) is not None
            }
            # Changes made to the encoder's own preprocessing follow one upon another.
            apart = part == "preprocessing" and all(map(callable, changes.values()))
            if len(changes) > 1 and not apart:
                contested.update(changes)
        return tuple(sorted(contested))

    def varied(self, name: str) -> EncoderSpec:
        """The encoder with one of its own variants applied.

        Raises:
            VariantUnknownError: if it has no such variant.
        """
        if name not in self.variants:
            raise VariantUnknownError(self.name, name, (*self.variants, *PRECISIONS))
        variant = self.variants[name]
        change = variant.preprocessing
        return replace(
            self,
            preprocessing=change(self.preprocessing)
            if callable(change)
            else change or self.preprocessing,
            pooling=variant.pooling or self.pooling,
            dim=variant.dim or self.dim,
            build=variant.build or self.build,
            pool=variant.pool or self.pool,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class ArithmeticSpec:
    """An encoder without weights: arithmetic on the pixels that needs no torch and no device.

    Attributes:
        name: what it is asked for by.
        dim: length of its vector.
        architecture: names the arithmetic.
        code: raised whenever `compute` comes to give other numbers.
        preprocessing: how a picture becomes an array.
        pooling: how the array becomes one vector.
        compute: (b, c, h, w) uint8 -> (b, dim) float32.
        licence: always ours.
        citation: how to cite it; empty if not known.
    """

    name: str
    dim: int
    architecture: str
    preprocessing: Preprocessing
    pooling: str
    compute: Callable[[NDArray[np.uint8]], NDArray[np.float32]]
    code: str = "1"
    licence: str = "Apache-2.0"
    citation: str = ""
