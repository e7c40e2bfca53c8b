"""A converted encoder gives the same bits under the same feature id, or is refused."""

from __future__ import annotations

import contextlib
import itertools
import json
import pickle
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch  # noqa: TID253  # nothing here runs without it
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from embedcache.encoders.convert import convert
from embedcache.encoders.encoder_file import (
    digest_of,
    read_encoder_file,
    read_header,
    write_encoder_file,
)
from embedcache.encoders.reference import parse_encoder
from embedcache.encoders.resolve import ResolvedEncoder, load_encoder, resolve
from embedcache.encoders.torchvision_repair import repair_torchvision
from embedcache.errors import (
    DigestDiffersError,
    EncoderFileError,
    EncoderUnusableError,
    FileInTheWayError,
    PathMissingError,
    VariantUnknownError,
    WeightsMismatchError,
    WeightsUnwantedError,
)
from embedcache.schema import canonical_json, plain
from embedcache.testing.hostile_store import everywhere


def noise(count: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training checkpoint of `test_vit`: its classifier and an optimiser are of no use here."""
    repair_torchvision()
    import timm

    torch.manual_seed(5)
    model = timm.create_model("test_vit", num_classes=7).state_dict()
    file = tmp_path_factory.mktemp("trained") / "vit.pth"
    optimizer = {"state": {n: {"exp_avg": torch.zeros(100_000)} for n in range(9)}}
    torch.save({"model": model, "optimizer": optimizer, "epoch": 3}, file)
    return file


@pytest.fixture(scope="module")
def converted(trained: Path) -> Path:
    out = trained.with_name("vit.safetensors")
    convert(f"timm:test_vit={trained}", out)
    return out


def test_a_converted_encoder_is_the_same_feature(trained: Path, converted: Path) -> None:
    before, after = resolve(f"timm:test_vit={trained}"), resolve(str(converted))
    assert (after.name, after.contract) == (before.name, before.contract)
    assert (after.licence, after.citation) == (before.licence, before.citation)
    batch = noise(3, 3, 160, 160)
    assert np.array_equal(after.build().encode(batch), before.build().encode(batch))


def test_it_holds_what_the_encoder_uses_and_nothing_else(trained: Path, converted: Path) -> None:
    model = torch.load(trained, weights_only=True)["model"]
    assert load_file(converted).keys() == {key for key in model if not key.startswith("head.")}
    assert converted.stat().st_size < trained.stat().st_size / 2


def test_the_contract_in_its_metadata_is_canonical(converted: Path) -> None:
    with safe_open(converted, "pt") as file:
        text = file.metadata()["embedcache"]
    assert text.encode() == canonical_json(json.loads(text))
    assert json.loads(text)["contract"] == json.loads(
        canonical_json(resolve(str(converted)).contract)
    )


def test_its_header_is_read_without_torch(converted: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from embedcache.encoders.encoder_file import read_header\n"
        "print(read_header(Path(sys.argv[1])).name, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(converted)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "timm:test_vit False\n"


def test_it_crosses_a_process_pool(converted: Path) -> None:
    after: ResolvedEncoder = pickle.loads(pickle.dumps(resolve(str(converted))))
    batch = noise(1, 3, 160, 160)
    assert np.array_equal(after.build().encode(batch), load_encoder(str(converted)).encode(batch))


def test_a_variant_is_converted_as_it_is(trained: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.safetensors"
    convert(f"timm:test_vit@bf16={trained}", half)
    assert resolve(str(half)).contract == resolve(f"timm:test_vit@bf16={trained}").contract


def test_a_precision_may_be_asked_of_it_and_nothing_else(trained: Path, converted: Path) -> None:
    half = resolve(f"{converted}@bf16")
    assert half.contract == resolve(f"timm:test_vit@bf16={trained}").contract
    assert half.name == "timm:test_vit@bf16"
    with pytest.raises(VariantUnknownError, match="choose among @bf16, @fp16"):
        resolve(f"{converted}@cls")
    with pytest.raises(WeightsUnwantedError, match="it holds its own"):
        resolve(f"{converted}={trained}")


def test_untrained_weights_stay_marked(tmp_path: Path) -> None:
    convert("timm:test_vit=random:3", tmp_path / "r.safetensors")
    assert resolve(str(tmp_path / "r.safetensors")).contract.weights == "random:3"


@pytest.mark.parametrize(
    ("text", "name", "folder"),
    [
        ("w.safetensors", "w.safetensors", ""),
        ("/data/w.safetensors@bf16", "w.safetensors", "/data/"),
        ("./a b/w.safetensors", "w.safetensors", "./a b/"),
    ],
)
def test_an_encoder_file_is_told_by_its_suffix(text: str, name: str, folder: str) -> None:
    ref = parse_encoder(text)
    assert (ref.name, ref.folder, ref.encoder_file) == (name, folder, Path(folder + name))
    assert parse_encoder("usfm=/w/x.safetensors").encoder_file is None


def test_nothing_is_written_over(trained: Path, converted: Path, tmp_path: Path) -> None:
    with pytest.raises(FileInTheWayError):
        convert(f"timm:test_vit={trained}", converted)
    with pytest.raises(EncoderFileError, match=r"does not end in \.safetensors"):
        convert(f"timm:test_vit={trained}", tmp_path / "w.pth")
    assert not list(tmp_path.iterdir())


def test_what_has_no_weights_is_not_converted(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnusableError, match="no weights to convert"):
        convert("pixels", tmp_path / "p.safetensors")


def changed(path: Path, out: Path, **fields: object) -> Path:
    """The file with other words in its contract, and the same tensors."""
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()["embedcache"])
    content["contract"] |= {
        key: value for key, value in fields.items() if key in content["contract"]
    }
    content |= {key: value for key, value in fields.items() if key not in content["contract"]}
    save_file(load_file(path), out, metadata={"embedcache": json.dumps(content)})
    return out


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"code": "0"}, "run in another way by now; convert or tune"),
        ({"pooling": "mean"}, "run in another way by now"),
        ({"format_version": 2}, "of another version; pip install"),
        ({"stranger": 1}, "its contract is damaged"),
    ],
)
def test_a_contract_that_does_not_hold_here_is_refused(
    converted: Path, tmp_path: Path, fields: dict[str, object], problem: str
) -> None:
    with pytest.raises(EncoderFileError, match=problem):
        resolve(str(changed(converted, tmp_path / "x.safetensors", **fields)))


def test_tensors_that_changed_are_refused(converted: Path, tmp_path: Path) -> None:
    content = bytearray(converted.read_bytes())
    content[-1] ^= 1
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(DigestDiffersError, match=r"what x\.safetensors holds"):
        load_encoder(str(tmp_path / "x.safetensors"))
    (tmp_path / "y.safetensors").write_bytes(content[:-5])
    with pytest.raises(EncoderFileError, match="damaged"):
        load_encoder(str(tmp_path / "y.safetensors"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a checkpoint",
        struct.pack("<Q", 1 << 60) + b"{}",
        struct.pack("<Q", 5) + b"[1,2]",
        struct.pack("<Q", 40_000) + b"[" * 40_000,
    ],
    ids=["empty", "another kind", "a header beyond the file", "a list", "deep"],
)
def test_what_is_no_encoder_file_says_how_to_use_it(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(EncoderFileError, match=r"states no contract; .* it is NAME=x\.safet"):
        read_header(file)
    with pytest.raises(PathMissingError):
        read_header(tmp_path / "none.safetensors")


def test_every_kind_of_tensor_survives(converted: Path, tmp_path: Path) -> None:
    base = torch.arange(12.0)
    tensors = {
        "whole": base,
        "a view of it": base[2:6],
        "turned": base.reshape(3, 4).T,
        "half": torch.ones(3, dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "one": torch.tensor(7),
        "empty": torch.empty(0, 4),
    }
    contract = resolve(str(converted)).contract
    made = write_encoder_file(
        tmp_path / "x.safetensors", name="x", encoder="usfm", contract=contract, tensors=tensors
    )
    found = read_encoder_file(tmp_path / "x.safetensors", made.tensors)
    assert all(torch.equal(found[key], tensors[key]) for key in tensors)
    assert read_header(tmp_path / "x.safetensors") == made


def test_the_digest_tells_names_types_shapes_and_bytes_apart() -> None:
    one = {"a": torch.zeros(4), "b": torch.ones(2)}
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(4), "b": torch.tensor([1.0, 2.0])},
    ]
    assert digest_of(one) == digest_of(dict(reversed(one.items())))
    assert len({digest_of(state) for state in (one, *others)}) == 5


def test_another_network_s_file_is_named_with_what_it_was_given_for(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "other.pth")
    for name in ("tinyusfm", "fetalclip"):  # of an image-text model all tensors are kept
        with pytest.raises(WeightsMismatchError, match=rf"^other\.pth does not fit {name}: "):
            convert(f"{name}={tmp_path / 'other.pth'}", tmp_path / "new" / "out.safetensors")
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_not_there_is_made(converted: Path, tmp_path: Path) -> None:
    made = read_header(converted)
    contract, tensors = made.contract, read_encoder_file(converted, made.tensors)
    file = tmp_path / "new" / "out.safetensors"
    write_encoder_file(file, name="x", encoder="usfm", contract=contract, tensors=tensors)
    assert [one.name for one in file.parent.iterdir()] == [file.name]


def test_a_folder_that_cannot_be_made_is_the_system_s_word(converted: Path) -> None:
    contract = read_header(converted).contract
    file = converted / "below" / "x.safetensors"
    with pytest.raises(NotADirectoryError):
        write_encoder_file(
            file, name="x", encoder="usfm", contract=contract, tensors={"a": torch.zeros(1)}
        )


def test_a_full_disk_is_the_system_s_word(
    converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = read_header(converted).contract

    def full(*_: object, **__: object) -> None:
        # What safetensors 0.8 says on a full disk.
        raise SafetensorError('I/O error: No space left on device (os error 28) at path "/x"')

    monkeypatch.setattr("safetensors.torch.save_file", full)
    file = tmp_path / "x.safetensors"
    with pytest.raises(OSError, match="No space left") as caught:
        write_encoder_file(
            file, name="x", encoder="usfm", contract=contract, tensors={"a": torch.zeros(1)}
        )
    assert (caught.value.errno, caught.value.filename) == (28, str(file))
    assert not list(tmp_path.glob("x.*"))


def relabelled(file: Path, out: Path, text: str) -> Path:
    """The encoder file again, with another text in its metadata."""
    whole = file.read_bytes()
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    header = json.loads(whole[8:end])
    header["__metadata__"]["embedcache"] = text
    packed = json.dumps(header).encode()
    out.write_bytes(struct.pack("<Q", len(packed)) + packed + whole[end:])
    return out


def test_metadata_with_anything_anywhere_is_refused_or_read(
    converted: Path, tmp_path: Path
) -> None:
    said = plain(read_header(converted))
    said["blanks"] = [{"name": "a", "dtype": "float32", "shape": [2, 3]}]
    for text in itertools.islice(everywhere(said), 0, None, 3):
        file = relabelled(converted, tmp_path / "x.safetensors", text.decode())
        with contextlib.suppress(EncoderFileError):
            read_header(file)


@pytest.mark.parametrize(
    "blank",
    [
        {"name": "a", "dtype": "float32", "shape": [1 << 40]},
        {"name": "a", "dtype": "float32", "shape": [1 << 40, 1 << 40]},
        {"name": "a", "dtype": "float32", "shape": [-1]},
        {"name": "a", "dtype": "load", "shape": [1]},
    ],
    ids=["huge", "huger", "less than nothing", "a function of torch"],
)
def test_blanks_that_would_fill_the_memory_are_refused(
    blank: dict[str, object], converted: Path, tmp_path: Path
) -> None:
    said = {**plain(read_header(converted)), "blanks": [blank]}
    file = relabelled(converted, tmp_path / "x.safetensors", json.dumps(said))
    with pytest.raises(EncoderFileError):
        read_header(file)
