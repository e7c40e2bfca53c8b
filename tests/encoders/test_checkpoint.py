"""Weight files are read without running their code, and loaded whole or not at all."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: TID253  # nothing here runs without it
from safetensors.torch import save_file
from torch import nn  # noqa: TID253  # likewise

from embedcache.encoders.checkpoint import load_strict, looks_like, read_state
from embedcache.encoders.weights import sha256_file
from embedcache.errors import WeightsChangedError, WeightsMismatchError, WeightsUnreadableError

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([7.0, 8.0])}


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == TENSORS.keys() and all(torch.equal(found[k], TENSORS[k]) for k in found)


def saved(path: Path, content: Any, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"state_dict": TENSORS, "epoch": 3},
        {"model": TENSORS, "optimizer": {"lr": 0.1}},
        {"state_dict": {f"module.{key}": value for key, value in TENSORS.items()}},
    ],
    ids=["bare", "under state_dict", "under model", "from parallel training"],
)
def test_tensors_are_found_where_trainers_put_them(tmp_path: Path, content: Any) -> None:
    assert same(read_state(saved(tmp_path / "w.pth", content)))


def test_safetensors_and_torch_s_old_format_are_told_by_content(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "w.bin")
    assert same(read_state(tmp_path / "w.bin"))
    old = saved(tmp_path / "w.safetensors", TENSORS, _use_new_zipfile_serialization=False)
    assert same(read_state(old))


class Runs:
    """A pickle of this makes a file when it is loaded by pickle itself."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_does_not_run(tmp_path: Path, zipped: bool) -> None:
    trace = tmp_path / "ran"
    content = {**TENSORS, "x": Runs(trace)}
    file = saved(tmp_path / "w.pth", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsUnreadableError, match=r"made by posix\.mkdir, which is no"):
        read_state(file)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Runs(trace)))
    assert trace.is_dir()  # it would have run


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<!DOCTYPE html><p>Quota exceeded", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a Git LFS pointer"),
        (b"", "damaged or no checkpoint"),
        (b"PK\x03\x04 and then nothing more", "damaged or no checkpoint"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{not json at all", "damaged safetensors"),
    ],
)
def test_what_a_failed_download_leaves_is_named(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "w.pth"
    file.write_bytes(content)
    with pytest.raises(WeightsUnreadableError, match=reason):
        read_state(file)


def test_two_checkpoints_in_one_file_are_not_chosen_between(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", {"state_dict": TENSORS, "model": TENSORS})
    with pytest.raises(WeightsUnreadableError, match=r"several checkpoints \(state_dict, model\)"):
        read_state(file)


def test_a_family_may_say_which_of_several_checkpoints_it_means(tmp_path: Path) -> None:
    averaged = {key: value + 1 for key, value in TENSORS.items()}
    content = {"state_dict": averaged, "ema_state_dict": TENSORS, "model": "vit_base"}
    file = saved(tmp_path / "w.pth", content)
    assert same(read_state(file, wrapper="ema_state_dict"))
    with pytest.raises(WeightsUnreadableError, match=r"several .*state_dict, ema_state_dict"):
        read_state(file)
    # A file that was unwrapped by its owner is taken as it is.
    assert same(read_state(saved(tmp_path / "u.pth", TENSORS), wrapper="ema_state_dict"))


def test_what_was_read_is_no_view_of_the_file(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", TENSORS)
    state = read_state(file)
    file.write_bytes(bytes(file.stat().st_size))
    assert same(state)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({**TENSORS, "epoch": 3}, "also holds 'epoch', which is no tensor"),
        ({}, "it is empty"),
        (torch.zeros(2), "it holds one Tensor, no names"),
    ],
)
def test_a_file_that_is_not_all_named_tensors_is_refused(
    tmp_path: Path, content: Any, reason: str
) -> None:
    with pytest.raises(WeightsUnreadableError, match=reason):
        read_state(saved(tmp_path / "w.pth", content))


def test_a_file_that_changed_since_it_was_resolved_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "w.pth", TENSORS)
    resolved = sha256_file(file)
    assert same(read_state(file, sha256=resolved))
    saved(file, {**TENSORS, "a.bias": torch.zeros(2)})
    with pytest.raises(WeightsChangedError):
        read_state(file, sha256=resolved)


