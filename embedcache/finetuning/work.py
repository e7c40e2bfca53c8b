"""Do a unit: train, predict, write. Whatever was there already is gone on from."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.device import device_name
from embedcache.finetuning.export import write_model
from embedcache.finetuning.gather import Gallery
from embedcache.finetuning.loop import Chosen, choose_rate, predict, train
from embedcache.finetuning.task import Report, Task, Trained
from embedcache.finetuning.units import REFIT, Unit, chosen_rate, learnt_and_set_aside
from embedcache.protocol.judged import Judged
from embedcache.provenance import provenance
from embedcache.results.curves_file import CurveRow, curve_file, write_curve
from embedcache.results.layout import ResultsFolder
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import write_predictions
from embedcache.results.record import Maker


def do_unit(unit: Unit, pictures: Gallery, device: str, report: Report) -> None:
    """Train, predict, and write model, curve and predictions, in this order; durable on return.

    Raises:
        TrainingDivergedError, DeviceTooSmallError: as `train`.
    """
    chosen = _trained(unit, pictures, device, report)
    made = _maker(unit, chosen, device)
    parts = list(_predictions(unit, chosen.trained, pictures, device, made))
    write_model(unit, chosen)
    write_curve(
        curve_file(ResultsFolder(unit.results), unit.predictions_file),
        tuple(_curve(unit, chosen.trained)),
    )
    if parts:
        write_predictions(unit.predictions_file, parts)
    shutil.rmtree(unit.checkpoints, ignore_errors=True)


def _trained(unit: Unit, pictures: Gallery, device: str, report: Report) -> Chosen:
    if unit.chooses == unit.name:
        tasks = tasks_of(unit, pictures, unit.asked.rates)
        return choose_rate(tasks, device=device, report=report)
    (task,) = tasks_of(unit, pictures, [chosen_rate(unit)])
    trained = train(task, device=device, report=report)
    return Chosen(rate=task.rate, trained=trained, loss={task.rate: trained.best.validation_loss})


def tasks_of(unit: Unit, pictures: Gallery, rates: Sequence[float]) -> tuple[Task, ...]:
    """The trainings of a unit, one a rate."""
    learnt, aside = learnt_and_set_aside(unit)
    protocol = unit.prepared.record.protocol
    assert protocol is not None
    return tuple(
        Task(
            encoder=unit.encoder,
            tune=unit.asked.tune,
            recipe=unit.asked.recipe,
            rate=rate,
            classes=unit.prepared.record.classes,
            training=pictures.of(unit.prepared.train, learnt),
            validation=pictures.of(unit.prepared.train, aside),
            folder=unit.checkpoints / f"rate-{rate:g}",
            seed=protocol.seed,
        )
        for rate in rates
    )


def _predictions(
    unit: Unit, trained: Trained, pictures: Gallery, device: str, made: Maker
) -> Iterator[Predictions]:
    asked: list[tuple[Judged, NDArray[np.bool_]]] = []
    if unit.fold != REFIT:
        asked.append((unit.prepared.train, unit.tested))
    asked += [(judged, np.ones(len(judged.row), np.bool_)) for judged in unit.prepared.external]
    for judged, which in asked:
        probability = predict(trained.state, unit.encoder, pictures.of(judged, which), device)
        yield Predictions(
            maker=made,
            cohort=judged.name,
            classes=unit.prepared.record.classes,
            image=judged.image[which],
            label=judged.label[which],
            cluster=judged.cluster[which],
            predicted=probability.argmax(axis=1).astype(np.int16),
            probability=probability,
            fold=np.full(len(probability), unit.fold, np.int8),
            strata={name: values[which] for name, values in judged.strata.items()},
        )


def _maker(unit: Unit, chosen: Chosen, device: str) -> Maker:
    trained = chosen.trained
    return Maker(
        encoder=unit.reference,
        arm=unit.asked.arm,
        feature_id=unit.encoder.contract.feature_id,
        contract=unit.encoder.contract,
        licence=unit.encoder.licence,
        citation=unit.encoder.citation,
        overlap=unit.encoder.overlap,
        extraction=provenance(device_name(device)),
        settings={
            "rate": chosen.rate,
            "best_epoch": float(trained.best_epoch),
            "epochs": float(len(trained.curve)),
        },
    )


def _curve(unit: Unit, trained: Trained) -> Iterator[CurveRow]:
    for row in trained.curve:
        yield CurveRow(
            fold=unit.fold,
            epoch=row.epoch,
            step=row.step,
            loss=row.loss,
            validation_loss=row.validation_loss,
            macro_f1=row.macro_f1,
            rate=row.rate,
            images_per_second=row.images_per_second,
            kept=int(row.epoch == trained.best_epoch),
        )
