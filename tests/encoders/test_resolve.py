"""A reference resolves to a contract, and to an encoder that keeps it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embedcache.contract import Preprocessing
from embedcache.encoders.resolve import ResolvedEncoder, contract_of, load_encoder, resolve
from embedcache.encoders.spec import EncoderSpec, Variant
from embedcache.encoders.weights import HubFile
from embedcache.errors import (
    BadInputError,
    DeviceMissingError,
    PathMissingError,
    ReferenceSyntaxError,
    UnknownNameError,
    VariantUnknownError,
    WeightsMismatchError,
    WeightsMissingError,
    WeightsUnwantedError,
)


def noise(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape)).astype(np.uint8)


@pytest.fixture
def test_vit(tmp_path: Path) -> Path:
    """A whole `test_vit` with its classifier, as timm's users save theirs."""
    from embedcache.encoders.torchvision_repair import repair_torchvision

    repair_torchvision()
    import timm
    import torch

    torch.manual_seed(5)
    torch.save(timm.create_model("test_vit", num_classes=7).state_dict(), tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


def test_named_encoders_are_known_without_torch() -> None:
    code = (
        "import sys\n"
        "from embedcache.encoders.resolve import contract_of\n"
        "print(contract_of('pixels').dim, contract_of('efficientnet-lite0').dim)\n"
        "print({'torch', 'timm', 'open_clip', 'torchvision'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "256 1280\nset()\n"


def test_pixels_runs_without_torch_and_keeps_its_bytes() -> None:
    code = (
        "import sys, numpy as np\n"
        "from PIL import Image\n"
        "from embedcache.encoders.resolve import load_encoder\n"
        "pixels = load_encoder('pixels')\n"
        "grey = np.arange(256, dtype=np.uint8).reshape(16, 16)\n"
        "prepared = pixels.prepare(Image.fromarray(grey))\n"
        "vector = pixels.encode(prepared[None])\n"
        "assert prepared.shape == (1, 16, 16) and vector.shape == (1, 256)\n"
        "assert vector.dtype == np.float32\n"
        "assert np.array_equal(vector[0], (np.arange(256) / 255).astype(np.float32))\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_precision_leaves_pixels_as_it_is_and_says_so() -> None:
    resolved = resolve("pixels@bf16")
    assert resolved.name == "pixels"
    assert resolved.contract == contract_of("pixels")
    assert resolved.notes == ("pixels has no network, so @bf16 changes nothing",)


REFUSED: list[tuple[str, type[BadInputError], str]] = [
    ("nope", UnknownNameError, "there is no encoder 'nope'"),
    ("timm:test_vitt=random", UnknownNameError, "test_vit, "),
    ("timm:resnet50.a9_in1k=random", UnknownNameError, "a1_in1k"),
    ("pixels=x.pth", WeightsUnwantedError, "it has no weights"),
    ("pixels@cls", VariantUnknownError, "no variant @cls; choose among @bf16, @fp16"),
    ("efficientnet-lite0@cls", VariantUnknownError, "choose among @bf16, @fp16"),
    ("efficientnet-lite0@bf16@fp16", ReferenceSyntaxError, "one precision at most"),
    ("efficientnet-lite0=random", WeightsUnwantedError, "timm:tf_efficientnet_lite0=random"),
    ("efficientnet-lite0=/none/w.pth", PathMissingError, "does not exist"),
    ("timm:test_vit=/none/w.pth", PathMissingError, "does not exist"),
    ("timm:gcvit_tiny", WeightsMissingError, "give a file .timm:gcvit_tiny=PATH. or ask for"),
]


@pytest.mark.parametrize(("reference", "error", "mend"), REFUSED, ids=[case[0] for case in REFUSED])
def test_what_cannot_be_resolved_says_what_can(
    reference: str, error: type[BadInputError], mend: str
) -> None:
    with pytest.raises(error, match=mend):
        resolve(reference)


def test_random_weights_are_marked_and_belong_to_their_seed() -> None:
    zero, one = contract_of("timm:test_vit=random"), contract_of("timm:test_vit=random:1")
    assert zero.weights == "random:0"
    assert zero.random_weights
    assert one.weights == "random:1"
    assert zero.feature_id != one.feature_id


def test_random_weights_depend_on_nothing_but_the_seed() -> None:
    import torch

    first = load_encoder("timm:test_vit=random:3")
    torch.manual_seed(99)
    state = torch.random.get_rng_state()
    second = load_encoder("timm:test_vit=random:3")
    assert torch.equal(torch.random.get_rng_state(), state)
    code = (
        "import sys, numpy as np, torch\n"
        "torch.set_num_threads(2)\n"
        "from embedcache.encoders.resolve import load_encoder\n"
        "vit = load_encoder('timm:test_vit=random:3')\n"
        "for tensor in vit.module.state_dict().values():\n"
        "    sys.stdout.buffer.write(tensor.numpy().tobytes())\n"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    for encoder in (first, second):
        tensors = encoder.module.state_dict().values()  # type: ignore[attr-defined]  # a network
        assert b"".join(tensor.numpy().tobytes() for tensor in tensors) == other
    assert not np.array_equal(
        first.encode(noise(1, 3, 160, 160)),
        load_encoder("timm:test_vit=random:4").encode(noise(1, 3, 160, 160)),
    )


def test_a_resolved_encoder_crosses_a_process_pool() -> None:
    before = resolve("timm:test_vit@fp16=random")
    after: ResolvedEncoder = pickle.loads(pickle.dumps(before))
    assert after.contract == before.contract
    batch = noise(2, 3, 160, 160)
    assert np.array_equal(after.build().encode(batch), before.build().encode(batch))


@pytest.mark.parametrize("arch", ["test_vit", "test_vit3", "test_efficientnet", "test_convnext"])
def test_a_timm_model_gives_timm_s_own_pooled_features(arch: str, tmp_path: Path) -> None:
    from embedcache.encoders.torchvision_repair import repair_torchvision

    repair_torchvision()
    import timm
    import torch

    torch.manual_seed(1)
    model = timm.create_model(arch, num_classes=11).eval()
    torch.save(model.state_dict(), tmp_path / "w.pth")
    encoder = load_encoder(f"timm:{arch}={tmp_path / 'w.pth'}")
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, is_training=False)
    picture = Image.fromarray(noise(1, 90, 130, 3)[0])
    with torch.inference_mode():
        maps = model.forward_features(transform(picture)[None])
        expected = model.forward_head(maps, pre_logits=True).numpy()
    found = encoder.encode(encoder.prepare(picture)[None])
    assert found.dtype == np.float32
    assert found.shape == (1, encoder.contract.dim)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_timm_contract_states_pooling_preprocessing_and_source() -> None:
    resolved = resolve("timm:test_vit=random")
    assert resolved.contract.pooling == "timm-forward:token"
    assert contract_of("timm:test_vit3=random").pooling == "timm-forward:map"
    assert contract_of("timm:test_efficientnet=random").pooling == "timm-forward:avg"
    # timm/models/vision_transformer.py: test_vit.r160_in1k, crop .95 of 160, mean and std .5.
    assert resolved.contract.preprocessing == Preprocessing(
        height=160, width=160, mean=(0.5,) * 3, std=(0.5,) * 3, fit="centre-crop", crop=0.95
    )
    assert isinstance(resolved.spec, EncoderSpec)
    (source,) = resolved.spec.sources
    assert isinstance(source, HubFile)
    assert source.repository == "timm/test_vit.r160_in1k"


def test_the_same_weights_are_the_same_feature_wherever_they_lie(test_vit: Path) -> None:
    moved = test_vit.with_name("moved.pth")
    moved.write_bytes(test_vit.read_bytes())
    assert contract_of(f"timm:test_vit={test_vit}") == contract_of(f"timm:test_vit={moved}")


def test_weights_of_another_network_are_named_with_their_file(test_vit: Path) -> None:
    with pytest.raises(WeightsMismatchError, match=r"^vit\.pth does not fit timm:test_vit2:"):
        load_encoder(f"timm:test_vit2={test_vit}")


def test_a_timm_name_of_a_named_encoder_says_that_it_is_another() -> None:
    (note,) = resolve("timm:tf_efficientnet_lite0=random").notes
    assert note.startswith("timm:tf_efficientnet_lite0 is not efficientnet-lite0")
    assert "centre-crop keeping 0.875 to 224" in note
    assert resolve("timm:test_vit=random").notes == ()


def test_weights_of_one_s_own_come_with_a_word_about_their_preprocessing(test_vit: Path) -> None:
    (note,) = resolve(f"timm:test_vit={test_vit}").notes
    assert "another mean, std or crop" in note


@pytest.mark.parametrize(("half", "worst"), [("bf16", 0.05), ("fp16", 0.01)])
def test_half_precision_is_another_feature_close_to_the_first(half: str, worst: float) -> None:
    full, less = load_encoder("timm:test_vit=random"), load_encoder(f"timm:test_vit@{half}=random")
    assert less.name == f"timm:test_vit@{half}"
    assert less.contract.precision == half
    assert less.contract.feature_id != full.contract.feature_id
    batch = noise(2, 3, 160, 160)
    expected, found = full.encode(batch), less.encode(batch)
    assert found.dtype == np.float32
    assert not np.array_equal(found, expected)
    assert np.linalg.norm(found - expected) < worst * np.linalg.norm(expected)


@pytest.mark.parametrize("reference", ["timm:test_vit=random", "efficientnet-lite0"])
def test_a_row_does_not_depend_on_the_others_of_its_batch(reference: str) -> None:
    encoder = load_encoder(reference)
    side = encoder.contract.preprocessing.height
    batch = noise(4, 3, side, side)
    alone = np.zeros_like(batch)
    alone[2] = batch[2]
    assert np.array_equal(encoder.encode(batch)[2], encoder.encode(alone)[2])


def test_the_matrix_arithmetic_of_the_process_is_neither_used_nor_changed() -> None:
    import torch

    encoder = load_encoder("timm:test_vit=random")
    used = []
    encoder.module.register_forward_hook(  # type: ignore[attr-defined]  # a network
        lambda *_: used.append(torch.get_float32_matmul_precision())
    )
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        encoder.encode(noise(1, 3, 160, 160))
        assert used == ["highest"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_variant_replaces_what_it_names_and_keeps_the_rest(test_vit: Path) -> None:
    plain = resolve(f"timm:test_vit={test_vit}").spec
    assert isinstance(plain, EncoderSpec)
    grown = EncoderSpec(
        name="mine",
        dim=plain.dim,
        architecture="mine",
        preprocessing=plain.preprocessing,
        pooling="token",
        build=plain.build,
        variants={"mean": Variant(pooling="mean", dim=3)},
    )
    assert (grown.varied("mean").pooling, grown.varied("mean").dim) == ("mean", 3)
    assert grown.varied("mean").preprocessing == plain.preprocessing
    with pytest.raises(VariantUnknownError, match="@mean, @bf16, @fp16"):
        grown.varied("cls")


def test_a_device_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(DeviceMissingError, match=r"'cuda:99'.*choose one of auto, "):
        resolve("timm:test_vit=random").build("cuda:99")


def test_an_open_clip_tower_gives_encode_image() -> None:
    from embedcache.encoders.torchvision_repair import repair_torchvision

    repair_torchvision()
    import open_clip
    import torch

    resolved = resolve("open-clip:ViT-S-32-alt=random")
    assert isinstance(resolved.spec, EncoderSpec)
    assert resolved.spec.untrained is not None
    model, _, transform = open_clip.create_model_and_transforms("ViT-S-32-alt")
    model.load_state_dict(resolved.spec.untrained(0), strict=True)
    picture = Image.fromarray(noise(1, 260, 310, 3)[0])
    with torch.inference_mode():
        expected = model.eval().encode_image(transform(picture)[None]).numpy()
    encoder = resolved.build()
    found = encoder.encode(encoder.prepare(picture)[None])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_open_clip_s_traps_are_closed(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"neither a file nor one of its tags.*openai"):
        resolve("open-clip:ViT-B-32=opneai")
    with pytest.raises(WeightsMissingError, match=r"open_clip has no default.*random"):
        resolve("open-clip:ViT-B-32")
    with pytest.raises(UnknownNameError, match="ViT-B-32"):
        resolve("open-clip:ViT-B-33=random")
    # SigLIP's tags all want mean = std = .5, so a file of its weights gets these too.
    (tmp_path / "w.pth").write_bytes(b"weights")
    siglip = resolve(f"open-clip:ViT-B-16-SigLIP={tmp_path / 'w.pth'}")
    assert siglip.contract.preprocessing.mean == (0.5, 0.5, 0.5)
    assert "open_clip's weights for it" in siglip.notes[0]
