"""Units of fine-tuning: one encoder, one arm, one training set, one file of predictions.

The training images of a unit are parted once more by patient cluster, by the greedy rule of the
outer folds: four fifths are learnt from, the fifth says when to stop and, in the first fold, which
learning rate is best. The images that the fold tests, and external cohorts, are predicted once,
when all of this is settled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.encoders.resolve import ResolvedEncoder
from embedcache.errors import RateNotChosenError, TrainingClassAbsentError
from embedcache.finetuning.prepare import Prepared
from embedcache.finetuning.recipe import ARMS, Recipe, Tune
from embedcache.protocol.folds import assign_inner_folds
from embedcache.results.layout import ResultsFolder
from embedcache.results.units import unit_name

#: `fold` of the model that is trained on all training images.
REFIT = -1
#: Raised whenever the same inputs come to give another model.
VERSION = "1"
#: One of so many inner folds is set aside to stop by.
INNER = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """How encoders are tuned.

    Attributes:
        tune: what of them is trained.
        recipe: every setting but the rate.
        rates: learning rates; of several the first fold's inner split chooses.
        refit: whether a model of all training images is made too.
    """

    tune: Tune = "full"
    recipe: Recipe = field(default_factory=Recipe)
    rates: tuple[float, ...]
    refit: bool = False

    @property
    def arm(self) -> str:
        """The name under which results keep it."""
        return ARMS[self.tune]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Unit:
    """What a worker needs; pictures it reads itself.

    Attributes:
        name: sha256 of all that decides the content, 64 hex digits.
        results: the results folder.
        reference: the encoder's name in the results.
        encoder: where training starts.
        asked: how it is tuned.
        fold: the outer fold that is tested, or `REFIT`.
        prepared: images, labels, patients, classes.
        chooses: file of the model whose training chooses the rate; the unit's own, if that does.
    """

    name: str
    results: Path
    reference: str
    encoder: ResolvedEncoder
    asked: Asked
    fold: int
    prepared: Prepared
    chooses: str

    @property
    def predictions_file(self) -> Path:
        """Where the predictions lie; that it exists means that the unit is done."""
        folder = ResultsFolder(self.results).predictions_of(self.asked.arm, self.reference)
        return folder / f"{self.name}.parquet"

    @property
    def model_file(self) -> Path:
        """Where the tuned encoder lies; `….head.safetensors` and `….json` are beside it."""
        arm, encoder, _ = self.predictions_file.parts[-3:]
        return self.results / "fitted" / arm / encoder / f"{self.name}.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Where its trainings keep what they go on from; gone once it is done."""
        arm, encoder, _ = self.predictions_file.parts[-3:]
        return self.results / "checkpoints" / arm / encoder / self.name

    @property
    def training(self) -> str:
        """The training set, in words."""
        return "all training images" if self.fold == REFIT else f"fold {self.fold}"

    @property
    def tested(self) -> NDArray[np.bool_]:
        """Which training images it tests, (n,) bool; none in a refit."""
        fold = self.prepared.folds.fold[:, 0]
        return fold == self.fold if self.fold != REFIT else np.zeros(len(fold), np.bool_)

    @property
    def done(self) -> bool:
        """Whether its last file is there; a refit that predicts nothing leaves its model only."""
        nothing_to_predict = self.fold == REFIT and not self.prepared.external
        return (self._about_file if nothing_to_predict else self.predictions_file).is_file()

    @property
    def _about_file(self) -> Path:
        return self.model_file.with_suffix(".json")

    @property
    def searches(self) -> bool:
        """Whether it tries several rates, for itself and the others of its encoder."""
        return self.chooses == self.name and len(self.asked.rates) > 1

    @property
    def trainings(self) -> int:
        """How many trainings it takes."""
        return len(self.asked.rates) if self.searches else 1


def units_of(
    prepared: Prepared, reference: str, encoder: ResolvedEncoder, asked: Asked, results: Path
) -> tuple[Unit, ...]:
    """List an encoder's units: each outer fold, then the refit.

    The refit is listed whether asked for or not, so that one that is there is known.

    Raises:
        TrainingClassAbsentError: if a fold has no image of a class to learn from.
    """
    decides = {
        "protocol": prepared.record.protocol,
        "classes": prepared.record.classes,
        "folds": prepared.record.folds_sha256,
        "cohorts": {one.name: one.sha256 for one in (prepared.train, *prepared.external)},
        "contract": encoder.contract,
        "arm": asked.arm,
        "code": VERSION,
        "inner": INNER,
        "recipe": asked.recipe,
        "rates": asked.rates,
    }
    folds = (*range(int(prepared.folds.fold[:, 0].max()) + 1), REFIT)
    names = {fold: unit_name({**decides, "fold": fold}) for fold in folds}
    units = tuple(
        Unit(
            name=names[fold],
            results=results.absolute(),
            reference=reference,
            encoder=encoder,
            asked=asked,
            fold=fold,
            prepared=prepared,
            chooses=names[folds[0]],
        )
        for fold in folds
    )
    for unit in units:
        _require_classes(unit)
    return units


def learnt_and_set_aside(unit: Unit) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Part a unit's training images by patient cluster: learnt from, and stopped by; (n,) bool."""
    train, folds = ~unit.tested, unit.prepared.folds
    protocol = unit.prepared.record.protocol
    assert protocol is not None
    inner = np.full(len(train), -1, np.int64)
    inner[train] = assign_inner_folds(
        folds.label[train], folds.cluster[train], folds=INNER, seed=protocol.seed
    )
    return inner > 0, inner == 0


def has_rate(unit: Unit) -> bool:
    """Whether a unit's learning rate is known, or its own to choose."""
    return unit.chooses == unit.name or len(unit.asked.rates) == 1 or _chooser(unit).is_file()


def chosen_rate(unit: Unit) -> float:
    """The learning rate of an encoder, as its first unit chose it.

    Raises:
        RateNotChosenError: if that unit is not done.
    """
    if len(unit.asked.rates) == 1:
        return unit.asked.rates[0]
    if not _chooser(unit).is_file():
        raise RateNotChosenError(unit.reference)
    return float(json.loads(_chooser(unit).read_bytes())["rate"])


def _chooser(unit: Unit) -> Path:
    return unit.model_file.with_name(f"{unit.chooses}.json")


def _require_classes(unit: Unit) -> None:
    learnt, _ = learnt_and_set_aside(unit)
    classes = unit.prepared.record.classes
    present = set(unit.prepared.train.label[learnt].tolist())
    for place, name in enumerate(classes):
        if place not in present:
            raise TrainingClassAbsentError(name, classes)
