"""URFM: ViT-B/16 and ViT-L/16 masked autoencoders on ultrasound. Experimental.

What is not published is our choice and may change: that the names are the MAE code's is a third
party's word, and the authors say nothing of pooling, resizing or normalising. We squash to 224
with ImageNet's mean and std, and take the class token behind the checkpoint's norm (`@mean`: the
patches' mean behind it), as for `usf-mae`.

The file holds four copies of the network; the moving average (`ema_state_dict`) is the one to
use, on a third party's word. It is several times as large as the encoder: `embedcache encoders
convert` keeps the encoder alone.
"""

from __future__ import annotations

from functools import partial

from embedcache.encoders.families.imagenet import squash
from embedcache.encoders.families.masked_autoencoder import build, pool, pooled, untrained
from embedcache.encoders.families.seen import unknown
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import HubFile


def _spec(size: str, dim: int, depth: int, parameters: int) -> EncoderSpec:
    architecture = f"vit_{size}_patch16_224"
    return EncoderSpec(
        name=f"urfm-{size[0]}",
        dim=dim,
        architecture=f"timm:{architecture}",
        preprocessing=squash(224),
        pooling="layer-norm-then-cls",
        build=partial(build, architecture=architecture),
        pool=pool("layer-norm-then-cls"),
        wrapper="ema_state_dict",
        sources=(
            HubFile(
                repository="QingboKang/URFM",
                names=(f"mae_vit_{size}_patch16_dec768d8b_all_biomedclip_1199.pth",),
            ),
            HubFile(
                repository="fmassimo/URFM",
                names=(f"mae_vit_{size}_patch16_dec768d8b_all_biomedclip_1199.pth",),
            ),
        ),
        untrained=partial(untrained, width=dim, depth=depth, decoder_width=768),
        variants={"mean": pooled("layer-norm-then-mean", "mean of the patches")},
        licence="MIT",
        citation="Kang et al., URFM: a general ultrasound representation foundation model, 2025",
        pretraining=("ultrasound images, sets not listed",),
        overlap=unknown("its repository lists no pretraining sets"),
        domain="ultrasound, many organs",
        parameters=parameters,
        notes=(
            (
                "experimental: its authors publish neither preprocessing nor pooling, and ours may "
                "change with what they do"
            ),
            "its licence is that of a third party's copy on the hub (fmassimo/URFM)",
        ),
    )


B = _spec("base", 768, 12, 85_798_656)
L = _spec("large", 1024, 24, 303_301_632)
