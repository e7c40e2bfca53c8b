"""FetalCLIP: CLIP ViT-L/14 trained on 210,035 fetal ultrasound images with their captions.

Maani et al., 2025 (BioMedIA-MBZUAI/FetalCLIP @253a169). GELU is the exact one: the authors'
configuration does not ask for QuickGELU, which OpenAI's own weights of this size were trained with.
Prompts may have 117 tokens where other CLIPs stop at 77.

Feature. The authors probe `model.visual(x)`: the CLS token after its LayerNorm, projected to the
768 numbers that prompts lie beside, not normalised (probing/, train_fetalclip.py). `@pre-proj`
takes the 1,024 numbers before the projection; it shares the forward pass, and prompts do not meet
it.

Preprocessing. Every script of the authors lays the picture centred on a black square before
open_clip's own transform, which resizes to 224 by PIL's antialiased bicubic filter and divides by
CLIP's mean and std; that is the default. Two others are theirs too. `@cv2`: the probing notebooks
store pictures resized by OpenCV, which does not antialias; on speckle the two differ by several
grey levels. `@centre-crop`: the quick start of the README forgets the square, and the crop then
cuts the sides off a landscape picture.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from embedcache.contract import Preprocessing
from embedcache.encoders.families.clip import (
    CLIP_MEAN,
    CLIP_STD,
    ClipSize,
    build_image,
    build_text,
    identity,
    logit_scale,
    project,
    untrained,
)
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.encoders.text import TextSpec
from embedcache.encoders.weights import HubFile
from embedcache.provenance import Overlap

PAD_SQUARE_224 = Preprocessing(
    height=224, width=224, mean=CLIP_MEAN, std=CLIP_STD, fit="pad-square", resample="bicubic"
)
PROJECTED = "cls-layer-norm-projected"

#: FetalCLIP_config.json of the authors.
SIZE = ClipSize(
    image=224,
    patch=14,
    width=1024,
    layers=24,
    dim=768,
    context=117,
    vocabulary=49408,
    text_width=768,
    text_layers=12,
    text_heads=12,
)

_SOURCE = "BioMedIA-MBZUAI/FetalCLIP @253a169 names Corniche Hospital's scans and Abuhamad's book"


def specify(size: ClipSize) -> EncoderSpec:
    """The encoder in a size; the authors published one, tests take a narrow one."""
    return EncoderSpec(
        name="fetalclip",
        dim=size.dim,
        architecture="open-clip:ViT-L-14",
        preprocessing=PAD_SQUARE_224,
        pooling=PROJECTED,
        build=partial(build_image, size),
        pool=project,
        text=TextSpec(
            context=size.context,
            pooling=PROJECTED,
            build=partial(build_text, size),
            scale=logit_scale,
        ),
        sources=(
            HubFile(
                repository="numansaeed/fetalclip-model",
                names=("FetalCLIP_weights.pt",),
                size=1_710_766_661,
                sha256="90916caa408baf9374ee3f8c1533463331a4ace37a13e61385e782905b35c310",
            ),
        ),
        untrained=partial(untrained, size),
        variants={
            "pre-proj": Variant(
                about="the CLS token before its projection",
                pool=identity,
                pooling="cls-layer-norm",
                dim=size.width,
            ),
            "cv2": Variant(
                about="resized by OpenCV without antialiasing, as the authors' probing notebooks",
                preprocessing=replace(PAD_SQUARE_224, resample="cv2-bicubic"),
            ),
            "centre-crop": Variant(
                about="the sides cut off instead of padded, as the authors' quick start",
                preprocessing=replace(PAD_SQUARE_224, fit="centre-crop"),
            ),
        },
        licence="CC-BY-NC-4.0",
        citation="Maani et al., FetalCLIP, 2025, arXiv:2502.14807",
        pretraining=(
            "210,035 fetal ultrasound images with captions (Corniche Hospital; Abuhamad)",
        ),
        overlap=(
            Overlap(
                cohort="fetal-planes-db",
                answer="not listed",
                source=f"{_SOURCE}; the authors test on FETAL_PLANES_DB",
                checked="2026-11-24",
            ),
            Overlap(
                cohort="african-planes",
                answer="not listed",
                source=_SOURCE,
                checked="2026-11-24",
            ),
        ),
        domain="fetal ultrasound",
        parameters=303_966_208,
    )


SPEC = specify(SIZE)
