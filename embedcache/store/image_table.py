"""The image table: append-only, so that a row number means the same image everywhere.

A row is there once `digest` is that long: chunks are written first, then the names of codes, then
the documents of the arrays, `digest` last. So a kill leaves a table that is short, never torn.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import DamagedStoreError
from embedcache.store.chunks import Objects
from embedcache.store.documents import check_complete, read_group, read_layout
from embedcache.store.layout import (
    DOCUMENT,
    IMAGES,
    MOST_CODES,
    TABLE_ROWS,
    group_document,
    table_arrays,
)
from embedcache.store.objects import Proof, Proofs, Root, remove_object, write_object


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageTable:
    """What a store knows of its n images.

    Attributes:
        digest: of each image, distinct, (n, 32) uint8.
        size: width and height in pixels, (n, 2) int32.
        format: index into `formats`, (n,) int16.
        mode: index into `modes`, (n,) int16.
        formats: names such as `PNG`.
        modes: names such as `RGB`.
    """

    digest: NDArray[np.uint8]
    size: NDArray[np.int32]
    format: NDArray[np.int16]
    mode: NDArray[np.int16]
    formats: tuple[str, ...]
    modes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.digest)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its arrays by name."""
        return {name: getattr(self, name) for name in table_arrays(0)}


def empty_table() -> ImageTable:
    """Of a store without images."""
    return ImageTable(
        digest=np.empty((0, 32), np.uint8),
        size=np.empty((0, 2), np.int32),
        format=np.empty(0, np.int16),
        mode=np.empty(0, np.int16),
        formats=(),
        modes=(),
    )


def read_rows(root: Root, proofs: Proofs | None) -> int:
    """How many images the table has; reads no chunk, but each must be there: others allocate by it.

    Raises:
        DamagedStoreError: if the table cannot have that many.
    """
    layout = read_layout(root, lambda rows: table_arrays(rows)["digest"], proofs)
    check_complete(root, layout)
    return layout.rows


def read_table(root: Root, proofs: Proofs | None) -> ImageTable:
    """Read the table.

    Args:
        root: folder of the store.
        proofs: what its objects must be; None while a writer is at it, or died there.

    Raises:
        DamagedStoreError: if it is not what was written.
    """
    names = _read_names(root, proofs)
    rows = read_rows(root, proofs)
    layouts = table_arrays(rows)
    for name, layout in layouts.items():
        check_complete(root, layout)
        found = read_layout(root, lambda rows, name=name: table_arrays(rows)[name], proofs).rows  # type: ignore[misc]  # binds the loop's name
        if found < rows:
            raise DamagedStoreError(layout.path, f"it has {found} rows of {rows}")
    objects = Objects(root, proofs=proofs)
    table = ImageTable(
        **{name: objects.read(layout) for name, layout in layouts.items()},
        formats=names["formats"],
        modes=names["modes"],
    )
    _check_legal(table)
    return table


def append(
    table: ImageTable,
    digest: NDArray[np.uint8],
    size: NDArray[np.int32],
    formats: Sequence[str],
    modes: Sequence[str],
) -> tuple[ImageTable, NDArray[np.int64]]:
    """The table with images appended where they are new, and the row of each: (k,) int64."""
    rows = rows_of(table.digest, digest)
    distinct, first = np.unique(rows, return_index=True)
    fresh = first[distinct >= len(table)]
    if not len(fresh):
        return table, rows
    format_names, format_codes = _extend(table.formats, [formats[index] for index in fresh])
    mode_names, mode_codes = _extend(table.modes, [modes[index] for index in fresh])
    longer = dataclasses.replace(
        table,
        digest=np.concatenate([table.digest, digest[fresh]]).astype(np.uint8, copy=False),
        size=np.concatenate([table.size, size[fresh]]).astype(np.int32, copy=False),
        format=np.concatenate([table.format, format_codes]),
        mode=np.concatenate([table.mode, mode_codes]),
        formats=format_names,
        modes=mode_names,
    )
    _check_legal(longer)
    return longer, rows


