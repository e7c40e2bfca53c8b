"""USF-MAE: ViT-B/16 masked autoencoder on 46 open ultrasound sets (Megahed et al., 2025).

It was pretrained on FETAL_PLANES_DB, with no split held out: a probe that is tested there is
tested on pictures that the encoder has seen.

Preprocessing. The authors' validation transform squashes to 224 with the NEAREST filter and takes
ImageNet's mean and std (US_data_loading.py @e58c291): the default, because it is theirs. Nearest
neighbours alias speckle; `@bicubic` is PIL's antialiased filter.

Pooling. No downstream code is published. The class token behind the checkpoint's own norm is what
the file loads into without a tensor left over, and the default; `@mean` averages the patch tokens
behind the same norm. The two share a forward pass.

The file on Drive is the one of 100 epochs, which the authors recommend; that of 500 epochs
(15n71qHXSBjEjrLtCOzvBb6gTsGhh7NUg) is read by `usf-mae=FILE`.
"""

from __future__ import annotations

from embedcache.encoders.families.imagenet import squash
from embedcache.encoders.families.masked_autoencoder import build, pool, pooled, untrained
from embedcache.encoders.families.seen import CHECKED
from embedcache.encoders.spec import EncoderSpec, Overlap, Variant
from embedcache.encoders.weights import DriveFile

USF_MAE = EncoderSpec(
    name="usf-mae",
    dim=768,
    architecture="timm:vit_base_patch16_224",
    preprocessing=squash(224, "nearest"),
    pooling="layer-norm-then-cls",
    build=build,
    pool=pool("layer-norm-then-cls"),
    sources=(
        DriveFile(
            name="USF-MAE_full_pretrain_43dataset_100epochs.pt",
            id="1ZPu_7KhMEuaq-XdLhVp2EEgMgLJ4dKhr",
        ),
    ),
    untrained=untrained,
    variants={
        "mean": pooled("layer-norm-then-mean", "mean of the patches"),
        "bicubic": Variant(
            about="resized by an antialiased filter", preprocessing=squash(224, "bicubic")
        ),
    },
    licence="MIT",
    citation="Megahed et al., USF-MAE, 2025, arXiv:2510.22990",
    pretraining=("OpenUS-46 without BUS-BRA, MMOTU-2D and GIST514-DB",),
    overlap=(
        Overlap(
            cohort="fetal-planes-db",
            answer="yes",
            source="no. 25 of OpenUS-46; the pretraining notebook takes every PNG (@e58c291)",
            checked=CHECKED,
        ),
        Overlap(
            cohort="african-planes",
            answer="not listed",
            source="OpenUS-46 does not name it (README @e58c291)",
            checked=CHECKED,
        ),
    ),
    domain="ultrasound, many organs",
    parameters=85_798_656,
    notes=(
        "text and callipers were removed from its pretraining images; yours may bear them",
        (
            "the benchmark sets ACOUSLIC, FASS, Fast-U-Net, FH-PS-AOP, HC18, JNU-IFM and PSFHS are "
            "among its pretraining sets as well"
        ),
    ),
)
