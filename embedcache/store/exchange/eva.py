"""Import of the folders that kaiko's eva writes: `manifest.csv` and a `.pt` for each image.

The manifest has `origin` (the image, relative to its data set's folder), `embeddings` (the `.pt`),
`target` and `split`, and whatever metadata was asked for; a `.pt` holds a tensor, (dim,) or
(1, dim), or a list of them, where one image is cut into several. There is no preprocessing, weight
or digest in it, and none can be guessed: digests are taken of the images, and the encoder is what
the importer calls it. A `.pt` is a pickle, so only torch's `weights_only` reader opens it.
"""

from __future__ import annotations

import re
import secrets
import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedcache.contract import TOLERANCE, Contract, Preprocessing
from embedcache.errors import ExchangeUnusableError, SchemaError, listed
from embedcache.provenance import provenance
from embedcache.schema import read_csv_rows
from embedcache.store.exchange.format import Claims, Exchange, FeatureTable
from embedcache.store.feature_set import FeatureAttributes, Run
from embedcache.store.image_table import append, empty_table
from embedcache.store.layout import MOST_DIM
from embedcache.store.objects import object_size
from embedcache.store.stored_cohort import StoredCohort

#: Columns that every manifest has.
COLUMNS = ("origin", "embeddings", "target", "split")
#: Bytes of one image's `.pt`, unpacked; 65,536 dimensions take a quarter of a megabyte.
_MOST_TENSOR = 1 << 24
#: The publisher's own split, where a row has none.
_NOT_GIVEN = "not given"
_AGAIN = "let eva write it again"


def load(place: Path, claims: Claims | None) -> FeatureTable:
    """Read such a folder as one encoder's features of one cohort.

    Raises:
        ExchangeUnusableError: if it is no such folder, or the claims do not fit it.
        ImageUnreadableError: if an image is missing or none.
    """
    assert claims is not None, "the folder does not say whose features they are"
    rows = _manifest(place, claims)
    vectors = _stacked([_vector(place, row["embeddings"]) for row in rows], place)
    facts = [claims.identify(_below(claims.images, row["origin"], place)) for row in rows]
    digest = np.frombuffer(b"".join(one.digest for one in facts), np.uint8).reshape(-1, 32)
    size = np.array([(one.width, one.height) for one in facts], np.int32)
    names = ([one.format for one in facts], [one.mode for one in facts])
    images, row = append(empty_table(), digest, size, *names)
    first = np.unique(row, return_index=True)[1]
    _check_equal(vectors, vectors[first][row], place)
    return FeatureTable(
        about=_about(claims, vectors),
        runs=(_run(),),
        images=images,
        vectors=vectors[first],
        cohorts=(_cohort(rows, row, claims, place),),
    )


def _manifest(place: Path, claims: Claims) -> list[dict[str, str]]:
    file = place / "manifest.csv"
    if object_size(place, "manifest.csv") is None:
        raise ExchangeUnusableError(
            place.name, "it has no manifest.csv", "name eva's output folder"
        )
    try:
        found, *lines = read_csv_rows(file) or [[]]
    except SchemaError as error:
        problem = "manifest.csv is no CSV in UTF-8"
        raise ExchangeUnusableError(place.name, problem, _AGAIN) from error
    lacking = [name for name in (*COLUMNS, claims.patient) if name not in found]
    if lacking:
        problem = f"manifest.csv has no column {lacking[0]!r} (it has {listed(tuple(found))})"
        mend = "name the column that says which patient an image is of; without one, folds leak"
        raise ExchangeUnusableError(place.name, problem, mend)
    short = [number for number, line in enumerate(lines, 2) if line and len(line) != len(found)]
    if short or not any(lines):
        problem = f"lines {listed(tuple(short))} are cut" if short else "manifest.csv has no rows"
        raise ExchangeUnusableError(place.name, problem, _AGAIN)
    return [dict(zip(found, line, strict=True)) for line in lines if line]


def _below(folder: Path, name: str, place: Path) -> Path:
    """A file below a folder, by a name that does not lead out of it."""
    path = PurePosixPath(name)
    leads_out = path.is_absolute() or ".." in path.parts or "\\" in name
    if leads_out or not path.parts or "\0" in name:
        problem = "manifest.csv names a file outside its folder"
        raise ExchangeUnusableError(place.name, problem, "trust no such folder")
    return folder / path


