"""UltraFedFM: ViT-B/16 masked autoencoder, pretrained by federated learning in nine countries.

Pooling. The authors' diagnosis code averages the patch tokens and applies an `fc_norm` that their
loader leaves at weight 1 and bias 0, while the checkpoint's `norm` is dropped (models_vit.py
@19bbbcb): the default. `@cls` takes the class token behind the checkpoint's own norm. The two
share a forward pass.

Preprocessing. The authors resize the shorter side to 256 (bicubic), crop 224 and take ImageNet's
mean and std (util/datasets.py): the default, though the crop cuts the borders of a fan; `@squash`
keeps them.

The file is a whole training state (model, optimiser, arguments), of which `model` is read. Code
defaults to ViT-L; the published script and the file's size say B.
"""

from __future__ import annotations

from embedcache.encoders.families.imagenet import centre, squash
from embedcache.encoders.families.masked_autoencoder import build, pool, pooled, untrained
from embedcache.encoders.families.seen import unknown
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.encoders.weights import DriveFile, HubFile

ULTRAFEDFM = EncoderSpec(
    name="ultrafedfm",
    dim=768,
    architecture="timm:vit_base_patch16_224",
    preprocessing=centre(224, 0.875),
    pooling="mean-then-untrained-layer-norm",
    build=build,
    pool=pool("mean-then-untrained-layer-norm"),
    wrapper="model",
    sources=(
        DriveFile(name="checkpoint.pth", id="13cczqVFk84c_9QDP2OLURU1jWryCky5f"),
        HubFile(repository="fmassimo/UltraFedFM", names=("checkpoint.pth",)),
    ),
    untrained=untrained,
    variants={
        "cls": pooled("layer-norm-then-cls", "class token behind the checkpoint's own norm"),
        "squash": Variant(
            about="the whole picture at 224, not its centre", preprocessing=squash(224)
        ),
    },
    licence="Apache-2.0",
    citation=(
        "Jiang et al., From pretraining to privacy: federated ultrasound foundation model with "
        "self-supervised learning, npj Digital Medicine 2025, arXiv:2411.16380"
    ),
    pretraining=("about a million ultrasound images of 16 institutions, sets not listed",),
    overlap=unknown("its repository lists no pretraining sets (@19bbbcb)"),
    domain="ultrasound, many organs",
    parameters=85_797_120,
    notes=("fmassimo/UltraFedFM on the hub is a third party's copy",),
)
