"""The documents of a store, `zarr.json`: strict JSON, and nothing but what this format writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from embedcache.errors import DamagedStoreError, SchemaError
from embedcache.schema import parse_json
from embedcache.store.layout import DOCUMENT, ArrayLayout
from embedcache.store.objects import (
    Proofs,
    Root,
    check_size,
    object_size,
    proof_of,
    read_object,
)


def read_group(root: Root, node: str, proofs: Proofs | None = None) -> dict[str, Any]:
    """Attributes of a group.

    Raises:
        DamagedStoreError: if it is missing, not what `proofs` say, or no group document.
    """
    key = f"{node}/{DOCUMENT}" if node else DOCUMENT
    document = _read_document(root, key, proofs)
    attributes = document.pop("attributes", None)
    if document != {"zarr_format": 3, "node_type": "group"} or not isinstance(attributes, dict):
        raise DamagedStoreError(key, "it is no group document of this format")
    return attributes


def read_layout(
    root: Root, layout_of: Callable[[int], ArrayLayout], proofs: Proofs | None = None
) -> ArrayLayout:
    """Layout of an array on disk: its own row count, all else exactly as we would write it.

    Raises:
        DamagedStoreError: if it is not.
    """
    key = f"{layout_of(0).path}/{DOCUMENT}"
    document = _read_document(root, key, proofs)
    shape = document.get("shape")
    rows = shape[0] if isinstance(shape, list) and shape else None
    if type(rows) is not int or rows < 0:
        raise DamagedStoreError(key, "it has no shape")
    layout = layout_of(rows)
    if document != json.loads(layout.document()):
        raise DamagedStoreError(key, "the array is not laid out as this format lays it out")
    return layout


def check_complete(root: Root, layout: ArrayLayout) -> None:
    """Every chunk is there, of the right size: so a read allocates no more than lies on disk.

    Raises:
        DamagedStoreError: names the first chunk that is not.
    """
    for chunk in range(layout.chunks):
        key = layout.key(chunk)
        check_size(key, object_size(root, key), layout.chunk_size)


def _read_document(root: Root, key: str, proofs: Proofs | None) -> dict[str, Any]:
    data = read_object(root, key)
    if data is None:
        raise DamagedStoreError(key, "it is missing")
    if proofs is not None and proof_of(data) != proofs.get(key):
        raise DamagedStoreError(key, "it is not what the manifest says")
    try:
        document = parse_json(data, key)
    except SchemaError as error:
        raise DamagedStoreError(key, "it is not valid JSON") from error
    if not isinstance(document, dict):
        raise DamagedStoreError(key, "it is no document")
    return document
