"""What timm says of a model and its weights, remembered between runs.

Asking takes torch, timm and torchvision, five seconds of imports: all that a second run over a
complete store would do. So the answer is kept in the user's cache under a digest of timm's own
source and of this file: whoever changes either is asked anew.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedcache.durable import write_file
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.errors import SchemaError, UnknownNameError
from embedcache.schema import canonical_json, from_json

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, kw_only=True, slots=True)
class TimmModel:
    """An architecture of timm's and one tag of its weights, by timm's own words.

    Attributes:
        architecture: without the tag.
        tag: of the weights; empty if they have none.
        dim: numbers that the forward pass without a classifier gives an image.
        pooling: `token`, `avg`, …; `none` where nothing is pooled.
        input_size: channels, height and width that the weights were evaluated at.
        crop_mode: how pictures are cropped.
        crop_pct: side of the crop over side of the resized picture.
        interpolation: filter.
        mean: of normalisation, per channel.
        std: likewise.
        licence: of the weights; empty if timm does not say.
        repository: of the weights on the hub; empty if they are not there.
        file: their name there, where it is not the usual one.
    """

    architecture: str
    tag: str
    dim: int
    pooling: str
    input_size: tuple[int, int, int]
    crop_mode: str
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    repository: str
    file: str


def timm_model(name: str) -> TimmModel:
    """What timm says of `ARCH[.TAG]`.

    Raises:
        UnknownNameError: if timm has no such architecture or tag.
    """
    kept = _place(name)
    with contextlib.suppress(OSError, SchemaError):  # not there, or damaged: timm knows
        return from_json(TimmModel, kept.read_bytes(), kept.name)
    model = _asked(name)
    with contextlib.suppress(OSError):  # a home that nobody may write to: the next run asks again
        write_file(kept, canonical_json(model))
    return model


def create(name: str, **settings: Any) -> nn.Module:
    """A timm model with the random weights that timm gives it, without its classifier by default.

    Args:
        name: architecture, with or without the tag of weights.
        settings: for its constructor, such as `img_size`, `global_pool` or `num_classes`.
    """
    repair_torchvision()
    import timm

    model: nn.Module = timm.create_model(name, pretrained=False, **{"num_classes": 0, **settings})
    return model


def pretrained_config(name: str) -> Any:
    """The record that timm keeps of a model's weights and their preprocessing (`PretrainedCfg`).

    Raises:
        UnknownNameError: if timm has no such architecture or tag.
    """
    repair_torchvision()
    import timm

    architecture, dot, tag = name.partition(".")
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=8)
        raise UnknownNameError("timm architecture", architecture, tuple(close or ("resnet50", "…")))
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")]
    if dot and tag not in tags:
        raise UnknownNameError(f"tag of timm's {architecture}", tag, tuple(tags) or ("no tag",))
    return timm.get_pretrained_cfg(name, allow_unregistered=True)


def _place(name: str) -> Path:
    """Where the answer for a name is kept, for this very timm."""
    import platformdirs

    digest = hashlib.sha256(name.encode())
    for file in _source():
        digest.update(file.read_bytes())
    cache = Path(platformdirs.user_cache_dir("embedcache", appauthor=False))
    return cache / "timm" / f"{digest.hexdigest()[:32]}.json"


def _source() -> Iterator[Path]:
    yield Path(__file__)
    found = find_spec("timm")  # looks for it, and imports nothing
    for place in found.submodule_search_locations or () if found else ():
        yield from sorted(Path(place).rglob("*.py"))


def _asked(name: str) -> TimmModel:
    """Ask timm; builds the model without memory to see what it gives."""
    import torch

    config = pretrained_config(name)
    with torch.device("meta"):
        model = create(name).eval()
    with torch.inference_mode():
        given = model(torch.zeros((1, *config.input_size), device="meta"))
    return TimmModel(
        architecture=config.architecture,
        tag=config.tag or "",
        dim=int(given.shape[1]),
        pooling=_pooling(model),
        input_size=tuple(config.input_size),
        crop_mode=config.crop_mode,
        crop_pct=float(config.crop_pct),
        interpolation=config.interpolation,
        mean=tuple(float(value) for value in config.mean),
        std=tuple(float(value) for value in config.std),
        licence=config.license or "",
        repository=config.hf_hub_id or "",
        file=config.hf_hub_filename or "",
    )


def _pooling(model: nn.Module) -> str:
    """How the architecture pools: timm keeps it as text or in its pooling layer."""
    named = getattr(model, "global_pool", None)
    if isinstance(named, str):
        return named or "none"
    layers = (getattr(layer, "pool_type", None) for layer in model.modules())
    return next((str(kind) for kind in layers if kind), "none")
