"""The verb `shift`: how far apart a store's cohorts lie for each encoder, and encoders agree.

From features alone, labels or not: linear CKA between encoders, how well a linear probe tells two
cohorts apart, and a map of all images on two axes. What can be told apart is no measure of harm: a
probe that ignores what tells hospitals apart may well hold on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import NothingToCompareError
from embedcache.executor import run_units
from embedcache.probing.cohort_classifier import tell_apart
from embedcache.probing.prepare import references
from embedcache.probing.principal_axes import principal_map
from embedcache.probing.probe import worthwhile_workers
from embedcache.probing.similarity import linear_cka
from embedcache.probing.stored_rows import readable_rows
from embedcache.progress import Progress, Silent
from embedcache.protocol.clusters import digest_keys
from embedcache.provenance import provenance
from embedcache.results.layout import ResultsFolder
from embedcache.results.shift_file import (
    Agreement,
    EncoderShift,
    Map,
    Shift,
    map_file,
    read_map,
    write_map,
    write_shift,
)
from embedcache.results.units import unit_name
from embedcache.store.objects import Root
from embedcache.store.reader import FeatureStore, open_store

#: Of this code; a change of its numbers changes it.
_VERSION = "1"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Members:
    """The readable images of one cohort, each once, in order of digest.

    Attributes:
        name: of the cohort.
        row: row of the image table, (n,) int64.
        image: digests, (n, 32) uint8.
        label: name of the class, empty where there is none, (n,) str.
        patient: equal only for one person, (n,) str.
        site: (n,) str, empty without.
    """

    name: str
    row: NDArray[np.int64]
    image: NDArray[np.uint8]
    label: NDArray[np.str_]
    patient: NDArray[np.str_]
    site: NDArray[np.str_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ShiftUnit:
    """One encoder; the worker reads the features from the store itself.

    Attributes:
        name: sha256 of all that decides the content, 64 hex digits.
        file: where it goes; that it exists means that the unit is done.
        store: the feature store.
        encoder: the encoder's reference.
        feature_id: of its features.
        cohorts: each cohort's images.
        seed: of the folds.
    """

    name: str
    file: Path
    store: Root
    encoder: str
    feature_id: str
    cohorts: tuple[Members, ...]
    seed: int


def shift(
    store: Path | FeatureStore,
    *,
    out: Path,
    encoders: Sequence[str] = (),
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Shift:
    """Measure the shift between all cohorts of a store; writes RESULTS/shift/.

    Args:
        store: a feature store, or its path.
        out: the results folder.
        encoders: references; none: all.
        seed: of the folds of the cohort classifier.
        workers: processes; None: as many as pay.
        scheduler: where Dask does it instead, `ADDRESS` or `local:N`.
        progress: hears of stages and notes.

    Raises:
        UnknownNameError, AmbiguousNameError: as `FeatureStore.select`.
        NothingToCompareError: if there are no features, or no image that all encoders have seen.
        FailedWorkError: if a unit failed; the others are done.
    """
    progress = progress or Silent()
    opened = open_store(store) if isinstance(store, Path) else store
    folder = ResultsFolder(out)
    named = references(opened)
    by_id = {features.id: name for name, features in named.items()}
    chosen = [by_id[opened.select(name).id] for name in encoders] or list(named)
    cohorts, left_out = _common(opened, [named[name].id for name in chosen])
    if left_out:
        progress.note(f"{left_out:,} images that not every encoder has seen are left out")
    units = [_unit(opened, folder, name, named[name].id, cohorts, seed) for name in chosen]
    missing = [unit for unit in units if not unit.file.is_file()]
    images = sum(len(one.row) for one in cohorts)
    numbers = sum(images * named[unit.encoder].contract.dim for unit in missing)
    number = workers or worthwhile_workers(numbers, len(missing))
    with progress.stage("telling cohorts apart", len(missing), "encoders") as stage:
        for _ in run_units(do_shift, missing, workers=number, scheduler=scheduler):
            stage.advance()
    agreement = list(_agreement(opened, units, cohorts, progress))
    found = Shift(
        encoders=tuple(read_map(unit.file)[0] for unit in units),
        agreement=tuple(agreement),
        provenance=provenance(),
    )
    write_shift(folder, found)
    return found


def do_shift(unit: ShiftUnit) -> None:
    """Tell cohorts apart and draw the map of one encoder; durable on return.

    Raises:
        NotConvergedError: if a fit does not reach its optimum.
    """
    store = open_store(unit.store)
    read = partial(store.features, unit.feature_id)
    row = np.unique(np.concatenate([one.row for one in unit.cohorts]))
    x = read(row)
    place = {one.name: np.searchsorted(row, one.row) for one in unit.cohorts}
    points, explained = principal_map(x)
    pairs = [
        tell_apart(x, (a, place[a.name]), (b, place[b.name]), encoder=unit.encoder, seed=unit.seed)
        for a, b in combinations(unit.cohorts, 2)
    ]
    shift_of = EncoderShift(
        encoder=unit.encoder,
        feature_id=unit.feature_id,
        unit=unit.name,
        images=len(row),
        explained=explained,
        cohorts=tuple(pairs),
    )
    write_map(unit.file, shift_of, _map(unit.cohorts, points, place))


def _map(
    cohorts: Sequence[Members], points: NDArray[np.float64], place: dict[str, NDArray[np.int64]]
) -> Map:
    at = np.concatenate([points[place[one.name]] for one in cohorts])
    return Map(
        image=np.concatenate([one.image for one in cohorts]),
        cohort=np.repeat([one.name for one in cohorts], [len(one.row) for one in cohorts]),
        label=np.concatenate([one.label for one in cohorts]),
        site=np.concatenate([one.site for one in cohorts]),
        x=at[:, 0],
        y=at[:, 1],
    )


def _common(store: FeatureStore, feature_ids: Sequence[str]) -> tuple[tuple[Members, ...], int]:
    """Images that every encoder has, by cohort, and how many others there are."""
    if not feature_ids or not store.cohorts():
        raise NothingToCompareError(
            store.path.name, "no features" if store.cohorts() else "no cohorts"
        )
    done = np.logical_and.reduce([store.done(feature_id) for feature_id in feature_ids])
    found, every = [], set()
    for name in store.cohorts():
        one = _members(store, name)
        every |= set(one.row.tolist())
        kept = done[one.row]
        if kept.any():
            found.append(_only(one, kept))
    seen = {row for one in found for row in one.row.tolist()}
    if len(seen) < 2:
        raise NothingToCompareError(store.path.name, "no image that every encoder has seen")
    return tuple(found), len(every - seen)


def _members(store: FeatureStore, name: str) -> Members:
    rows = readable_rows(store.cohort(name), store.images.digest, {})
    names = np.array([*rows.classes, ""], np.str_)
    site = rows.strata.get("site", np.full(len(rows.row), "", np.str_))
    # An image listed twice counts once; which row stays depends on its label and site alone.
    order = np.lexsort((site, -rows.label, digest_keys(rows.image)))
    _, first = np.unique(digest_keys(rows.image)[order], return_index=True)
    kept = order[first]
    return Members(
        name=name,
        row=rows.row[kept],
        image=rows.image[kept],
        label=names[rows.label[kept]],
        patient=rows.patient[kept],
        site=site[kept],
    )


def _only(one: Members, kept: NDArray[np.bool_]) -> Members:
    return Members(
        name=one.name,
        row=one.row[kept],
        image=one.image[kept],
        label=one.label[kept],
        patient=one.patient[kept],
        site=one.site[kept],
    )


def _unit(
    store: FeatureStore,
    folder: ResultsFolder,
    encoder: str,
    feature_id: str,
    cohorts: tuple[Members, ...],
    seed: int,
) -> ShiftUnit:
    decides = {
        "what": f"shift {_VERSION}",
        "feature_id": feature_id,
        "content": store.content_digest(feature_id),
        "encoder": encoder,
        "seed": seed,
        "cohorts": {
            one.name: [
                one.image.tobytes().hex(),
                one.label.tolist(),
                one.patient.tolist(),
                one.site.tolist(),
            ]
            for one in cohorts
        },
    }
    name = unit_name(decides)
    return ShiftUnit(
        name=name,
        file=map_file(folder, name).absolute(),
        store=store.place,
        encoder=encoder,
        feature_id=feature_id,
        cohorts=cohorts,
        seed=seed,
    )


def _agreement(
    store: FeatureStore,
    units: Sequence[ShiftUnit],
    cohorts: Sequence[Members],
    progress: Progress,
) -> Iterator[Agreement]:
    """CKA of every pair of encoders, over all images first, then in each cohort."""
    groups = {one.name: one.row for one in cohorts}
    if len(cohorts) > 1:
        groups = {"": np.unique(np.concatenate([one.row for one in cohorts])), **groups}
    reads = [partial(store.features, unit.feature_id) for unit in units]
    with progress.stage("comparing encoders", len(groups), "groups") as stage:
        for cohort, rows in groups.items():
            for (a, b), cka in linear_cka(reads, rows).items():
                yield Agreement(
                    encoder=units[a].encoder,
                    other=units[b].encoder,
                    cohort=cohort,
                    images=len(rows),
                    cka=cka.plain,
                    cka_debiased=cka.debiased,
                )
            stage.advance()