def rows_of(known: NDArray[np.uint8], digest: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Row of each image, (k,) int64; one that is new gets the next, in order of appearance.

    Sorted, not hashed: a dictionary of digests takes 280 bytes an image, this some 100.

    Args:
        known: digest of each row, distinct, (n, 32) uint8.
        digest: of the images, (k, 32) uint8; repeats share a row.
    """
    key = _keys(digest)
    row = _looked_up(_keys(known), key)
    new = np.flatnonzero(row < 0)
    row[new] = len(known) + _numbers(key[new])
    return row


def _keys(digest: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    # `S32` compares as the bytes do: what numpy strips from a fixed length, zeros, sorts first.
    return np.ascontiguousarray(digest).view("S32").ravel()


def _looked_up(known: NDArray[np.bytes_], key: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Where each key is among distinct ones, (k,) int64; -1: nowhere."""
    if not len(known):
        return np.full(len(key), -1, np.int64)
    order = np.argsort(known)
    place = np.searchsorted(known, key, sorter=order)
    found = order[np.minimum(place, len(known) - 1)]
    return np.where(known[found] == key, found, -1)


def _numbers(key: NDArray[np.bytes_]) -> NDArray[np.int64]:
    """Number distinct keys in order of appearance; returns that of each, (k,) int64."""
    order = np.argsort(key, kind="stable")  # of equal ones the earliest comes first
    begins = _begins(key[order])
    first = order[begins]
    numbers = np.empty(len(key), np.int64)
    numbers[order] = np.searchsorted(np.sort(first), first)[np.cumsum(begins) - 1]
    return numbers


def _begins(key: NDArray[np.bytes_]) -> NDArray[np.bool_]:
    """Which keys differ from the one before, (k,) bool."""
    differs = np.ones(len(key), np.bool_)
    differs[1:] = key[1:] != key[:-1]
    return differs


def write_table(root: Path, table: ImageTable, since: int) -> dict[str, Proof]:
    """Write the table's chunks from the one that holds row `since`, then commit its length.

    Chunks past the end, which a killed writer may have left, are removed.
    """
    layouts = table_arrays(len(table))
    objects = Objects(root)
    start = since // TABLE_ROWS * TABLE_ROWS
    for name, layout in layouts.items():
        if start < len(table):
            objects.write(layout, start, table.arrays()[name][start:])
        _remove_beyond(root, name, layout.chunks)
    names = {"formats": table.formats, "modes": table.modes}
    documents = {f"{IMAGES}/{DOCUMENT}": group_document(names)}
    documents |= {f"{layout.path}/{DOCUMENT}": layout.document() for layout in layouts.values()}
    proofs = {key: write_object(root, key, data) for key, data in documents.items()}
    return {**objects.written, **proofs}


def table_keys(rows: int) -> tuple[str, ...]:
    """Keys of all objects of a table of so many images."""
    layouts = table_arrays(rows).values()
    documents = [f"{IMAGES}/{DOCUMENT}", *(f"{layout.path}/{DOCUMENT}" for layout in layouts)]
    return (*documents, *(layout.key(c) for layout in layouts for c in range(layout.chunks)))


def _remove_beyond(root: Path, name: str, chunk: int) -> None:
    while (root / (key := table_arrays(0)[name].key(chunk))).is_file():
        remove_object(root, key)
        chunk += 1


def _read_names(root: Root, proofs: Proofs | None) -> dict[str, tuple[str, ...]]:
    attributes = read_group(root, IMAGES, proofs)
    names = {key: attributes.get(key) for key in ("formats", "modes")}
    for found in (attributes.keys() - names.keys(), *names.values()):
        if found and not (isinstance(found, list) and all(isinstance(n, str) for n in found)):
            raise DamagedStoreError(IMAGES, "its attributes are no lists of names")
    return {key: tuple(found or ()) for key, found in names.items()}


def _extend(names: tuple[str, ...], new: list[str]) -> tuple[tuple[str, ...], NDArray[np.int16]]:
    code_of = {name: code for code, name in enumerate(names)}
    codes = [code_of.setdefault(name, len(code_of)) for name in new]
    assert len(code_of) <= MOST_CODES, "file formats and modes are few"
    return tuple(code_of), np.array(codes, np.int16)


def _check_legal(table: ImageTable) -> None:
    legal = {
        "digest": table.digest.any(axis=1),
        "size": (table.size > 0).all(axis=1),
        "format": (table.format >= 0) & (table.format < len(table.formats)),
        "mode": (table.mode >= 0) & (table.mode < len(table.modes)),
    }
    for name, rows in legal.items():
        if not rows.all():
            first = int(np.flatnonzero(~rows)[0])
            raise DamagedStoreError(f"{IMAGES}/{name}", f"row {first} has no legal value")
