"""The seven encoders of `@paper` with fewer blocks and channels, as a third party's package.

Code, preprocessing, pooling and the names in the checkpoint are the listed encoders' own. Sizes and
digests of the published files are not: no narrow file can have them. UltraSAM runs at 256.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from embedcache.encoders.families import (
    dinov3,
    efficientnet_v2,
    fetalclip,
    mofo,
    resnet,
    ultrasam,
    usfm,
)
from embedcache.encoders.families.clip import ClipSize
from embedcache.encoders.spec import EncoderSpec


def _narrow(spec: EncoderSpec, **changes: Any) -> EncoderSpec:
    sources = tuple(replace(source, size=None, sha256=None) for source in spec.sources)
    name = f"narrow-{spec.name}"
    return replace(spec, name=name, sources=sources, variants={}, parameters=0, **changes)


def _timm(spec: EncoderSpec, dim: int, **shape: Any) -> EncoderSpec:
    """Build and random start take the same words."""
    assert spec.untrained is not None
    build, untrained = partial(spec.build, **shape), partial(spec.untrained, **shape)
    return _narrow(spec, dim=dim, build=build, untrained=untrained)


USFM = _narrow(
    usfm.USFM,
    dim=48,
    build=partial(usfm.build, embed_dim=48, depth=2, num_heads=3),
    untrained=partial(usfm.untrained, width=48, depth=2, heads=3),
)
MOFO = _narrow(mofo.mofo(mofo.Shape(dim=16, depth=(1, 2, 2, 1), heads=(2, 4, 4, 8))))
ULTRASAM = _narrow(
    ultrasam.ULTRASAM.varied("256"),
    dim=32,
    build=partial(
        ultrasam.build,
        side=256,
        embed_dim=32,
        depth=4,
        num_heads=4,
        neck_chans=16,
        global_attn_indexes=(1, 3),
    ),
    untrained=partial(ultrasam.untrained, width=32, depth=4, heads=4, neck=16, whole=(1, 3)),
)
FETALCLIP = _narrow(
    fetalclip.specify(
        ClipSize(
            image=224,
            patch=28,
            width=128,
            layers=2,
            dim=48,
            context=117,
            vocabulary=49408,
            text_width=64,
            text_layers=2,
            text_heads=2,
        )
    )
)
RESNET50 = _timm(resnet.RESNET50, 128, layers=(1, 1, 1, 1), channels=(4, 8, 16, 32))
EFFICIENTNET_V2_S = _timm(efficientnet_v2.S, 320, channel_multiplier=0.25, depth_multiplier=0.2)
DINOV3_B = _timm(dinov3.B, 64, embed_dim=64, depth=2, num_heads=2)
