"""One encoder's features in a store: what they are, and the runs that made them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import Contract
from embedcache.errors import DamagedStoreError, SchemaError
from embedcache.provenance import Fingerprint, Overlap, Provenance
from embedcache.schema import LATER, from_plain, plain
from embedcache.store.chunks import Objects
from embedcache.store.documents import read_group, read_layout
from embedcache.store.layout import (
    DOCUMENT,
    MOST_BATCH,
    MOST_DIM,
    done_array,
    feature_node,
    group_document,
    vectors_array,
)
from embedcache.store.objects import Proof, Proofs, Root, children, object_size, write_object


@dataclass(frozen=True, kw_only=True, slots=True)
class Throughput:
    """How fast a run was, and where its time went. All encoders of a pass share it.

    Attributes:
        images: that at least one encoder of the pass encoded.
        seconds: that the pass took.
        bare: seconds that its forward passes alone would have taken on the device.
        stages: seconds by stage, summed over threads: more than `seconds` where they overlap.
        beside: encoders of the pass, this one included.
    """

    images: int
    seconds: float
    bare: float
    stages: dict[str, float]
    beside: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One extraction into a feature set.

    Attributes:
        id: random, 16 hex digits.
        provenance: where and when.
        rate: images a second; None: the run was killed before it could say.
        failed: reason -> rows of the image table that it could not encode.
        halved: pictures a forward pass -> rows that were encoded by so few because memory ended;
            their last bits may be another run's. None: no row.
        compiled: whether torch.compile made its kernels; likewise.
        throughput: how fast it was; None: killed, or from before this was recorded.
    """

    id: str
    provenance: Provenance
    rate: float | None
    failed: dict[str, tuple[int, ...]]
    halved: dict[str, tuple[int, ...]] | None = None
    compiled: bool = False
    throughput: Throughput | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureSet:
    """What a store says of one encoder's features.

    Attributes:
        id: feature id, from the contract.
        name: the encoder's reference without weights.
        contract: what decides the numbers.
        licence: of the weights.
        citation: of the encoder.
        batch: images a batch in the first run; later runs keep it, for the same bits.
        fingerprint: self-check of the encoder in the first run; None where there was none.
        overlap: of what the weights were trained on with cohorts, as the first run knew it.
        rows: rows that the arrays span; images added later are not among them yet.
        done: rows whose vector is there.
        runs: in order of time.
    """

    id: str
    name: str
    contract: Contract
    licence: str
    citation: str
    batch: int
    fingerprint: Fingerprint | None
    overlap: tuple[Overlap, ...]
    rows: int
    done: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureAttributes:
    """Attributes of a feature set's node; only the contract is in its id."""

    contract: Contract
    name: str
    licence: str
    citation: str
    batch: int
    fingerprint: Fingerprint | None
    overlap: tuple[Overlap, ...] = field(default=(), metadata=LATER)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunAttributes:
    """Attributes of a run's node."""

    provenance: Provenance
    rate: float | None
    failed: dict[str, tuple[int, ...]]
    halved: dict[str, tuple[int, ...]] | None = field(default=None, metadata=LATER)
    compiled: bool = field(default=False, metadata=LATER)
    throughput: Throughput | None = field(default=None, metadata=LATER)


def read_attributes(root: Root, feature_id: str, proofs: Proofs | None) -> FeatureAttributes:
    """What a feature set says of itself.

    Raises:
        DamagedStoreError: if it is no feature set, or its contract has another id.
    """
    node = feature_node(feature_id)
    try:
        about = from_plain(FeatureAttributes, read_group(root, node, proofs), where=node)
    except SchemaError as error:
        raise DamagedStoreError(node, f"{error.path or 'its content'} {error.problem}") from error
    if about.contract.feature_id != feature_id:
        raise DamagedStoreError(node, f"its contract has the id {about.contract.feature_id}")
    # Before anything of that size is allocated.
    if not 1 <= about.contract.dim <= MOST_DIM or not 1 <= about.batch <= MOST_BATCH:
        raise DamagedStoreError(node, "no vector or batch has that size")
    return about


def read_done(root: Root, feature_id: str, images: int, proofs: Proofs | None) -> NDArray[np.bool_]:
    """Which rows are done, (n',) bool; a chunk that nobody wrote yet has none.

    Raises:
        DamagedStoreError: if the array is not what was written, or longer than the image table.
    """
    layout = read_layout(root, lambda rows: done_array(feature_id, rows), proofs)
    if layout.rows > images:
        raise DamagedStoreError(layout.path, f"it has {layout.rows} rows, the store {images}")
    if proofs is not None:
        listed = (layout.key(c) for c in range(layout.chunks) if layout.key(c) in proofs)
        gone = [key for key in listed if object_size(root, key) is None]
        if gone:
            raise DamagedStoreError(gone[0], "it is missing")
    done = Objects(root, proofs=proofs).read(layout)
    # The one array whose fill value is legal: any byte but 0 and 1 is damage.
    if (done.view(np.uint8) > 1).any():
        raise DamagedStoreError(layout.path, "it holds what is neither true nor false")
    return done


