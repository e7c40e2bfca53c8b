"""A real feature store of made-up vectors, for tests of whatever reads stores."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Contract, Preprocessing
from embedcache.provenance import provenance
from embedcache.store.stored_cohort import StoredCohort
from embedcache.store.writer import StoreWriter, create_or_open_for_writing


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeCohort:
    """Rows of a cohort, in the order of its table.

    Attributes:
        name: of the cohort.
        classes: the class list.
        image: a word for each row's image; equal words are one image, None is unreadable.
        label: name of each row's class; None is unlabelled.
        patient: name of each row's patient.
        strata: text values by name.
        key_id: of the pseudonyms.
    """

    name: str
    classes: tuple[str, ...]
    image: Sequence[str | None]
    label: Sequence[str | None]
    patient: Sequence[str]
    strata: Mapping[str, Sequence[str]] = field(default_factory=dict)
    key_id: str = "key"


def digest_of(image: str) -> bytes:
    """Digest of a made-up image."""
    return hashlib.sha256(image.encode("utf-8")).digest()


def put_cohort(path: Path, made: MadeCohort) -> dict[str, int]:
    """Add a cohort and its images to a store; gives the row of each image."""
    writer = create_or_open_for_writing(path)
    words = list(dict.fromkeys(image for image in made.image if image is not None))
    digest = np.frombuffer(b"".join(map(digest_of, words)), np.uint8).reshape(-1, 32)
    size = np.full((len(words), 2), 64, np.int32)
    rows = writer.add_images(digest, size, ["PNG"] * len(words), ["L"] * len(words))
    row_of = dict(zip(words, rows.tolist(), strict=True))
    writer.put_cohort(_stored(made, row_of))
    return row_of


def put_features(
    path: Path,
    name: str,
    vectors: Mapping[str, NDArray[np.float32]],
    *,
    failed: Mapping[str, str] | None = None,
    weights: str = "none",
    architecture: str = "",
) -> Contract:
    """Add one encoder's features: a vector by image, or the reason why there is none."""
    writer = create_or_open_for_writing(path)
    dim = len(next(iter(vectors.values())))
    contract = _contract(architecture or f"made:{name}", dim, weights)
    with writer.lease(contract, name=name, licence="CC0-1.0", citation="", batch=8) as lease:
        lease.start_run(provenance())
        words = list(vectors)
        rows = _rows(writer, words)
        lease.put(rows, np.stack([vectors[word] for word in words]).astype(np.float32))
        for word, reason in (failed or {}).items():
            lease.fail(int(_rows(writer, [word])[0]), reason)
        lease.finish(rate=1.0)
    writer.seal()
    return contract


def _stored(made: MadeCohort, row_of: Mapping[str, int]) -> StoredCohort:
    unreadable = sum(image is None for image in made.image)
    place = {name: index for index, name in enumerate(made.classes)}
    pseudonym = [hashlib.sha256(patient.encode("utf-8")).digest()[:16] for patient in made.patient]
    return StoredCohort(
        name=made.name,
        classes=made.classes,
        row=np.array([-1 if i is None else row_of[i] for i in made.image], np.int64),
        label=np.array([-1 if k is None else place[k] for k in made.label], np.int16),
        patient=np.frombuffer(b"".join(pseudonym), np.uint8).reshape(-1, 16),
        strata={name: np.array(values, np.str_) for name, values in made.strata.items()},
        reader="folder",
        citation="",
        licence="",
        synthetic=True,
        key_id=made.key_id,
        unreadable={"the file is empty": unreadable} if unreadable else {},
    )


def _rows(writer: StoreWriter, words: Sequence[str]) -> NDArray[np.int64]:
    digest = np.frombuffer(b"".join(map(digest_of, words)), np.uint8).reshape(-1, 32)
    size = np.full((len(words), 2), 64, np.int32)
    return writer.add_images(digest, size, ["PNG"] * len(words), ["L"] * len(words))


def _contract(architecture: str, dim: int, weights: str) -> Contract:
    preprocessing = Preprocessing(height=64, width=64, mean=(0.5,), std=(0.5,), colour="grey")
    return Contract(
        architecture=architecture,
        code="1",
        weights=weights,
        preprocessing=preprocessing,
        pooling="none",
        dim=dim,
    )
