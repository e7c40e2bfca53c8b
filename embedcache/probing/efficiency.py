"""The verb behind `probe --efficiency`: linear probes of few patients, predictions as units.

A unit is one draw of patients for one encoder: for each outer fold patients are drawn from its
training set, and the models of every size predict the fold and all external cohorts. So every
image at home is tested by models that none of its patient's images taught, as by the probe of all
patients, whose value ends the curve.

C is not tuned: a patient or two a class cannot be parted again, and among few patients it hardly
moves the class predicted, which is all that is kept (docs/decisions/0042).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.errors import NotConvergedError
from embedcache.executor import run_units
from embedcache.probing.estimators.scikit_learn import refit
from embedcache.probing.prepare import Prepared
from embedcache.probing.probe import prepare_beside, settle, worthwhile_workers
from embedcache.probing.units import decided_by, made_by
from embedcache.progress import Progress, Silent
from embedcache.protocol.judged import Judged
from embedcache.protocol.protocol import Protocol
from embedcache.protocol.subsets import draw_patients, patient_counts
from embedcache.results.efficiency_file import FewPredictions, efficiency_folder, write_few
from embedcache.results.layout import ResultsFolder
from embedcache.results.units import unit_name
from embedcache.store.feature_set import FeatureSet
from embedcache.store.objects import Root
from embedcache.store.reader import FeatureStore, open_store

ARM = "linear-probe"
#: Of every model: in the flat part for 1 to 50 patients a class (docs/decisions/0042).
C = 0.1
#: Of this code; a change of the models' numbers changes it.
_VERSION = "1"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FewUnit:
    """One draw for one encoder; the worker reads the features from the store itself.

    Attributes:
        name: sha256 of all that decides the content, 64 hex digits.
        file: where it goes; that it exists means that the unit is done.
        store: the feature store.
        encoder: the encoder's reference.
        features: its feature set.
        repeat: number of the draw.
        patients: patients a class.
        fold: outer fold of each training image, (n,) int8.
        train: the training cohort's judged images.
        external: each external cohort's.
        protocol: how models are judged.
        classes: the protocol's class list.
    """

    name: str
    file: Path
    store: Root
    encoder: str
    features: FeatureSet
    repeat: int
    patients: tuple[int, ...]
    fold: NDArray[np.int8]
    train: Judged
    external: tuple[Judged, ...]
    protocol: Protocol
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FewPlan:
    """What a run of few patients would do.

    Attributes:
        prepared: images, folds and encoders.
        patients: patients a class.
        missing: draws to be done.
        found: how many draws the results hold already.
        notes: what a person should know, one sentence each.
    """

    prepared: Prepared
    patients: tuple[int, ...]
    missing: tuple[FewUnit, ...]
    found: int
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Learned:
    """What a run of few patients did.

    Attributes:
        encoders: references of the encoders.
        patients: patients a class.
        done: draws done now.
        found: draws that were there already.
        notes: what a person should know, one sentence each.
    """

    encoders: tuple[str, ...]
    patients: tuple[int, ...]
    done: int
    found: int
    notes: tuple[str, ...]


def label_efficiency(
    store: Path | FeatureStore,
    protocol: Protocol,
    *,
    out: Path,
    encoders: Sequence[str] = (),
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Learned:
    """Fit linear probes of few patients a class, as `protocol.efficiency` asks.

    Draws that the results hold already are not done again.

    Args:
        store: a feature store, or its path.
        protocol: how models are judged.
        out: the results folder.
        encoders: references; none: every encoder that has seen all images.
        workers: processes; None: as many as pay.
        scheduler: where Dask does it instead, `ADDRESS` or `local:N`.
        progress: hears of stages and notes.

    Raises:
        TooFewForEfficiencyError: if the rarest class has too few patients to draw any.
        ProtocolDiffersError, BadInputError, FailedWorkError: as `probe`.
    """
    progress = progress or Silent()
    plan = plan_efficiency(store, protocol, out=out, encoders=encoders)
    settle(ResultsFolder(out), plan.prepared)
    for note in plan.notes:
        progress.note(note)
    missing = plan.missing
    numbers = sum(len(unit.train.row) * unit.features.contract.dim for unit in missing)
    number = workers or worthwhile_workers(numbers, len(missing))
    with progress.stage("learning from few", len(missing), "draws") as stage:
        for _ in run_units(do_few, missing, workers=number, scheduler=scheduler):
            stage.advance()
    return Learned(
        encoders=tuple(plan.prepared.encoders),
        patients=plan.patients,
        done=len(missing),
        found=plan.found,
        notes=plan.notes,
    )


def plan_efficiency(
    store: Path | FeatureStore, protocol: Protocol, *, out: Path, encoders: Sequence[str] = ()
) -> FewPlan:
    """Say what `label_efficiency` would do, and write nothing; raises as it does."""
    opened = open_store(store) if isinstance(store, Path) else store
    folder = ResultsFolder(out)
    prepared = prepare_beside(opened, protocol, encoders, folder)
    patients, note = patient_counts(
        prepared.folds, classes=prepared.record.classes, asked=protocol.efficiency.patients
    )
    units = [
        unit
        for encoder in prepared.encoders
        for unit in few_units(opened, prepared, encoder, patients, folder)
    ]
    missing = tuple(unit for unit in units if not unit.file.is_file())
    return FewPlan(
        prepared=prepared,
        patients=patients,
        missing=missing,
        found=len(units) - len(missing),
        notes=(note,) if note else (),
    )


def few_units(
    store: FeatureStore,
    prepared: Prepared,
    encoder: str,
    patients: tuple[int, ...],
    folder: ResultsFolder,
) -> tuple[FewUnit, ...]:
    """List an encoder's draws. Reads and hashes its features."""
    assert prepared.record.protocol is not None  # a probing has one
    protocol = prepared.record.protocol
    decides = {
        **decided_by(store, prepared, encoder),
        "arm": ARM,
        "code": f"few {_VERSION}",
        "C": C,
        "patients": patients,
    }
    names = [unit_name({**decides, "repeat": k}) for k in range(protocol.efficiency.repeats)]
    return tuple(
        FewUnit(
            name=name,
            file=efficiency_folder(folder, ARM, encoder) / f"{name}.parquet",
            store=store.place,
            encoder=encoder,
            features=prepared.encoders[encoder],
            repeat=repeat,
            patients=patients,
            fold=prepared.folds.fold[:, 0],
            train=prepared.train,
            external=prepared.external,
            protocol=protocol,
            classes=prepared.record.classes,
        )
        for repeat, name in enumerate(names)
    )


