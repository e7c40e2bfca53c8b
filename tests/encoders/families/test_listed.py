"""What the families' encoders say of themselves: pinned sources, licences, overlap, no torch."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest

from embedcache import registry
from embedcache.encoders.resolve import contract_of, load_encoder
from embedcache.encoders.spec import EncoderSpec
from embedcache.encoders.weights import DriveFile, HubFile


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A row of the tables that the encoders were read from (encoders.md, more-encoders.md)."""

    name: str
    dim: int
    side: int
    source: str
    licence: str
    seen: str


LISTED = [
    Listed(name=name, dim=dim, side=side, source=source, licence=licence, seen=seen)
    for name, dim, side, source, licence, seen in (
        ("resnet50", 2048, 224, "timm/resnet50.a1_in1k", "Apache-2.0", "not listed"),
        ("resnet50-tv", 2048, 224, "timm/resnet50.tv_in1k", "BSD-3-Clause", "not listed"),
        ("resnet50-tv2", 2048, 224, "timm/resnet50.tv2_in1k", "BSD-3-Clause", "not listed"),
        (
            "efficientnet-v2-s",
            1280,
            384,
            "timm/tf_efficientnetv2_s.in21k_ft_in1k",
            "Apache-2.0",
            "not listed",
        ),
        (
            "efficientnet-v2-s-in1k",
            1280,
            384,
            "timm/tf_efficientnetv2_s.in1k",
            "Apache-2.0",
            "not listed",
        ),
        (
            "efficientnet-v2-rw-s",
            1792,
            384,
            "timm/efficientnetv2_rw_s.ra2_in1k",
            "Apache-2.0",
            "not listed",
        ),
        (
            "efficientnet-v2-m",
            1280,
            480,
            "timm/tf_efficientnetv2_m.in21k_ft_in1k",
            "Apache-2.0",
            "not listed",
        ),
        (
            "efficientnet-v2-l",
            1280,
            480,
            "timm/tf_efficientnetv2_l.in21k_ft_in1k",
            "Apache-2.0",
            "not listed",
        ),
        *(
            (
                f"dinov3-{size}",
                dim,
                256,
                f"timm/vit_{long}_patch16_dinov3.lvd1689m",
                "DINOv3 License",
                "unknown",
            )
            for size, long, dim in (
                ("s", "small", 384),
                ("s-plus", "small_plus", 384),
                ("b", "base", 768),
                ("l", "large", 1024),
                ("h-plus", "huge_plus", 1280),
            )
        ),
        *(
            (
                name,
                dim,
                224,
                f"timm/vit_{long}_patch14_reg4_dinov2.lvd142m",
                "Apache-2.0",
                "unknown",
            )
            for name, long, dim in (
                ("dinov2-s", "small", 384),
                ("dinov2", "base", 768),
                ("dinov2-l", "large", 1024),
            )
        ),
        ("usfm", 768, 224, "1KRwXZgYterH895Z8EpXpR1L1eSMMJo4q", "CC-BY-NC-4.0", "unknown"),
        ("tinyusfm", 192, 224, "1P_wDuU-StALLJEBaymioaYu52CScW-l-", "Apache-2.0", "unknown"),
        ("usf-mae", 768, 224, "1ZPu_7KhMEuaq-XdLhVp2EEgMgLJ4dKhr", "MIT", "yes"),
        ("ultrafedfm", 768, 224, "13cczqVFk84c_9QDP2OLURU1jWryCky5f", "Apache-2.0", "unknown"),
        ("urfm-b", 768, 224, "QingboKang/URFM", "MIT", "unknown"),
        ("urfm-l", 1024, 224, "QingboKang/URFM", "MIT", "unknown"),
    )
]
each = pytest.mark.parametrize("row", LISTED, ids=lambda row: row.name)


@each
def test_an_encoder_says_what_the_tables_say(row: Listed) -> None:
    spec = registry.load("encoders", row.name)
    assert isinstance(spec, EncoderSpec)
    assert (spec.name, spec.dim, spec.licence) == (row.name, row.dim, row.licence)
    assert (spec.preprocessing.height, spec.preprocessing.width) == (row.side, row.side)
    source = spec.sources[0]
    assert isinstance(source, DriveFile | HubFile)
    assert row.source == (source.id if isinstance(source, DriveFile) else source.repository)
    seen = {one.cohort: one for one in spec.overlap}
    assert set(seen) == {"fetal-planes-db", "african-planes"}
    assert seen["fetal-planes-db"].answer == row.seen
    # No source names the African planes, so that no encoder can be known to have seen them.
    assert seen["african-planes"].answer in ("not listed", "unknown")
    assert all(one.source and one.checked == "2026-11-24" for one in spec.overlap)
    assert spec.citation
    assert spec.domain
    assert spec.parameters > 0
    assert all(variant.about for variant in spec.variants.values())


def test_all_variants_of_all_sizes_have_features_of_their_own() -> None:
    contracts = [
        contract_of(f"{row.name}{variant}=random")
        for row in LISTED
        for variant in ("", *(f"@{v}" for v in registry.load("encoders", row.name).variants))
    ]
    # resnet50-tv@squash and -tv2@squash (and S and S-in1k, UltraFedFM, USF-MAE and URFM in part)
    # are one network prepared in one way: only their weights, here none's, tell them apart.
    same = {(c.architecture, c.preprocessing, c.pooling, c.dim) for c in contracts}
    assert len({c.feature_id for c in contracts}) == len(same)


def test_contracts_are_known_without_torch() -> None:
    code = (
        "import sys\n"
        "from embedcache.encoders.resolve import contract_of\n"
        f"for name in {[row.name for row in LISTED]!r}:\n"
        "    assert contract_of(name + '=random').random_weights\n"
        "print({'torch', 'timm', 'torchvision', 'cv2'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def runs(name: str) -> None:
    encoder = load_encoder(f"{name}=random:3")
    height = encoder.contract.preprocessing.height
    picture = np.random.default_rng(0).integers(0, 256, (1, 3, height, height)).astype(np.uint8)
    vector = encoder.encode(picture)
    assert vector.shape == (1, encoder.contract.dim)
    assert np.isfinite(vector).all()
    assert vector.std() > 0.01


@pytest.mark.parametrize("name", ["tinyusfm", "dinov3-s"])
def test_random_weights_run_from_the_published_layout(name: str) -> None:
    runs(name)


@pytest.mark.slow
@each
def test_every_size_runs_with_random_weights(row: Listed) -> None:
    runs(row.name)
