"""`timm:ARCH[.TAG][=WEIGHTS]`: any timm model, with the preprocessing of its own weights.

The feature is timm's forward without a classifier (`num_classes=0`), pooled as the architecture
does by default; its name goes into the contract. TAG chooses among timm's weights for ARCH and with
them input size, crop, filter, mean and std. For weights from a file the tag still says how pictures
are prepared, because a weight file does not.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from embedcache import registry
from embedcache.contract import RANDOM, Fit, Preprocessing, Resample
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.families.timm_model import (
    TimmModel,
    create,
    pretrained_config,
    timm_model,
)
from embedcache.encoders.network import seeded
from embedcache.encoders.reference import TIMM, EncoderRef
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import HubFile
from embedcache.errors import EncoderUnusableError

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
    """Describe a timm architecture.

    Raises:
        UnknownNameError: if timm has no such architecture or tag.
        EncoderUnusableError: if its preprocessing has no counterpart here.
    """
    name = ref.name.removeprefix(TIMM)
    model = timm_model(name)
    preprocessing = _preprocessing(ref.name, model)
    return EncoderSpec(
        name=ref.name,
        dim=model.dim,
        architecture=TIMM + model.architecture,
        preprocessing=preprocessing,
        pooling=f"timm-forward:{model.pooling}",
        build=partial(build, name),
        sources=_sources(ref.name, model),
        untrained=partial(untrained, name),
        licence=model.licence,
        citation="Wightman, PyTorch Image Models, doi:10.5281/zenodo.4414861",
        notes=_notes(ref, model, preprocessing),
    )


def build(name: str, state: dict[str, Tensor]) -> nn.Module:
    """Make the network from a checkpoint in timm's names or in those that timm translates.

    Raises:
        WeightsMismatchError: if it is another network's.
    """
    model = create(name)
    if not set(model.state_dict()) <= set(state):
        state = _translated(model, state)
    return load_strict(model, state, unused=_classifiers(pretrained_config(name)))


def untrained(name: str, seed: int) -> dict[str, Tensor]:
    """Tensors as timm initialises them, from a seed alone."""
    with seeded(seed):
        return dict(create(name).state_dict())


def _translated(model: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Apply the architecture's own renaming of foreign checkpoints, where timm has one."""
    module = import_module(type(model).__module__)
    rename = getattr(module, "checkpoint_filter_fn", None)
    return state if rename is None else dict(rename(dict(state), model))


def _preprocessing(name: str, model: TimmModel) -> Preprocessing:
    """The evaluation transform of timm (`transforms_imagenet_eval`) in our words."""
    _, height, width = model.input_size
    fit, resample = _FITS.get(model.crop_mode), _FILTERS.get(model.interpolation)
    square = height == width or fit == "squash"
    if fit is None or resample is None or not square:
        problem = (
            f"timm prepares its pictures by crop mode {model.crop_mode!r} to {height}x{width} "
            f"with filter {model.interpolation!r}, which embedcache cannot do"
        )
        raise EncoderUnusableError(name, problem)
    return Preprocessing(
        height=height,
        width=width,
        fit=fit,
        resample=resample,
        crop=model.crop_pct,
        mean=model.mean,
        std=model.std,
    )


def _classifiers(config: Any) -> tuple[str, ...]:
    names = config.classifier or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def _sources(name: str, model: TimmModel) -> tuple[HubFile, ...]:
    if not model.repository:
        return ()
    # In the order in which timm itself looks for them.
    files = (model.file,) if model.file else ()
    return (
        HubFile(
            repository=model.repository,
            names=files or ("model.safetensors", "pytorch_model.bin"),
            mend=f"give a file ({name}=PATH) or ask for untrained weights ({name}=random)",
        ),
    )


def _notes(ref: EncoderRef, model: TimmModel, preprocessing: Preprocessing) -> tuple[str, ...]:
    notes = []
    trained = ref.weights is not None and not f"{ref.weights}:".startswith(RANDOM)
    if trained:
        notes.append(
            f"{ref.name} prepares pictures as for timm's own weights ({model.tag or 'untagged'}); "
            f"weights of your own may want another mean, std or crop"
        )
    named = NAMED.get(model.architecture)
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