def do_few(unit: FewUnit) -> None:
    """Fit and predict one draw; durable on return.

    Raises:
        NotConvergedError: if a fit does not reach its optimum.
    """
    store = open_store(unit.store)
    x = store.features(unit.features.id, unit.train.row)
    abroad = [store.features(unit.features.id, judged.row) for judged in unit.external]
    parts = []
    for fold in np.unique(unit.fold[unit.fold >= 0]).tolist():
        tested = unit.fold == fold
        models = list(_models(unit, x, fold))
        parts.append(_predicted(unit, models, unit.train, x[tested], fold, tested))
        for judged, vectors in zip(unit.external, abroad, strict=True):
            every = np.ones(len(judged.row), np.bool_)
            parts.append(_predicted(unit, models, judged, vectors, fold, every))
    write_few(unit.file, parts)


@dataclass(frozen=True, slots=True, eq=False)
class _Few:
    """A model of few patients: logits are (x - mean) / scale @ weight.T + bias."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weight: NDArray[np.float64]
    bias: NDArray[np.float64]


def _models(unit: FewUnit, x: NDArray[np.float32], fold: int) -> Iterator[_Few]:
    """The models of each number of patients, drawn from one fold's training set."""
    label = unit.train.label
    drawn = draw_patients(
        label,
        unit.train.cluster,
        unit.fold != fold,
        most=unit.patients[-1],
        seed=(unit.protocol.seed, unit.repeat, fold),
    )
    for patients in unit.patients:
        rows = np.sort(drawn[:, :patients].ravel())
        try:
            model = refit(x[rows], label[rows], C, np.array([0.0]))
        except NotConvergedError as error:
            training = f"fold {fold}, {patients} patients a class, draw {unit.repeat}"
            raise replace(error, encoder=unit.encoder, training=training) from error
        yield _Few(model.mean, model.scale, model.weight, model.bias)


def _predicted(
    unit: FewUnit,
    models: Sequence[_Few],
    judged: Judged,
    x: NDArray[np.float32],
    fold: int,
    rows: NDArray[np.bool_],
) -> FewPredictions:
    """What the models say of some of a cohort's images, `rows` (n,) bool, whose features x are."""
    # Only the classes that the cohort has can be predicted: the rule `restricted`.
    present = np.unique(judged.label)
    logits = [(x - m.mean) / m.scale @ m.weight[present].T + m.bias[present] for m in models]
    site = judged.strata.get("site", np.full(len(judged.label), "", np.str_))
    return FewPredictions(
        maker=made_by(unit.features, encoder=unit.encoder, arm=ARM, settings={"C": C}),
        repeat=unit.repeat,
        cohort=judged.name,
        classes=unit.classes,
        image=judged.image[rows],
        label=judged.label[rows],
        cluster=judged.cluster[rows],
        site=site[rows],
        fold=np.full(len(x), fold, np.int8),
        patients=unit.patients,
        predicted=np.stack([present[logit.argmax(axis=1)] for logit in logits]),
    )
