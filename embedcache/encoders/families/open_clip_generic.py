"""`open-clip:ARCH=WEIGHTS`: the image tower of any open_clip model.

WEIGHTS is a tag that open_clip knows for ARCH, a file, or `random`. The feature is `encode_image`
without normalisation: projected, as the authors of such models use it for probing.

Two traps of open_clip are closed here. A tag trained with QuickGELU but asked for under an
architecture without it only warns there, and gives wrong features; here the tag decides. A file
gets OpenAI's mean and std there whatever the architecture, although SigLIP's weights want .5; here
a file gets the preprocessing of the architecture's tags where they all agree.
"""

from __future__ import annotations

import difflib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedcache.contract import RANDOM, Fit, Preprocessing, Resample
from embedcache.encoders.checkpoint import load_strict
from embedcache.encoders.network import seeded
from embedcache.encoders.reference import OPEN_CLIP, EncoderRef
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.text import NoText
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.encoders.weights import HubFile, WeightFile, WeightSource
from embedcache.errors import EncoderUnusableError, UnknownNameError, WeightsMissingError

if TYPE_CHECKING:
    from torch import Tensor, nn

_FITS: dict[str, Fit] = {"shortest": "centre-crop", "squash": "squash"}
_FILTERS: dict[str, Resample] = {"bilinear": "bilinear", "bicubic": "bicubic"}
_QUICK = "-quickgelu"
#: open_clip's names for a repository's weights (open_clip/constants.py), safe one first.
_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")


def specify(ref: EncoderRef) -> EncoderSpec:
    """Describe an open_clip architecture with the weights asked for.

    Raises:
        UnknownNameError: if open_clip has no such architecture.
        WeightsMissingError: if no weights are named, or neither a tag nor a file.
        EncoderUnusableError: if it needs a package, a filter or an activation that is not here.
    """
    name = ref.name.removeprefix(OPEN_CLIP)
    config, tags = _config(ref.name), _tags(name)
    random = f"{ref.weights}:".startswith(RANDOM)
    tag = tags.get(ref.weights or "")
    if not random and tag is None:
        _require_file(ref, tuple(tags))
    quick = _quick(ref.name, config, tag)
    prepared, agreed = _prepared(tag, tags)
    return EncoderSpec(
        name=ref.name,
        dim=int(config["embed_dim"]),
        architecture=OPEN_CLIP + name.removesuffix(_QUICK) + (_QUICK if quick else ""),
        preprocessing=_preprocessing(ref.name, prepared, config["vision_cfg"]["image_size"]),
        pooling="open-clip-encode-image",
        build=partial(build, name, quick),
        text=NoText("which tokenizer and temperature an open_clip model wants is not settled here"),
        sources=_sources(ref, tag),
        untrained=partial(untrained, name, quick),
        citation="Ilharco et al., OpenCLIP, doi:10.5281/zenodo.5143773",
        notes=() if random or tag else (_file_note(ref.name, agreed),),
    )


def build(name: str, quick: bool, state: dict[str, Tensor]) -> nn.Module:
    """Make the image tower from a checkpoint of the whole model, strictly.

    Raises:
        WeightsMismatchError: if its tower is another network's.
    """
    from open_clip.convert import convert_state_dict

    model = _create(name, quick)
    state = convert_state_dict(model, dict(state))
    tower = _tower_of(state)
    load_strict(model.visual, tower or state)
    return _pooled(model.visual)


def untrained(name: str, quick: bool, seed: int) -> dict[str, Tensor]:
    """Tensors as open_clip initialises them, from a seed alone."""
    with seeded(seed):
        return dict(_create(name, quick).state_dict())


def _create(name: str, quick: bool) -> Any:
    """The whole model as `open_clip.create_model` makes it, with random weights."""
    repair_torchvision()
    import open_clip

    # Not create_model: it warns that nobody trained the model, which holds until we load it, and
    # its first warning gives the whole process a log handler.
    config = open_clip.get_model_config(name)
    custom = config.pop("custom_text", False)
    kind = open_clip.CLIP
    if custom:
        kind = open_clip.CoCa if "multimodal_cfg" in config else open_clip.CustomTextCLIP
    # A timm tower would otherwise fetch its own weights first.
    config["vision_cfg"]["timm_model_pretrained"] = False
    return kind(**{**config, "quick_gelu": quick})


def _tower_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        key.removeprefix("visual."): value
        for key, value in state.items()
        if key.startswith("visual.")
    }


