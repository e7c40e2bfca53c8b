"""The verb `predict`: apply a fitted probe to a cohort of a store, labelled or not.

The model is the refit, fitted on all training images. The store may be another one, as long as it
holds features of the same feature id. What the model was trained on is left out and counted, as
for an external cohort of a protocol.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import registry
from embedcache.errors import (
    FeatureIdDiffersError,
    IncompleteFeaturesError,
    NothingToJudgeError,
    PredictionsFileError,
    SchemaError,
    UnknownNameError,
)
from embedcache.probing.estimators.estimator import Fitted
from embedcache.probing.stored_rows import readable_rows
from embedcache.probing.units import REFIT
from embedcache.progress import Progress, Silent
from embedcache.protocol.audit import LEAKS, external_leaks
from embedcache.protocol.clusters import Links, cluster_images, digest_keys, number_clusters
from embedcache.protocol.folds import Folds
from embedcache.protocol.judged import Rows, leave_out_failed, left_out_of
from embedcache.protocol.protocol import Protocol
from embedcache.results.folds_file import read_folds
from embedcache.results.layout import ResultsFolder, folder_name, open_results, read_record
from embedcache.results.prediction_table import PredictionTable, check_place, write_table
from embedcache.schema import from_json
from embedcache.store.reader import FeatureStore, open_store

LISTED_TWICE = "listed twice"


@dataclass(frozen=True, kw_only=True, slots=True)
class About:
    """The JSON beside a fitted model."""

    format_version: int
    estimator: str
    encoder: str
    feature_id: str
    classes: tuple[str, ...]
    fold: int
    settings: dict[str, float]
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Predicted:
    """What a prediction did.

    Attributes:
        images: predicted.
        labelled: how many of them carry a label.
        left_out: rows not predicted, by reason.
        notes: what a person should know, one sentence each.
    """

    images: int
    labelled: int
    left_out: dict[str, int]
    notes: tuple[str, ...]


def predict(
    store: Path | FeatureStore,
    cohort: str,
    *,
    results: Path,
    encoder: str,
    out: Path,
    estimator: str = "linear-probe",
    progress: Progress | None = None,
) -> Predicted:
    """Predict every image of a cohort by the probe that was fitted on all training images.

    Args:
        store: with features of the cohort; the one that the probe learnt from, or another.
        cohort: its name there; rows without a label are predicted too.
        results: the folder that `probe` wrote.
        encoder: as that folder calls it.
        out: the table to be written, `.csv` or `.parquet`; `evaluate` reads it.
        estimator: whose model, the arm.
        progress: hears of notes.

    Raises:
        PathMissingError, NoResultsError, NewerResultsError: if the folder cannot be used.
        UnknownNameError: if it has no such model, or the store no such cohort.
        FeatureIdDiffersError: if the store has no features of the model's own feature id.
        IncompleteFeaturesError: if it lacks images of the cohort.
        NothingToJudgeError: if no image is left to predict.
        FileInTheWayError, NotATableNameError: if the table cannot be written there.
        PredictionsFileError: if the model is damaged.
    """
    check_place(out)
    folder = open_results(results)
    protocol = read_record(folder).protocol
    file, about = find_refit(folder, estimator, encoder)
    opened = open_store(store) if isinstance(store, Path) else store
    _check_feature_id(opened, about)
    # A table of foreign predictions has no fitted models, so there is a protocol.
    assert protocol is not None
    rows = readable_rows(opened.cohort(cohort), opened.images.digest, protocol.merges)
    _leave_out(opened, rows, about, read_folds(folder), protocol)
    if not rows.judged.any():
        raise NothingToJudgeError(cohort=cohort, left_out=left_out_of(rows))
    model = _read_model(file, about)
    table = _table(opened, rows, model, about, protocol.links)
    write_table(out, table)
    labelled = sum(label != "" for label in table.label)
    done = Predicted(
        images=len(table.label),
        labelled=labelled,
        left_out=left_out_of(rows),
        notes=tuple(_notes(table, rows, about)),
    )
    for note in done.notes:
        (progress or Silent()).note(note)
    return done


def find_refit(folder: ResultsFolder, estimator: str, encoder: str) -> tuple[Path, About]:
    """Find the model that an encoder's probe fitted on all training images.

    Returns:
        Its safetensors file, and what lies beside it.

    Raises:
        UnknownNameError: if there is none; lists those that are there.
    """
    place = folder.path / "fitted" / folder_name(estimator) / folder_name(encoder)
    for file in sorted(place.glob("*.json")):
        about = _about(file)
        if about.fold == REFIT:
            return file.with_suffix(".safetensors"), about
    found = {_about(file).encoder for file in place.parent.glob("*/*.json")}
    raise UnknownNameError(f"fitted {estimator}", encoder, tuple(sorted(found)))


def _about(file: Path) -> About:
    try:
        return from_json(About, file.read_bytes(), file.name)
    except SchemaError as error:
        raise PredictionsFileError(file, f"cannot be read ({error})") from error


def _check_feature_id(store: FeatureStore, about: About) -> None:
    name = about.encoder.partition("#")[0]
    sets = store.feature_sets()
    if about.feature_id not in {one.id for one in sets}:
        there = tuple(one.id for one in sets if one.name == name)
        raise FeatureIdDiffersError(about.encoder, about.feature_id, there)


def _leave_out(
    store: FeatureStore, rows: Rows, about: About, folds: Folds, protocol: Protocol
) -> None:
    """Leave out what has no features, what the model was trained on, and what stands twice."""
    failed = store.failed(about.feature_id)
    settled = store.done(about.feature_id).copy()
    settled[list(failed)] = True
    missing = int((~settled[np.unique(rows.row)]).sum())
    if missing:
        raise IncompleteFeaturesError(about.encoder, missing, (rows.about.name,))
    leave_out_failed(rows, {about.encoder: failed})
    patient = _train_patients(store, folds, protocol)
    trained = np.ones(len(folds.label), np.bool_)
    leak = external_leaks(folds.image, patient, trained, rows.image, rows.patient, protocol.links)
    for code, reason in enumerate(LEAKS[1:], start=1):
        rows.leave_out(leak == code, reason)
    kept = np.flatnonzero(rows.judged)
    strata = [rows.strata[name][kept] for name in sorted(rows.strata)]
    image = np.unique(digest_keys(rows.image), return_inverse=True)[1]
    order = kept[np.lexsort([*strata, image[kept]])]
    repeat = np.zeros(len(image), np.bool_)
    repeat[order[1:]] = image[order[1:]] == image[order[:-1]]
    rows.leave_out(repeat, LISTED_TWICE)


def _train_patients(store: FeatureStore, folds: Folds, protocol: Protocol) -> NDArray[np.str_]:
    """Patient of each training image: as this store knows it, else its cluster's number, (n,)."""
    known: dict[bytes, str] = {}
    if protocol.train in store.cohorts():
        rows = readable_rows(store.cohort(protocol.train), store.images.digest, {})
        known = dict(zip(digest_keys(rows.image).tolist(), rows.patient.tolist(), strict=True))
    keys = digest_keys(folds.image).tolist()
    clusters = [f"cluster {cluster}" for cluster in folds.cluster.tolist()]
    patients = [known.get(key, other) for key, other in zip(keys, clusters, strict=True)]
    return np.array(patients, np.str_)


