"""`timm:ARCH[.TAG][=WEIGHTS]`: any timm model, with the preprocessing of its own weights.

The feature is timm's forward without a classifier (`num_classes=0`), pooled as the architecture
does by default; its name goes into the contract. TAG chooses among timm's weights for ARCH and with
them input size, crop, filter, mean and std. For weights from a file the tag still says how pictures
are prepared, because a weight file does not.
"""

from __future__ import annotations

import difflib
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedcache import registry
from embedcache.contract import RANDOM, Fit, Preprocessing, Resample
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.network import seeded
from embedcache.encoders.reference import TIMM, EncoderRef
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.encoders.weights import HubFile
from embedcache.errors import EncoderUnusableError, UnknownNameError

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Named encoders that run an architecture of timm's in another way than timm does.
NAMED = {"tf_efficientnet_lite0": "efficientnet-lite0"}

_FITS: dict[str, Fit] = {"center": "centre-crop", "squash": "squash"}
_FILTERS: dict[str, Resample] = {
    "nearest": "nearest",
    "bilinear": "bilinear",
    "bicubic": "bicubic",
}


def specify(ref: EncoderRef) -> EncoderSpec:
    """Describe a timm architecture; builds it without memory to see what it gives.

    Raises:
        UnknownNameError: if timm has no such architecture or tag.
        EncoderUnusableError: if its preprocessing has no counterpart here.
    """
    import torch

    name = ref.name.removeprefix(TIMM)
    config = _config(name)
    with torch.device("meta"):
        model = create(name).eval()
    preprocessing = _preprocessing(ref.name, config)
    return EncoderSpec(
        name=ref.name,
        dim=_dim(model, preprocessing),
        architecture=TIMM + config.architecture,
        preprocessing=preprocessing,
        pooling=f"timm-forward:{_pool(model)}",
        build=partial(build, name),
        sources=_sources(ref.name, config),
        untrained=partial(untrained, name),
        licence=config.license or "",
        citation="Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861",
        notes=_notes(ref, config, preprocessing),
    )


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


def build(name: str, state: dict[str, Tensor]) -> nn.Module:
    """Make the network from a checkpoint in timm's names or in those that timm translates.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    model = create(name)
    if not set(model.state_dict()) <= set(state):
        state = _translated(model, state)
    return load_strict(model, state, unused=_classifiers(_config(name)))


def untrained(name: str, seed: int) -> dict[str, Tensor]:
    """Tensors as timm initialises them, from a seed alone."""
    with seeded(seed):
        return dict(create(name).state_dict())


def _translated(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply the architecture's own renaming of foreign checkpoints, where timm has one."""
    module = import_module(type(model).__module__)
    rename = getattr(module, "checkpoint_filter_fn", None)
    return state if rename is None else dict(rename(dict(state), model))


def _config(name: str) -> Any:
    """The record that timm keeps of a model's weights and their preprocessing (`PretrainedCfg`)."""
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


def _preprocessing(name: str, config: Any) -> Preprocessing:
    """The evaluation transform of timm (`transforms_imagenet_eval`) in our words."""
    _, height, width = config.input_size
    fit, resample = _FITS.get(config.crop_mode), _FILTERS.get(config.interpolation)
    square = height == width or fit == "squash"
    if fit is None or resample is None or not square:
        problem = (
            f"timm prepares its pictures by crop mode {config.crop_mode!r} to {height}x{width} "
            f"with filter {config.interpolation!r}, which embedcache cannot do"
        )
        raise EncoderUnusableError(name, problem)
    return Preprocessing(
        height=height,
        width=width,
        fit=fit,
        resample=resample,
        crop=float(config.crop_pct),
        mean=tuple(float(value) for value in config.mean),
        std=tuple(float(value) for value in config.std),
    )


def _dim(model: nn.Module, preprocessing: Preprocessing) -> int:
    import torch

    shape = (1, 3, preprocessing.height, preprocessing.width)
    with torch.inference_mode():
        return int(model(torch.zeros(shape, device="meta")).shape[1])


def _pool(model: nn.Module) -> str:
    """How the architecture pools: timm keeps it as text or in its pooling layer."""
    named = getattr(model, "global_pool", None)
    if isinstance(named, str):
        return named or "none"
    layers = (getattr(layer, "pool_type", None) for layer in model.modules())
    return next((str(kind) for kind in layers if kind), "none")


def _classifiers(config: Any) -> tuple[str, ...]:
    names = config.classifier or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def _sources(name: str, config: Any) -> tuple[HubFile, ...]:
    if not config.hf_hub_id:
        return ()
    # In the order in which timm itself looks for them.
    files = (config.hf_hub_filename,) if config.hf_hub_filename else ()
    return (
        HubFile(
            repository=config.hf_hub_id,
            names=files or ("model.safetensors", "pytorch_model.bin"),
            mend=f"give a file ({name}=PATH) or ask for untrained weights ({name}=random)",
        ),
    )


def _notes(ref: EncoderRef, config: Any, preprocessing: Preprocessing) -> tuple[str, ...]:
    notes = []
    trained = ref.weights is not None and not f"{ref.weights}:".startswith(RANDOM)
    if trained:
        notes.append(
            f"{ref.name} prepares pictures as for timm's own weights ({config.tag or 'untagged'}); "
            f"weights of your own may want another mean, std or crop"
        )
    named = NAMED.get(config.architecture)
    if named is not None:
        spec = registry.load("encoders", named)
        notes.append(
            f"{ref.name} is not {named}: it prepares pictures by {_told(preprocessing)}, "
            f"{named} by {_told(spec.preprocessing)}, and their weights are two files"
        )
    return tuple(notes)


def _told(how: Preprocessing) -> str:
    crop = f" keeping {how.crop:g}" if how.crop != 1 else ""
    return f"{how.fit}{crop} to {how.height}"
