"""Units of probing: one encoder, one training set, one file of predictions.

All units of an encoder are fitted together, whichever of them are missing: a solver that takes all
training sets at once is many times faster, and what a unit holds must not depend on which others
were there already, nor on how many processors there are.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache import registry
from embedcache.durable import write_file
from embedcache.errors import NotConvergedError
from embedcache.probing.estimators.estimator import Estimator, Fitted
from embedcache.probing.prepare import Prepared
from embedcache.protocol.judged import Judged
from embedcache.protocol.protocol import Protocol
from embedcache.results.layout import ResultsFolder
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import write_predictions
from embedcache.results.record import Maker
from embedcache.results.units import unit_name
from embedcache.schema import canonical_json
from embedcache.store.feature_set import FeatureSet
from embedcache.store.objects import Root
from embedcache.store.reader import FeatureStore, open_store

#: `fold` of the model that is fitted on all training images.
REFIT = -1


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Unit:
    """What a worker needs; features it reads from the store itself.

    Attributes:
        name: sha256 of all that decides the content, 64 hex digits.
        store: the feature store.
        results: the results folder.
        estimator: name of the estimator, which is the arm.
        encoder: the encoder's reference.
        features: its feature set.
        fold: the outer fold that is tested, or `REFIT`.
        tested: which training images the unit tests, (n,) bool; none in a refit.
        train: the training cohort's judged images.
        external: each external cohort's.
        protocol: how models are judged.
        classes: the protocol's class list.
    """

    name: str
    store: Root
    results: Path
    estimator: str
    encoder: str
    features: FeatureSet
    fold: int
    tested: NDArray[np.bool_]
    train: Judged
    external: tuple[Judged, ...]
    protocol: Protocol
    classes: tuple[str, ...]

    @property
    def predictions_file(self) -> Path:
        """Where the predictions lie; that it exists means that the unit is done."""
        folder = ResultsFolder(self.results).predictions_of(self.estimator, self.encoder)
        return folder / f"{self.name}.parquet"

    @property
    def model_file(self) -> Path:
        """Where the fitted model lies, as safetensors; its JSON is beside it."""
        arm, encoder, _ = self.predictions_file.parts[-3:]
        return self.results / "fitted" / arm / encoder / f"{self.name}.safetensors"


def units_of(
    store: FeatureStore, prepared: Prepared, estimator: str, encoder: str, results: Path
) -> tuple[Unit, ...]:
    """List an encoder's units: each outer fold, then the refit. Reads and hashes its features."""
    decides = {
        **decided_by(store, prepared, encoder),
        "arm": estimator,
        "code": registry.load("estimators", estimator).version,
    }
    fold = prepared.folds.fold[:, 0]
    return tuple(
        Unit(
            name=unit_name({**decides, "fold": tested}),
            store=store.place,
            results=results.absolute(),
            estimator=estimator,
            encoder=encoder,
            features=prepared.encoders[encoder],
            fold=tested,
            tested=fold == tested,
            train=prepared.train,
            external=prepared.external,
            protocol=_protocol(prepared),
            classes=prepared.record.classes,
        )
        for tested in (*range(int(fold.max()) + 1), REFIT)
    )