def _read_model(file: Path, about: About) -> Fitted:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        state = load_file(file)
    except (SafetensorError, OSError) as error:
        raise PredictionsFileError(file, f"cannot be read ({error})") from error
    model: Fitted = registry.load("estimators", about.estimator).restore(state)
    return model


def _table(
    store: FeatureStore, rows: Rows, model: Fitted, about: About, links: Links
) -> PredictionTable:
    cluster = cluster_images(rows.image, rows.patient, links)
    order = np.flatnonzero(rows.judged)
    order = order[np.argsort(digest_keys(rows.image)[order], kind="stable")]
    image = rows.image[order]
    return PredictionTable(
        encoder=about.encoder,
        arm=about.estimator,
        cohort=rows.about.name,
        classes=about.classes,
        image=tuple(digest.tobytes().hex() for digest in image),
        cluster=number_clusters(image, cluster[order]),
        label=_labels(rows, order),
        probability=model.probabilities(store.features(about.feature_id, rows.row[order])),
        strata={name: values[order] for name, values in rows.strata.items()},
    )


def _labels(rows: Rows, order: NDArray[np.int64]) -> tuple[str, ...]:
    """Name of each image's class; empty where it has none, or two."""
    said: dict[bytes, set[int]] = {}
    for key, label in zip(digest_keys(rows.image).tolist(), rows.label.tolist(), strict=True):
        said.setdefault(key, set()).add(label)
    own = [said[key] - {-1} for key in digest_keys(rows.image[order]).tolist()]
    return tuple(rows.classes[labels.pop()] if len(labels) == 1 else "" for labels in own)


def _notes(table: PredictionTable, rows: Rows, about: About) -> Sequence[str]:
    """Say what was predicted, and what `evaluate` will stumble over."""
    count = Counter(table.label)
    unlabelled = count.pop("", 0)
    notes = [f"{table.cohort}: {len(table.label):,} images predicted by {about.encoder}"]
    left_out = left_out_of(rows)
    if left_out:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in left_out.items())
        notes.append(f"rows left out: {reasons}")
    if unlabelled:
        notes.append(f"{unlabelled:,} images have no label, so evaluate cannot judge them")
    strange = [f"{name} ({count[name]:,})" for name in sorted(set(count) - set(about.classes))]
    if strange:
        notes.append(f"labels that the model does not know: {', '.join(strange)}")
    return notes
