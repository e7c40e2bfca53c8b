"""The arm `zero-shot`: an image belongs to the class whose words lie nearest to it.

Radford et al., ICML 2021, section 3.1: a class's prompts are embedded, normalised, averaged and
normalised again; the cosine of an image's vector with each class, times the checkpoint's
temperature, goes through a softmax. Nothing is trained, so every fold's model is the same and the
refit too: they are written all the same, for the estimands of this arm to stand beside the others'
on the same images.

Prompts come embedded: no model runs here. A unit is named by the words, not by their vectors,
because these differ in the last bit from machine to machine; the encoder's feature id says with
which weights both were made (docs/decisions/0078).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedcache.durable import clear_partial
from embedcache.errors import NotExtractedError, OtherUnitsError
from embedcache.probing.prepare import Prepared
from embedcache.probing.probe import ABANDONED, judged_notes, prepare_beside, settle
from embedcache.probing.prompts import Prompts, check_prompts, default_prompts
from embedcache.probing.units import REFIT, decided_by, made_by
from embedcache.progress import Progress, Silent
from embedcache.protocol.classes import merge_classes
from embedcache.protocol.judged import Judged
from embedcache.protocol.protocol import Protocol
from embedcache.results.layout import ResultsFolder, folder_name
from embedcache.results.predictions import Predictions
from embedcache.results.predictions_file import write_predictions
from embedcache.results.units import unit_name
from embedcache.store.feature_set import FeatureSet
from embedcache.store.reader import FeatureStore

ARM = "zero-shot"
#: Raised whenever the same words and vectors come to give other probabilities.
VERSION = "1"


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ZeroShotPlan:
    """What a zero-shot would do.

    Attributes:
        store: with the images' vectors.
        results: the folder.
        prepared: images, folds and the encoder.
        encoder: its reference in the store.
        prompt: all sentences, class after class, (p,).
        of: the class of each, an index into the protocol's list, (p,) int64.
        file: where the predictions lie or will lie.
        found: whether they lie there already.
    """

    store: FeatureStore
    results: ResultsFolder
    prepared: Prepared
    encoder: str
    prompt: tuple[str, ...]
    of: NDArray[np.int64]
    file: Path
    found: bool

    @property
    def features(self) -> FeatureSet:
        """The feature set that is read."""
        return self.prepared.encoders[self.encoder]


def plan_zero_shot(
    store: FeatureStore,
    protocol: Protocol,
    *,
    out: Path,
    encoder: str,
    feature_id: str,
    prompts: Prompts | None = None,
) -> ZeroShotPlan:
    """Settle images and words before any prompt is embedded; writes nothing.

    Args:
        store: with features of the protocol's cohorts.
        protocol: how models are judged.
        out: the results folder.
        encoder: how it was asked for, for errors.
        feature_id: of its image vectors, whose weights embed the prompts.
        prompts: of every class judged; None: our own for fetal planes.

    Raises:
        NotExtractedError: if the store has no features of that id.
        PromptsMissingError, PromptsUnknownClassError: as `check_prompts`.
        ProtocolDiffersError: if the results folder was made under another protocol.
        OtherUnitsError: if it holds zero-shot predictions of other words or features.
        BadInputError: as `prepare`.
    """
    if feature_id not in {one.id for one in store.feature_sets()}:
        names = tuple(f"{one.name}#{one.id}" for one in store.feature_sets())
        raise NotExtractedError(encoder, feature_id, names)
    folder = ResultsFolder(out)
    prepared = prepare_beside(store, protocol, [store.reference(feature_id)], folder)
    classes = prepared.record.classes
    known = tuple(_known_classes(store, protocol))
    prompts = prompts or default_prompts(known)
    check_prompts(prompts, classes, known)
    sentences = [
        (prompt, place) for place, name in enumerate(classes) for prompt in prompts.of(name)
    ]
    (name,) = prepared.encoders
    decides = {
        **decided_by(store, prepared, name),
        "arm": ARM,
        "code": VERSION,
        "prompts": [prompts.of(one) for one in classes],
    }
    file = folder.predictions_of(ARM, name) / f"{unit_name(decides)}.parquet"
    if {held.name for held in file.parent.glob("*.parquet")} - {file.name}:
        raise OtherUnitsError(out, ARM, folder_name(name))
    return ZeroShotPlan(
        store=store,
        results=folder,
        prepared=prepared,
        encoder=name,
        prompt=tuple(prompt for prompt, _ in sentences),
        of=np.array([place for _, place in sentences], np.int64),
        file=file,
        found=file.is_file(),
    )


def zero_shot(
    plan: ZeroShotPlan,
    vector: NDArray[np.float32],
    *,
    scale: float,
    progress: Progress | None = None,
) -> None:
    """Write the predictions of a plan, unless they are there.

    Args:
        plan: see `plan_zero_shot`.
        vector: of the plan's prompts, in its order, (p, dim) float32; normalised or not.
        scale: what the checkpoint multiplies a cosine by.
        progress: hears of notes.

    Raises:
        ValueError: if the vectors are not the plan's prompts', or of another space.
    """
    progress = progress or Silent()
    expected = (len(plan.prompt), plan.features.contract.dim)
    if vector.shape != expected:
        raise ValueError(f"{vector.shape} prompt vectors where the plan has {expected}")
    settle(plan.results, plan.prepared)
    clear_partial(plan.results.path, idle=ABANDONED)
    words = class_vectors(vector, plan.of)
    write_predictions(plan.file, list(_predictions(plan, words, scale)))
    for note in (*plan.prepared.notes, *judged_notes(plan.prepared)):
        progress.note(note)


def class_vectors(vector: NDArray[np.float32], of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average each class's prompts on the sphere.

    Args:
        vector: of prompts, (p, dim).
        of: the class of each, every one from 0 at least once, (p,).

    Returns:
        (c, dim) float64 of length one.
    """
    unit = _normalised(vector)
    return _normalised(np.stack([unit[of == k].mean(axis=0) for k in range(int(of.max()) + 1)]))


