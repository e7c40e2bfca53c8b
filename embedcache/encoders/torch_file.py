"""What `torch.save` wrote, read without torch's loader: names and places first, tensors on demand.

For files that torch's `weights_only` reader refuses because of objects beside the tensors. Both
layouts are known: the zip archive since torch 1.6 (data.pkl, a file a storage, all uncompressed),
and the older sequence of pickles with the storages behind them (torch/serialization.py, torch
2.13). Only what is asked for is read: of a training checkpoint of 1.3 GB, the 0.4 GB of weights.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from embedcache.encoders.pickled import Makers, Name, plain_dict, read_pickle
from embedcache.errors import PickleRefusedError

if TYPE_CHECKING:
    from torch import Tensor

#: Starts a zip archive.
ZIP = b"PK\x03\x04"
#: Most bytes of a data.pkl: those of the encoders we know have less than one million.
_MOST_PICKLE = 1 << 26
#: Numbers that no tensor has; past it torch has errors of its own.
_MOST_NUMBERS = 1 << 48
#: What the older layout starts with, as a pickle.
_MAGIC = 0x1950A86A20F9469CFC6C

#: torch's name of a storage's class -> dtype and bytes of one element.
_STORAGES = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file.

    Attributes:
        dtype: torch's name of the numbers' type.
        width: bytes of one number.
        key: what the pickle calls it.
    """

    dtype: str
    width: int
    key: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor that has not been read.

    Attributes:
        storage: where its numbers lie.
        offset: of the first one, in numbers.
        size: its shape.
        stride: in numbers, as long as `size`.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TorchFile:
    """The content of a file, with `Stored` in place of each tensor.

    Attributes:
        path: of the file.
        content: plain containers, `Stored`, and `Foreign` for whatever else it holds.
        places: where the bytes of each storage start, and how many there are, by key.
    """

    path: Path
    content: Any
    places: Mapping[str, tuple[int, int]]

    def tensors(self, wanted: Mapping[str, Stored]) -> dict[str, Tensor]:
        """Read some tensors, on the CPU; each owns its memory.

        Raises:
            PickleRefusedError: if one reaches beyond its storage, or a storage beyond the file.
        """
        with self.path.open("rb") as file:
            return {name: self._tensor(file, stored) for name, stored in wanted.items()}

    def _tensor(self, file: BinaryIO, stored: Stored) -> Tensor:
        import torch

        storage = stored.storage
        if storage.key not in self.places:
            raise PickleRefusedError(f"it lacks the storage {storage.key}")
        start, length = self.places[storage.key]
        first, count = _extent(stored)
        if (first + count) * storage.width > length:
            raise PickleRefusedError("a tensor reaches beyond its storage")
        file.seek(start + first * storage.width)
        # Bounded by the file: `places` lie inside it.
        held = bytearray(count * storage.width)
        if file.readinto(held) != len(held):  # type: ignore[attr-defined]  # a buffered reader has it
            raise PickleRefusedError("it is cut short")
        dtype = getattr(torch, storage.dtype)
        flat = torch.frombuffer(held, dtype=dtype) if held else torch.empty(0, dtype=dtype)
        return flat.as_strided(stored.size, stored.stride).clone()


def _extent(stored: Stored) -> tuple[int, int]:
    """The first number that a tensor touches, and how many lie from there to its last one."""
    total, last = 1, 0
    for size, stride in zip(stored.size, stored.stride, strict=True):
        total *= size
        last += max(size - 1, 0) * stride
    if total > last + 1 and total:
        # It repeats numbers, and may state any size without a byte behind it.
        raise PickleRefusedError("a tensor repeats its numbers")
    return stored.offset, last + 1 if total else 0


def read_torch_file(path: Path) -> TorchFile:
    """Read what a file holds and where its tensors lie.

    Raises:
        PickleRefusedError: if it is none of the two layouts, or damaged.
        OSError: as the file system gives it.
    """
    with path.open("rb") as file:
        if file.read(len(ZIP)) == ZIP:
            return _read_archive(path, file)
        file.seek(0)
        return _read_sequence(path, file)


