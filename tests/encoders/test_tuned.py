"""A tuned network comes back from its file to the bit, whatever its family makes of checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it

from embedcache.encoders.convert import convert
from embedcache.encoders.encoder_file import read_header
from embedcache.encoders.network import NetworkEncoder
from embedcache.encoders.resolve import ResolvedEncoder, resolve
from embedcache.encoders.tuned import write_tuned
from embedcache.errors import DigestDiffersError, EncoderUnusableError, NoTextError
from embedcache.provenance import Overlap

SEEN = Overlap(cohort="table", answer="yes", source="tuned on it", checked="2026-11-24")


def changed(encoder: ResolvedEncoder) -> NetworkEncoder:
    """The encoder with every number moved a little, as training would."""
    built = encoder.build_from(encoder.state())
    generator = torch.Generator().manual_seed(0)
    for part in (built.module, built.pool):
        for tensor in () if part is None else part.state_dict().values():
            if tensor.is_floating_point():
                tensor.add_(torch.randn(tensor.shape, generator=generator) * 1e-3)
    return built


def state_of(built: NetworkEncoder) -> dict[str, torch.Tensor]:
    parts = {"trunk": built.module, "pool": built.pool}
    return {
        f"{name}.{key}": tensor
        for name, part in parts.items()
        if part is not None
        for key, tensor in part.state_dict().items()
    } | {"head.weight": torch.zeros(3, 2)}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("tuned") / "vit.safetensors"
    parent = resolve("timm:test_vit=random:3")
    write_tuned(file, parent, state_of(changed(parent)), name="test_vit+fine-tune-0", seen=[SEEN])
    return file


@pytest.mark.parametrize(
    "reference",
    [
        pytest.param("timm:test_vit=random:3", id="a plain transformer"),
        pytest.param("timm:test_resnet=random:3", id="batch norm"),
        pytest.param("timm:test_vit3=random:3", id="rotary positions"),
        pytest.param("mofo=random", id="a network of our own", marks=pytest.mark.slow),
        pytest.param(
            "timm:beit_base_patch16_224=random", id="position biases", marks=pytest.mark.slow
        ),
    ],
)
def test_a_tuned_encoder_comes_back_to_the_bit(reference: str, tmp_path: Path) -> None:
    parent = resolve(reference)
    built = changed(parent)
    file = tmp_path / "tuned.safetensors"
    write_tuned(file, parent, state_of(built), name="x", seen=[SEEN])
    how = parent.contract.preprocessing
    batch = np.random.default_rng(0).integers(0, 256, (2, 3, how.height, how.width), np.uint8)
    assert np.array_equal(resolve(str(file)).build().encode(batch), built.encode(batch))


def test_its_contract_names_its_parent_and_its_own_weights(tuned: Path) -> None:
    parent, child = resolve("timm:test_vit=random:3"), resolve(str(tuned))
    assert child.contract.parent == parent.contract.feature_id
    assert child.contract.feature_id != parent.contract.feature_id
    assert child.contract.weights == f"sha256:{read_header(tuned).tensors}"
    assert child.name == "test_vit+fine-tune-0"
    assert not child.contract.random_weights


def test_it_says_that_it_has_seen_the_cohort_that_it_was_tuned_on(tuned: Path) -> None:
    assert resolve(str(tuned)).overlap == (SEEN,)


def test_what_was_tuned_can_be_tuned_again(tuned: Path, tmp_path: Path) -> None:
    child, file = resolve(str(tuned)), tmp_path / "again.safetensors"
    built = changed(child)
    write_tuned(file, child, state_of(built), name="y", seen=[SEEN])
    batch = np.full((1, 3, 160, 160), 90, np.uint8)
    again = resolve(str(file))
    assert again.contract.parent == child.contract.feature_id
    assert np.array_equal(again.build().encode(batch), built.encode(batch))


def test_other_numbers_under_its_contract_are_refused(tuned: Path, tmp_path: Path) -> None:
    content = bytearray(tuned.read_bytes())
    content[-1] ^= 1
    damaged = tmp_path / tuned.name
    damaged.write_bytes(content)
    with pytest.raises(DigestDiffersError):
        resolve(str(damaged)).build()


def test_it_is_not_converted_again_and_reads_no_prompts(tuned: Path, tmp_path: Path) -> None:
    with pytest.raises(EncoderUnusableError, match="already"):
        convert(str(tuned), tmp_path / "other.safetensors")
    with pytest.raises(NoTextError, match="tuned"):
        resolve(str(tuned)).build_text()


def test_a_state_that_does_not_fit_leaves_no_file(tmp_path: Path) -> None:
    parent, file = resolve("timm:test_vit=random"), tmp_path / "x.safetensors"
    state = state_of(changed(parent))
    del state["trunk.norm.weight"]
    with pytest.raises(EncoderUnusableError, match=r"norm\.weight"):
        write_tuned(file, parent, state, name="x", seen=[])
    assert not file.exists()
