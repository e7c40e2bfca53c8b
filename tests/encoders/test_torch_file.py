"""Files with objects beside their tensors are read as data, and nothing in them runs."""

from __future__ import annotations

import argparse
import builtins
import collections
import contextlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch  # noqa: TID253  # nothing here runs without it
from hypothesis import given
from hypothesis import strategies as st

from embedcache.encoders.checkpoint import read_state
from embedcache.encoders.pickled import Foreign, Name, read_pickle
from embedcache.errors import PickleRefusedError, WeightsUnreadableError

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([7.0, 8.0])}


def saved(path: Path, content: Any, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(
        torch.equal(found[key], expected[key]) and found[key].dtype == expected[key].dtype
        for key in expected
    )


class History:
    """What a training library keeps of its losses: an object with a state of its own."""

    def __init__(self) -> None:
        self.values = [0.5] * 1000

    def __setstate__(self, state: Any) -> None:
        (ARMED[0] / "set").mkdir()


class Reduces:
    """An object that pickle rebuilds by whatever call it is given."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


#: Where the hostile objects leave their trace; a list, because a pickle names it by reference.
ARMED = [Path()]


def hostile(trace: Path) -> dict[str, Any]:
    """Objects that make a folder at `trace` when they are unpickled, each in its own way."""
    made = repr(str(trace))
    source = f"__import__('os').mkdir({made})"
    eval_ = Reduces(getattr, (builtins, "eval"))
    return {
        "os.system": Reduces(os.system, (f"mkdir {trace}",)),
        "eval through getattr": Reduces(
            getattr, (Reduces(__import__, ("builtins",)), "eval"), None, None, None
        ),
        "a call of what a call gave": Reduces(eval, (source,)),
        "a nested reduce": {"deep": [(Reduces(str, (Reduces(eval, (source,)),)),)]},
        "a state that is set": Reduces(Reduces, (os.mkdir, (str(trace),)), {"x": eval_.call[1][1]}),
        "items of a call": Reduces(
            collections.defaultdict, (list,), None, None, iter([("k", Reduces(eval, (source,)))])
        ),
        "torch's own": Reduces(torch.save, ([1], str(trace))),
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "sequence"])
@pytest.mark.parametrize("kind", list(hostile(Path())))
def test_nothing_in_a_hostile_file_runs(tmp_path: Path, kind: str, zipped: bool) -> None:
    trace = tmp_path / "ran"
    content = {"meta": hostile(trace)[kind], "state_dict": TENSORS}
    file = saved(tmp_path / "w.pth", content, zipped=zipped)
    assert same(read_state(file), TENSORS)
    assert not trace.exists()


def test_those_files_would_have_run_something(tmp_path: Path) -> None:
    ran = []
    for kind in hostile(tmp_path):
        trace = tmp_path / kind.replace(" ", "-")
        pickle.loads(pickle.dumps(hostile(trace)[kind]))
        ran += [kind] if trace.exists() else []
    # The two others only give away the function, or an object that could call one.
    assert set(hostile(tmp_path)) - set(ran) == {"eval through getattr", "a state that is set"}


def test_an_object_s_own_code_does_not_run_on_its_state(tmp_path: Path) -> None:
    ARMED[0] = tmp_path
    file = saved(tmp_path / "w.pth", {"message_hub": {"h": History()}, "state_dict": TENSORS})
    assert same(read_state(file), TENSORS)
    assert not (tmp_path / "set").exists()


def training(content: dict[str, Any]) -> dict[str, Any]:
    """What a masked autoencoder's trainer saves: model, optimiser, arguments."""
    return {
        "model": collections.OrderedDict(content),
        "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 3)}}, "param_groups": [{"lr": 0.1}]},
        "args": argparse.Namespace(model="mae_vit_base_patch16", lr=1e-3),
        "epoch": 1,
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "sequence"])
def test_a_training_checkpoint_gives_its_weights_whatever_lies_beside_them(
    tmp_path: Path, zipped: bool
) -> None:
    file = saved(tmp_path / "w.pth", training(TENSORS), zipped=zipped)
    with pytest.raises(pickle.UnpicklingError):  # torch's own reader cannot
        torch.load(file, weights_only=True)
    assert same(read_state(file), TENSORS)