def _read_archive(path: Path, file: BinaryIO) -> TorchFile:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename: member for member in archive.infolist()}
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError) as error:
        raise PickleRefusedError("it is a damaged archive") from error
    roots = [name.removesuffix("data.pkl") for name in members if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise PickleRefusedError("it is an archive of something else")
    (root,) = roots
    end = path.stat().st_size
    places = {name: _place(file, member, end) for name, member in members.items()}
    order = _bytes_at(file, places.get(f"{root}byteorder", (0, 0)), most=16)
    if order not in (b"", b"little"):
        raise PickleRefusedError("its numbers are big-endian")
    pickled = io.BytesIO(_bytes_at(file, places[f"{root}data.pkl"], _MOST_PICKLE))
    content = read_pickle(pickled, _MAKERS, _storage)
    data = f"{root}data/"
    storages = {n.removeprefix(data): p for n, p in places.items() if n.startswith(data)}
    return TorchFile(path, content, storages)


def _place(file: BinaryIO, member: zipfile.ZipInfo, end: int) -> tuple[int, int]:
    """Where an uncompressed member's bytes lie: behind its own header, whose length it states."""
    file.seek(max(member.header_offset, 0) + 26)
    header = file.read(4)
    if member.compress_type != zipfile.ZIP_STORED or len(header) != 4 or member.header_offset < 0:
        raise PickleRefusedError("it is an archive of something else")
    name, extra = struct.unpack("<HH", header)
    start = member.header_offset + 30 + name + extra
    if start + member.file_size > end:
        raise PickleRefusedError("it is cut short")
    return start, member.file_size


def _bytes_at(file: BinaryIO, place: tuple[int, int], most: int) -> bytes:
    start, length = place
    if length > most:
        raise PickleRefusedError("its list of tensors is larger than any that we know")
    file.seek(start)
    return file.read(length)


def _read_sequence(path: Path, file: BinaryIO) -> TorchFile:
    end = path.stat().st_size
    bounded = _Bounded(file, end)
    if read_pickle(bounded, {}, _storage) != _MAGIC:
        raise PickleRefusedError("torch did not write it")
    read_pickle(bounded, {}, _storage)  # the version of the layout; there was only ever one
    system = read_pickle(bounded, {}, _storage)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleRefusedError("its numbers are big-endian")
    widths: dict[str, int] = {}

    def remembered(named: Any) -> Storage:
        storage = _storage(named)
        widths[storage.key] = storage.width
        return storage

    content = read_pickle(bounded, _MAKERS, remembered)
    keys = read_pickle(bounded, {}, _storage)
    return TorchFile(path, content, _behind(file, keys, widths, end))


class _Bounded:
    """A file that never sets memory aside for more bytes than it has left."""

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file = file
        self._end = end
        self.readline = file.readline
        self.tell = file.tell

    def read(self, size: int, /) -> bytes:
        return self._file.read(min(size, self._end - self._file.tell()))


def _behind(
    file: BinaryIO, keys: Any, widths: dict[str, int], end: int
) -> dict[str, tuple[int, int]]:
    """The storages behind the pickles, one after the other: a count of numbers, then these."""
    places = {}
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise PickleRefusedError("it is damaged")
    for key in keys:
        header = file.read(8)
        if len(header) != 8 or key not in widths:
            raise PickleRefusedError("it is cut short")
        start, length = file.tell(), struct.unpack("<q", header)[0] * widths[key]
        if length < 0 or start + length > end:
            raise PickleRefusedError("it is cut short")
        places[key] = (start, length)
        file.seek(start + length)
    return places


def _storage(named: Any) -> Storage:
    """What a persistent id stands for: ("storage", class, key, device, numbers[, view])."""
    match named:
        case ("storage", Name(module="torch" | "torch.cuda", name=kind), str(key), _, _, *view):
            if kind in _STORAGES and not any(view):
                return Storage(*_STORAGES[kind], key)
    raise PickleRefusedError("it keeps numbers in a way that we do not know")


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Stored:
    whole = (offset, *size, *stride)
    sound = isinstance(storage, Storage) and len(size) == len(stride)
    if not sound or any(type(one) is not int or not 0 <= one < _MOST_NUMBERS for one in whole):
        raise PickleRefusedError("it is damaged")
    return Stored(storage, offset, tuple(size), tuple(stride))


def _parameter(tensor: Any, *_: Any) -> Any:
    return tensor


#: All that a pickle of tensors needs built; a dict that keeps order is a dict.
_MAKERS: Makers = {
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_parameter"): _parameter,
    Name("torch", "Size"): tuple,
    Name("collections", "OrderedDict"): plain_dict,
}