def _pooled(visual: nn.Module) -> nn.Module:
    """The tower alone; CoCa's gives its tokens beside the vector, which are left."""
    import torch

    class ImageTower(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.visual = visual

        def forward(self, image: Tensor) -> Tensor:
            out = self.visual(image)
            vector: Tensor = out[0] if isinstance(out, tuple) else out
            return vector

    return ImageTower()


def _config(name: str) -> dict[str, Any]:
    repair_torchvision()
    import open_clip

    architecture = name.removeprefix(OPEN_CLIP)
    config = open_clip.get_model_config(architecture)
    if config is None:
        known = open_clip.list_models()
        close = difflib.get_close_matches(architecture, known, n=8)
        raise UnknownNameError("open_clip architecture", architecture, tuple(close or known))
    if "hf_model_name" in config["text_cfg"]:
        raise EncoderUnusableError(name, "its text half needs the package transformers")
    return dict(config)


def _tags(architecture: str) -> dict[str, dict[str, Any]]:
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    known = list_pretrained_tags_by_model(architecture)
    return {tag: get_pretrained_cfg(architecture, tag) for tag in known}


def _require_file(ref: EncoderRef, tags: tuple[str, ...]) -> None:
    if ref.weights is not None and Path(ref.weights).is_file():
        return
    reason = (
        "open_clip has no default"
        if ref.weights is None
        else f"{ref.weights!r} is neither a file nor one of its tags"
    )
    tagged = f", or one of its tags ({', '.join(tags)})" if tags else ""
    mend = f"write {ref.name}=WEIGHTS with a file, random{tagged}"
    raise WeightsMissingError(ref.name, reason, mend)


def _quick(name: str, config: dict[str, Any], tag: dict[str, Any] | None) -> bool:
    """Whether the network computes QuickGELU: as the tag was trained, else as the name says."""
    named = bool(config.get("quick_gelu", False))
    trained = named if tag is None else bool(tag.get("quick_gelu", False))
    if named and not trained:
        problem = f"these weights were trained with GELU; leave {_QUICK} out of its name"
        raise EncoderUnusableError(name, problem)
    return trained


def _prepared(
    tag: dict[str, Any] | None, tags: dict[str, dict[str, Any]]
) -> tuple[dict[str, Any], bool]:
    """A tag's preprocessing; without one, that of all tags and whether these agree."""
    if tag is not None:
        return tag, True
    keys = ("mean", "std", "interpolation", "resize_mode")
    first: dict[str, Any] = next(iter(tags.values()), {})
    agreed = bool(tags) and all(
        all(other.get(key) == first.get(key) for key in keys) for other in tags.values()
    )
    return (first, True) if agreed else ({}, False)


def _preprocessing(name: str, prepared: dict[str, Any], size: Any) -> Preprocessing:
    """open_clip's evaluation transform (`image_transform`) in our words, its defaults included."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    height, width = (size, size) if isinstance(size, int) else size
    fit = _FITS.get(prepared.get("resize_mode") or "shortest")
    resample = _FILTERS.get(prepared.get("interpolation") or "bicubic")
    if fit is None or resample is None or (fit == "centre-crop" and height != width):
        raise EncoderUnusableError(name, "embedcache cannot prepare pictures as open_clip does")
    return Preprocessing(
        height=height,
        width=width,
        fit=fit,
        resample=resample,
        mean=tuple(float(value) for value in prepared.get("mean") or OPENAI_DATASET_MEAN),
        std=tuple(float(value) for value in prepared.get("std") or OPENAI_DATASET_STD),
    )


def _sources(ref: EncoderRef, tag: dict[str, Any] | None) -> tuple[WeightSource, ...]:
    if tag is None:
        return (WeightFile(Path(ref.weights or "")),)
    repository, _, file = str(tag.get("hf_hub") or "").strip("/").partition("/")
    if not repository:
        return ()
    model, _, file = file.partition("/")
    return (
        HubFile(
            repository=f"{repository}/{model}",
            names=(file,) if file else _FILES,
            mend=f"give a file ({ref.name}=PATH) or ask for untrained weights ({ref.name}=random)",
        ),
    )


def _file_note(name: str, agreed: bool) -> str:
    whose = "open_clip's weights for it" if agreed else "OpenAI's CLIP, open_clip's default"
    return f"{name} prepares pictures as for {whose}; a file of your own may want another mean, std"