def layer() -> nn.Module:
    return nn.ModuleDict({"a": nn.Linear(3, 2)})


def test_loading_gives_every_parameter_its_tensor() -> None:
    model = load_strict(layer(), {**TENSORS, "head.w": torch.zeros(1)}, unused=("head.",))
    assert same(dict(model.state_dict()))


def test_loading_names_what_is_missing_left_over_and_misshapen() -> None:
    given = {"a.weight": torch.zeros(3, 2), "b.bias": torch.zeros(2)}
    with pytest.raises(WeightsMismatchError) as caught:
        load_strict(layer(), given)
    error = caught.value
    assert error.missing == ("a.bias",)
    assert error.unexpected == ("b.bias",)
    assert error.misshapen == ("a.weight (3, 2) for (2, 3)",)


def test_a_mismatch_lists_ten_names_and_counts_the_rest() -> None:
    error = WeightsMismatchError(tuple(f"k{i}" for i in range(14)), (), (), "a ResNet")
    assert "14 missing (k0, k1, k2, k3, k4, k5, k6, k7, k8, k9 and 4 more)" in str(error)
    assert "it looks like a ResNet" in str(error)


@pytest.mark.parametrize(
    ("key", "layout"),
    [
        ("_blocks.0._depthwise_conv.weight", "efficientnet_pytorch"),
        ("_backbone_encoder.stage1.0.qkv.weight", "MOFO"),
        ("bbox_head.reg.weight", "UltraSAM"),
        ("rel_pos_bias.relative_position_bias_table", "USFM"),
        ("visual.trunk.network.0.weight", "MobileCLIP"),
        ("visual.trunk.blocks.0.attn.qkv.weight", "BiomedCLIP"),
        ("decoder_blocks.0.attn.qkv.weight", "masked autoencoder"),
        ("storage_tokens", "DINOv3 as Meta"),
        ("reg_token", "register tokens"),
        ("model.blocks.0.attn.qkv.weight", "vision transformer"),
        ("blocks.1.0.conv_exp.weight", "timm EfficientNet"),
        ("visual.conv1.weight", "CLIP"),
        ("layer1.0.conv1.weight", "ResNet"),
        ("blocks.0.attn.qkv.weight", "vision transformer"),
        ("something.else", "the first named 'something.else'"),
    ],
)
def test_a_foreign_checkpoint_is_recognised_by_its_names(key: str, layout: str) -> None:
    assert layout in looks_like({key: torch.zeros(1)})


ODD = {
    "a trillion numbers behind four bytes": torch.ones(1).expand(1 << 40),
    "numbers that lie nowhere": torch.ones(3, device="meta"),
    "mostly zeros": torch.eye(3).to_sparse(),
    "complex numbers": torch.ones(3, dtype=torch.complex64),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("odd", ODD.values(), ids=list(ODD))
def test_tensors_that_hold_no_plain_numbers_are_refused(
    tmp_path: Path, odd: torch.Tensor, zipped: bool
) -> None:
    content = {**TENSORS, "odd": odd}
    file = saved(tmp_path / "w.pth", content, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsUnreadableError, match="'odd' is no plain tensor"):
        read_state(file)


def safetensors(path: Path, header: str, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode() + data)
    return path


def test_a_header_of_any_length_is_no_web_page(tmp_path: Path) -> None:
    header = '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    numbers = struct.pack("<2f", 1, 2)
    for length in (ord("<"), (ord("<") << 8) + ord(" ")):
        file = safetensors(tmp_path / "w.safetensors", header.ljust(length), numbers)
        assert read_state(file)["a"].tolist() == [1, 2]


@pytest.mark.parametrize("shape", ["[0,18446744073709551615]", "[-1]", "[9223372036854775808]"])
def test_a_shape_that_no_tensor_has_is_refused(tmp_path: Path, shape: str) -> None:
    header = f'{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}}}'
    with pytest.raises(WeightsUnreadableError, match="damaged safetensors"):
        read_state(safetensors(tmp_path / "w.safetensors", header))