def logits(x: NDArray[np.float32], words: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """Cosine of each image with each class, scaled; 0 for a vector without direction.

    Args:
        x: image vectors, (n, dim).
        words: class vectors of length one, (c, dim).
        scale: the temperature.

    Returns:
        (n, c) float64.
    """
    return scale * (_normalised(x) @ words.T)


def probabilities(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Softmax over classes, (n, c) float64."""
    power = np.exp(logit - logit.max(axis=1, keepdims=True))
    return np.asarray(power / power.sum(axis=1, keepdims=True), np.float64)


def _normalised(x: NDArray[np.float32] | NDArray[np.float64]) -> NDArray[np.float64]:
    wide = x.astype(np.float64)
    length = np.linalg.norm(wide, axis=1, keepdims=True)
    # A vector of zeros points nowhere and stays: its cosine with every class is 0.
    return np.asarray(wide / np.where(length > 0, length, 1), np.float64)


def _predictions(
    plan: ZeroShotPlan, words: NDArray[np.float64], scale: float
) -> Iterator[Predictions]:
    """The training cohort's rows under the fold that tests them, the external ones' under all."""
    prepared = plan.prepared
    fold = prepared.folds.fold[:, 0]
    tested = fold != REFIT
    yield _predict(plan, words, scale, prepared.train, tested, [fold[tested]])
    models = (*range(int(fold.max()) + 1), REFIT)
    for judged in prepared.external:
        every = np.ones(len(judged.row), np.bool_)
        folds = [np.full(len(judged.row), model, np.int8) for model in models]
        yield _predict(plan, words, scale, judged, every, folds)


def _predict(
    plan: ZeroShotPlan,
    words: NDArray[np.float64],
    scale: float,
    judged: Judged,
    which: NDArray[np.bool_],
    folds: list[NDArray[np.int8]],
) -> Predictions:
    """Predict some of a cohort's judged images, once for each of `folds`, (k,) int8 each."""
    x = plan.store.features(plan.features.id, judged.row[which])
    probability = probabilities(logits(x, words, scale))
    settings = {"logit_scale": scale, "prompts": float(len(plan.prompt))}
    times = len(folds)
    return Predictions(
        maker=made_by(plan.features, encoder=plan.encoder, arm=ARM, settings=settings),
        cohort=judged.name,
        classes=plan.prepared.record.classes,
        image=np.tile(judged.image[which], (times, 1)),
        label=np.tile(judged.label[which], times),
        cluster=np.tile(judged.cluster[which], times),
        predicted=np.tile(probability.argmax(axis=1).astype(np.int16), times),
        probability=np.tile(probability, (times, 1)),
        fold=np.concatenate(folds),
        strata={name: np.tile(values[which], times) for name, values in judged.strata.items()},
    )


def _known_classes(store: FeatureStore, protocol: Protocol) -> Iterator[str]:
    for name in (protocol.train, *protocol.external):
        yield from merge_classes(store.cohort(name).classes, protocol.merges)[0]