def decided_by(store: FeatureStore, prepared: Prepared, encoder: str) -> dict[str, object]:
    """What decides any unit of an encoder, beside how it learns. Reads and hashes its features."""
    feature_id = prepared.encoders[encoder].id
    cohorts = (prepared.train, *prepared.external)
    return {
        "protocol": prepared.record.protocol,
        "classes": prepared.record.classes,
        "folds": prepared.record.folds_sha256,
        "cohorts": {judged.name: judged.sha256 for judged in cohorts},
        "feature_id": feature_id,
        "vectors": {judged.name: _sha256(store, feature_id, judged.row) for judged in cohorts},
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """What a unit has to say.

    Attributes:
        encoder: the encoder's reference.
        training: the training set, in words.
        notes: what whoever reads the numbers should know.
    """

    encoder: str
    training: str
    notes: tuple[str, ...]


def do_units(units: tuple[Unit, ...]) -> tuple[Outcome, ...]:
    """Fit all units of one encoder, then write those that are missing; durable on return.

    A fit that fails does not keep the others from being written.

    Raises:
        NotConvergedError: if a fit does not reach its optimum, once the others are written.
    """
    store = open_store(units[0].store)
    models = _fit(units, store.features(units[0].features.id, units[0].train.row))
    outcomes = []
    failed: NotConvergedError | None = None
    for unit, fitted in zip(units, models, strict=True):
        if isinstance(fitted, NotConvergedError):
            named = replace(fitted, encoder=unit.encoder, training=_training(unit.fold))
            failed = failed or named
        elif not is_done(unit):
            outcomes.append(_write(unit, fitted, store))
    if failed is not None:
        raise failed
    return tuple(outcomes)


def is_done(unit: Unit) -> bool:
    """Whether a unit's last file is there; a refit that predicts nothing leaves its model only."""
    nothing_to_predict = unit.fold == REFIT and not unit.external
    return (unit.model_file if nothing_to_predict else unit.predictions_file).is_file()


def _fit(units: tuple[Unit, ...], x: NDArray[np.float32]) -> tuple[Fitted | NotConvergedError, ...]:
    first = units[0]
    estimator: Estimator = registry.load("estimators", first.estimator)
    return estimator.fit(
        x,
        first.train.label,
        first.train.cluster,
        np.stack([~unit.tested for unit in units]),
        tuning=first.protocol.tuning,
        seed=first.protocol.seed,
    )


def _write(unit: Unit, fitted: Fitted, store: FeatureStore) -> Outcome:
    """Predict, and write model and predictions, in this order."""
    asked = [] if unit.fold == REFIT else [(unit.train, unit.tested)]
    asked += [(judged, np.ones(len(judged.row), np.bool_)) for judged in unit.external]
    parts = [_predict(unit, fitted, store, judged, which) for judged, which in asked]
    _write_model(unit, fitted)
    if parts:
        write_predictions(unit.predictions_file, parts)
    return Outcome(encoder=unit.encoder, training=_training(unit.fold), notes=fitted.notes)


def _predict(
    unit: Unit, fitted: Fitted, store: FeatureStore, judged: Judged, which: NDArray[np.bool_]
) -> Predictions:
    """Predict some of a cohort's judged images; `which` is (n,) bool."""
    x = store.features(unit.features.id, judged.row[which])
    probability = fitted.probabilities(x)
    return Predictions(
        maker=made_by(
            unit.features, encoder=unit.encoder, arm=unit.estimator, settings=fitted.settings
        ),
        cohort=judged.name,
        classes=unit.classes,
        image=judged.image[which],
        label=judged.label[which],
        cluster=judged.cluster[which],
        predicted=probability.argmax(axis=1).astype(np.int16),
        probability=probability,
        fold=np.full(len(x), unit.fold, np.int8),
        strata={name: values[which] for name, values in judged.strata.items()},
    )


def made_by(features: FeatureSet, *, encoder: str, arm: str, settings: dict[str, float]) -> Maker:
    """What predictions from a feature set say of their origin."""
    return Maker(
        encoder=encoder,
        arm=arm,
        feature_id=features.id,
        contract=features.contract,
        licence=features.licence,
        citation=features.citation,
        overlap=features.overlap,
        extraction=features.runs[-1].provenance if features.runs else None,
        settings=settings,
    )


def _write_model(unit: Unit, fitted: Fitted) -> None:
    from safetensors.numpy import save

    about = {
        "format_version": 1,
        "estimator": unit.estimator,
        "encoder": unit.encoder,
        "feature_id": unit.features.id,
        "classes": unit.classes,
        "fold": unit.fold,
        "settings": fitted.settings,
        "notes": fitted.notes,
    }
    write_file(unit.model_file.with_suffix(".json"), canonical_json(about) + b"\n")
    arrays = {name: np.ascontiguousarray(array) for name, array in fitted.state().items()}
    write_file(unit.model_file, save(arrays))


def _sha256(store: FeatureStore, feature_id: str, rows: NDArray[np.int64]) -> str:
    x = store.features(feature_id, rows)
    return hashlib.sha256(np.ascontiguousarray(x, "<f4").data).hexdigest()


def _protocol(prepared: Prepared) -> Protocol:
    assert prepared.record.protocol is not None
    return prepared.record.protocol


def _training(fold: int) -> str:
    return "all training images" if fold == REFIT else f"fold {fold}"