def read_runs(root: Root, feature_id: str, proofs: Proofs | None) -> tuple[Run, ...]:
    """The runs that wrote into a feature set, in order of time.

    Raises:
        DamagedStoreError: if one is not what was written.
    """
    runs = []
    for run in children(root, runs_node(feature_id)):
        node = f"{runs_node(feature_id)}/{run}"
        try:
            about = from_plain(RunAttributes, read_group(root, node, proofs), where=node)
        except SchemaError as error:
            problem = f"{error.path or 'its content'} {error.problem}"
            raise DamagedStoreError(node, problem) from error
        runs.append(Run(id=run, **{each.name: getattr(about, each.name) for each in fields(about)}))
    return tuple(sorted(runs, key=lambda run: (run.provenance.when, run.id)))


def read_feature_set(root: Root, feature_id: str, images: int, proofs: Proofs | None) -> FeatureSet:
    """All that a store says of one encoder's features, vectors aside.

    Raises:
        DamagedStoreError: if it is not what was written.
    """
    return read_with_done(root, feature_id, images, proofs)[0]


def read_with_done(
    root: Root, feature_id: str, images: int, proofs: Proofs | None
) -> tuple[FeatureSet, NDArray[np.bool_]]:
    """The same, and which rows are done, (n',) bool."""
    about = read_attributes(root, feature_id, proofs)
    done = read_done(root, feature_id, images, proofs)
    vectors = read_layout(root, lambda rows: vectors_array(about.contract, rows), proofs)
    if not len(done) <= vectors.rows <= images:
        problem = f"it has {vectors.rows} rows, `done` {len(done)}, the store {images}"
        raise DamagedStoreError(vectors.path, problem)
    runs = read_runs(root, feature_id, proofs)
    for run in runs:
        named = (*run.failed.values(), *(run.halved or {}).values())
        if any(not 0 <= row < images for rows in named for row in rows):
            raise DamagedStoreError(f"{runs_node(feature_id)}/{run.id}", "rows out of range")
    one = FeatureSet(
        id=feature_id,
        name=about.name,
        contract=about.contract,
        licence=about.licence,
        citation=about.citation,
        batch=about.batch,
        fingerprint=about.fingerprint,
        overlap=about.overlap,
        rows=len(done),
        done=int(done.sum()),
        runs=runs,
    )
    return one, done


def create_feature_set(root: Path, about: FeatureAttributes, rows: int) -> dict[str, Proof]:
    """Write an empty feature set; its own document, last, makes it one."""
    feature_id = about.contract.feature_id
    written = write_arrays(root, about.contract, rows)
    documents = {
        f"{runs_node(feature_id)}/{DOCUMENT}": group_document({}),
        f"{feature_node(feature_id)}/{DOCUMENT}": group_document(plain(about)),
    }
    return written | {key: write_object(root, key, data) for key, data in documents.items()}


def write_arrays(root: Path, contract: Contract, rows: int) -> dict[str, Proof]:
    """Let a feature set's arrays span so many rows; `done` never spans more than the vectors."""
    layouts = (vectors_array(contract, rows), done_array(contract.feature_id, rows))
    documents = {f"{layout.path}/{DOCUMENT}": layout.document() for layout in layouts}
    return {key: write_object(root, key, data) for key, data in documents.items()}


def write_run(root: Path, feature_id: str, run: Run) -> dict[str, Proof]:
    """Write what is known of a run so far."""
    about = RunAttributes(**{each.name: getattr(run, each.name) for each in fields(RunAttributes)})
    key = f"{runs_node(feature_id)}/{run.id}/{DOCUMENT}"
    return {key: write_object(root, key, group_document(plain(about)))}


def runs_node(feature_id: str) -> str:
    """Node above a feature set's runs."""
    return f"{feature_node(feature_id)}/runs"


def set_keys(root: Root, contract: Contract, rows: int) -> tuple[str, ...]:
    """Keys of all objects that a feature set has on disk, and no stranger's."""
    feature_id = contract.feature_id
    layouts = (vectors_array(contract, rows), done_array(feature_id, rows))
    runs = (f"{runs_node(feature_id)}/{run}" for run in children(root, runs_node(feature_id)))
    nodes = (feature_node(feature_id), runs_node(feature_id), *runs)
    documents = [f"{node}/{DOCUMENT}" for node in (*nodes, *(layout.path for layout in layouts))]
    chunks = (layout.key(chunk) for layout in layouts for chunk in range(layout.chunks))
    return (*documents, *(key for key in chunks if object_size(root, key) is not None))


def failed_rows(runs: tuple[Run, ...], done: NDArray[np.bool_]) -> dict[int, str]:
    """Reason by row: the union over runs, the latest reason, less what is done by now."""
    reasons = {row: reason for run in runs for reason, rows in run.failed.items() for row in rows}
    return {row: reasons[row] for row in sorted(reasons) if row >= len(done) or not done[row]}