def _vector(place: Path, name: str) -> NDArray[np.float32]:
    """The one vector of a `.pt`, (dim,) float32."""
    import torch

    mend = "import one vector an image; let eva write it again"
    file = _below(place, name, place)
    if object_size(place, PurePosixPath(name).as_posix()) is None:
        raise ExchangeUnusableError(place.name, "a .pt of manifest.csv is missing", mend)
    try:
        with zipfile.ZipFile(file) as packed:
            unpacked = sum(part.file_size for part in packed.infolist())
        held: Any = None
        if unpacked <= _MOST_TENSOR:
            held = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged byte leads torch's reader to errors of a dozen kinds
        problem = "a .pt holds no plain tensor, or code"
        raise ExchangeUnusableError(place.name, problem, mend) from error
    if unpacked > _MOST_TENSOR:
        raise ExchangeUnusableError(place.name, f"a .pt unpacks to {unpacked:,} bytes", mend)
    tensors = held if isinstance(held, list) else [held]
    if len(tensors) != 1 or not isinstance(tensors[0], torch.Tensor):
        raise ExchangeUnusableError(place.name, f"a .pt holds {len(tensors)} vectors", mend)
    (tensor,) = tensors
    real = tensor.dtype in {torch.float32, torch.float16, torch.bfloat16}
    plain = real and tensor.layout is torch.strided and tensor.device.type == "cpu"
    if (
        not plain
        or not 1 <= tensor.numel() <= MOST_DIM
        or tensor.numel() != max(tensor.shape, default=0)
    ):
        problem = f"a .pt holds {tensor.dtype} of shape {tuple(tensor.shape)}, not one vector"
        raise ExchangeUnusableError(place.name, problem, mend)
    return np.asarray(tensor.reshape(-1).float().numpy(), np.float32)


def _stacked(vectors: list[NDArray[np.float32]], place: Path) -> NDArray[np.float32]:
    lengths = sorted({len(one) for one in vectors})
    if len(lengths) > 1:
        problem = f"its vectors are {listed(tuple(lengths))} long"
        raise ExchangeUnusableError(place.name, problem, "import one encoder's folder at a time")
    return np.stack(vectors)


def _check_equal(vectors: NDArray[np.float32], first: NDArray[np.float32], place: Path) -> None:
    """One image under two names has one vector, as near as two batches of one machine give it."""
    difference = np.linalg.norm(vectors - first, axis=1)
    if (difference > TOLERANCE["fp32"] * np.linalg.norm(first, axis=1)).any():
        problem = "one image stands there twice, with different vectors"
        raise ExchangeUnusableError(place.name, problem, "the folder holds two encoders' features")


def _about(claims: Claims, vectors: NDArray[np.float32]) -> FeatureAttributes:
    unknown = Preprocessing(height=0, width=0, mean=(), std=())
    contract = Contract(
        architecture=f"imported:{claims.encoder}",
        code="eva",
        weights="unknown",
        preprocessing=unknown,
        pooling="unknown",
        dim=vectors.shape[1],
    )
    return FeatureAttributes(
        contract=contract, name=claims.encoder, licence="", citation="", batch=1, fingerprint=None
    )


def _run() -> Run:
    made = provenance("not known: imported from eva")
    return Run(id=secrets.token_hex(8), provenance=made, rate=None, failed={})


def _cohort(
    rows: list[dict[str, str]], row: NDArray[np.int64], claims: Claims, place: Path
) -> StoredCohort:
    target = [_number(one["target"], place) for one in rows]
    classes = claims.classes or tuple(map(str, range(max(target) + 1)))
    if max(target) >= len(classes):
        problem = f"target {max(target)} is none of the {len(classes)} classes"
        raise ExchangeUnusableError(place.name, problem, "name as many: --classes a,b,…")
    patient = [one[claims.patient].strip() for one in rows]
    if not all(patient):
        problem = f"{patient.count('')} rows name no patient"
        raise ExchangeUnusableError(place.name, problem, "fill the column: without it, folds leak")
    return StoredCohort(
        name=claims.cohort,
        classes=classes,
        row=row,
        label=np.array(target, np.int16),
        patient=claims.key.pseudonyms(claims.namespace, patient),
        strata={"split": np.array([one["split"].strip() or _NOT_GIVEN for one in rows], np.str_)},
        reader="eva",
        citation="",
        licence="",
        synthetic=False,
        key_id=claims.key.key_id,
        unreadable={},
    )


def _number(text: str, place: Path) -> int:
    """A class number; a float without a fraction is what pandas makes of one."""
    whole = text.strip().removesuffix(".0")
    if not re.fullmatch("[0-9]{1,9}", whole) or int(whole) > np.iinfo(np.int16).max:
        problem = f"target {text[:40]!r} is no class number"
        raise ExchangeUnusableError(place.name, problem, "only classification can be imported")
    return int(whole)


EXCHANGE = Exchange(name="eva", export=None, load=load, claims=True)