@pytest.mark.parametrize("zipped", [True, False], ids=["archive", "sequence"])
def test_every_tensor_is_what_torch_s_own_loader_gives(tmp_path: Path, zipped: bool) -> None:
    base = torch.arange(24.0).reshape(4, 6)
    dtypes = ["float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool"]
    tensors = {
        "part of a storage": base[1:, 2:4],
        "the same storage, turned": base.T,
        "a scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3),
        "a parameter": torch.nn.Parameter(torch.ones(2)),
        "channels last": torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        **{name: torch.tensor([[0, 1, 3]]).to(getattr(torch, name)) for name in dtypes},
    }
    file = saved(tmp_path / "w.pth", training(tensors), zipped=zipped)
    expected = torch.load(file, weights_only=False)["model"]
    assert same(read_state(file), expected)


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    content = training(TENSORS)
    content["optimizer"]["state"][0]["exp_avg"] = torch.zeros(8_000_000)
    file = saved(tmp_path / "w.pth", content)
    tracemalloc.start()
    assert same(read_state(file), TENSORS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert file.stat().st_size > 32_000_000 > 8 * peak


def none_outside(named: Any) -> Any:
    raise PickleRefusedError(f"it asks for {named}")


def read(pickled: bytes) -> Any:
    return read_pickle(io.BytesIO(pickled), {}, none_outside)


simple = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
ordered = st.recursive(
    simple,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers(), inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=20,
)
#: Older protocols make these by calls, which become nothing here.
recent = st.binary() | st.builds(bytearray, st.binary()) | st.sets(simple) | st.frozensets(simple)


@given(ordered, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_back_as_they_were(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


@given(st.lists(recent), st.integers(5, pickle.HIGHEST_PROTOCOL))
def test_sets_and_bytes_come_back_as_they_were(value: Any, protocol: int) -> None:
    assert read(pickle.dumps(value, protocol)) == value


def test_what_is_not_plain_becomes_nothing_but_a_name() -> None:
    made = read(pickle.dumps([argparse.Namespace(a=1), os.system]))
    assert isinstance(made[0], Foreign)
    assert str(made[0].maker) == "argparse.Namespace"
    assert made[1] == Name("posix", "system")


BOMBS = {
    "a memo place of two thousand million": b"\x80\x02]r\xff\xff\xff\x7f.",
    "bytes longer than the file": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 45) + b"x.",
    "a bytearray longer than the file": b"\x80\x05\x96" + struct.pack("<Q", 1 << 45) + b"x.",
    "text longer than the file": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 45) + b"x.",
    "a number of a million digits": b"L" + b"9" * 1_000_000 + b"L\n.",
    "a tuple in a tuple in …, as a key": b"\x80\x02})" + b"\x85" * 120_000 + b"K\x01s.",
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=list(BOMBS))
def test_a_short_pickle_cannot_take_much_memory(bomb: bytes) -> None:
    tracemalloc.start()
    with contextlib.suppress(PickleRefusedError):
        read(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300_000_000


@pytest.mark.parametrize(
    ("pickled", "reason"),
    [
        (b"\x82\x01.", "EXT1"),
        (b"Pname\n.", "PERSID"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02K\x01Q.", "it asks for 1"),
        (b"0.", "damaged"),
        (b"\x80\x02}K\x01K\x02", "damaged"),
        (b"nothing of the kind", "damaged"),
    ],
    ids=["registry", "text id", "buffer", "outside", "empty stack", "no end", "no pickle"],
)
def test_what_no_checkpoint_needs_is_refused(pickled: bytes, reason: str) -> None:
    with pytest.raises(PickleRefusedError, match=reason):
        read(pickled)


def test_a_tensor_that_repeats_its_numbers_is_not_blown_up(tmp_path: Path) -> None:
    content = training({"a": torch.ones(1).expand(1 << 40)})
    with pytest.raises(WeightsUnreadableError, match="repeats its numbers"):
        read_state(saved(tmp_path / "w.pth", content))


def altered(path: Path, member: str, change: Any) -> Path:
    """The archive again, with one member's bytes changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, change(content) if name.endswith(member) else content)
    return path


@pytest.mark.parametrize(
    ("member", "change", "reason"),
    [
        ("data/0", lambda content: content[:4], "beyond its storage"),
        ("byteorder", lambda _: b"big", "big-endian"),
        ("data.pkl", lambda content: content[:-9], "damaged"),
        ("data.pkl", lambda content: content.replace(b"FloatStorage", b"BloatStorage"), "a way"),
    ],
    ids=["a short storage", "another byte order", "a cut list", "an unknown kind of number"],
)
def test_a_damaged_archive_is_refused(
    tmp_path: Path, member: str, change: Any, reason: str
) -> None:
    file = altered(saved(tmp_path / "w.pth", training(TENSORS)), member, change)
    with pytest.raises(WeightsUnreadableError, match=reason):
        read_state(file)


changes = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=3)


@given(changes=changes, cut=st.integers(0, 400), zipped=st.booleans(), beside=st.booleans())
def test_a_file_with_any_byte_changed_or_cut_is_read_or_refused(
    changes: list[tuple[int, int]],
    cut: int,
    zipped: bool,
    beside: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.pth"
    content = training(TENSORS) if beside else {"model": TENSORS}
    changed = bytearray(saved(file, content, zipped=zipped).read_bytes())
    for place, value in changes:
        changed[place % len(changed)] = value
    file.write_bytes(changed[: len(changed) - cut])
    with contextlib.suppress(WeightsUnreadableError):
        read_state(file)
