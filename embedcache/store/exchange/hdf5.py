"""HDF5 as pathology tools lay it out: `features`, (k, dim), and an identifier a row beside it.

CLAM and TRIDENT write a file with `features` and `coords` for each slide; their readers take
`features` as it stands. An image has no place in a slide, so that `digest` stands for `coords`.
What else a store knows lies in `images`, `cohorts` and `about`, for the way back. Nothing is
compressed or linked, and a file that is otherwise is refused: a link may lead to any file of the
reader's, and a few compressed bytes may fill their memory.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import PARTIAL, sync_folder
from embedcache.errors import ExchangeUnusableError
from embedcache.schema import canonical_json
from embedcache.store.exchange.format import (
    MEND,
    Claims,
    Exchange,
    FeatureTable,
    checked_table,
    cohort_of,
    describe,
    read_description,
    refuse_claims,
)
from embedcache.store.image_table import ImageTable
from embedcache.store.objects import MOST_DOCUMENT
from embedcache.store.stored_cohort import CohortAttributes, StoredCohort

if TYPE_CHECKING:
    import h5py


def export(table: FeatureTable, out: Path) -> None:
    """Write one file.

    Raises:
        OSError: as the system gives it.
    """
    import h5py

    partial = out.with_name(out.name + PARTIAL)
    try:
        # No times: the same features are the same bytes.
        with h5py.File(partial, "w", track_order=False) as file:
            _write(file, table)
        with partial.open("rb+") as written:
            os.fsync(written.fileno())
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(out.parent)


def load(place: Path, claims: Claims | None = None) -> FeatureTable:
    """Read such a file; vectors are held in memory.

    Raises:
        ExchangeUnusableError: if it is no such file.
    """
    import h5py

    refuse_claims(claims)
    try:
        with h5py.File(place, "r") as file:
            return _read(file, place.name)
    # h5py's words for damage, which may be met at any byte
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ExchangeUnusableError(place.name, "it is no sound HDF5 file", MEND) from error


def _write(file: h5py.File, table: FeatureTable) -> None:
    contract, done = table.about.contract, table.vectors.shape[0]
    shape = (done, contract.dim)
    dtype = np.dtype(contract.dtype).newbyteorder("<")
    features = file.create_dataset("features", shape, dtype, track_times=False)
    features.attrs["encoder"] = table.about.name
    for start, part in table.parts():
        features[start : start + len(part)] = part
    arrays: dict[str, NDArray[Any]] = {"digest": table.images.digest[:done]}
    arrays |= {f"images/{name}": values for name, values in table.images.arrays().items()}
    for cohort in table.cohorts:
        columns: dict[str, NDArray[Any]] = {
            "row": cohort.row,
            "label": cohort.label,
            "patient": cohort.patient,
        }
        for name, value in cohort.strata.items():
            columns[name] = np.unique(value, return_inverse=True)[1].astype(np.int16)
        arrays |= {f"cohorts/{cohort.name}/{name}": column for name, column in columns.items()}
    about = canonical_json(describe(table))
    for name, values in {**arrays, "about": np.frombuffer(about, np.uint8)}.items():
        file.create_dataset(name, data=values, track_times=False)


def _read(file: h5py.File, place: str) -> FeatureTable:
    text = _array(file, "about", np.uint8, 1).tobytes()
    if len(text) > MOST_DOCUMENT:
        raise ExchangeUnusableError(place, f"it takes {len(text):,} bytes to say what it is", MEND)
    about = read_description(text, place)
    kinds = {"digest": (np.uint8, 2), "size": (np.int32, 2)}
    kinds |= {"format": (np.int16, 1), "mode": (np.int16, 1)}
    images = ImageTable(
        **{name: _array(file, f"images/{name}", *kind) for name, kind in kinds.items()},
        formats=about.formats,
        modes=about.modes,
    )
    if (
        not images.digest.shape[1] == 32
        or len({len(part) for part in images.arrays().values()}) > 1
    ):
        raise ExchangeUnusableError(place, "its image table does not hold together", MEND)
    table = FeatureTable(
        about=about.about,
        runs=about.runs,
        images=images,
        vectors=_array(file, "features", about.about.contract.dtype, 2),
        cohorts=tuple(_cohort(file, name, one, place) for name, one in about.cohorts.items()),
    )
    return checked_table(table, about, place)


def _cohort(file: h5py.File, name: str, about: CohortAttributes, place: str) -> StoredCohort:
    node = f"cohorts/{name}"
    arrays = {
        "row": _array(file, f"{node}/row", np.int64, 1),
        "label": _array(file, f"{node}/label", np.int16, 1),
        "patient": _array(file, f"{node}/patient", np.uint8, 2),
    }
    strata = {}
    for stratum, categories in about.categories.items():
        code = arrays[f"{stratum} code"] = _array(file, f"{node}/{stratum}", np.int16, 1)
        if len(code) and not 0 <= code.min() <= code.max() < len(categories):
            problem = f"{node}/{stratum} has codes without a category"
            raise ExchangeUnusableError(place, problem, MEND)
        strata[stratum] = np.array(categories, np.str_)[code]
    if len({len(part) for part in arrays.values()}) > 1 or arrays["patient"].shape[1] != 16:
        raise ExchangeUnusableError(place, f"{node} does not hold together", MEND)
    return cohort_of(name, about, arrays, strata)


def _array(file: h5py.File, name: str, dtype: Any, dimensions: int) -> NDArray[Any]:
    """An array that lies in this file, plainly, and takes no more memory than it takes there.

    Raises:
        ExchangeUnusableError: if it does not.
    """
    import h5py

    place = Path(file.filename).name
    group, *parts = name.split("/")
    for depth in range(len(parts) + 1):
        path = "/".join((group, *parts[:depth]))
        if not isinstance(file.get(path, getlink=True), h5py.HardLink):
            raise ExchangeUnusableError(place, f"{path} is missing, or leads elsewhere", MEND)
    found = file[name]
    plain = (
        isinstance(found, h5py.Dataset)
        and found.dtype == np.dtype(dtype)
        and found.ndim == dimensions
        and not found.is_virtual
        and found.external is None
        and found.id.get_create_plist().get_nfilters() == 0
        and found.id.get_storage_size() == found.size * found.dtype.itemsize
    )
    if not plain:
        raise ExchangeUnusableError(place, f"{name} is not as we write it", MEND)
    return np.asarray(found[()])


EXCHANGE = Exchange(name="hdf5", export=export, load=load)
